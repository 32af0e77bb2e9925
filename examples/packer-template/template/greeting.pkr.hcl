variable "greeting" {
  type = string
}

variable "names" {
  type = list(string)
}

variable "token" {
  type      = string
  default   = ""
  sensitive = true
}

source "file" "greeting" {
  content = "${var.greeting}, ${join(" and ", var.names)}!\n"
  target  = "out/greeting.txt"
}

build {
  sources = ["source.file.greeting"]

  provisioner "shell-local" {
    script           = "${path.root}/scripts/greet.sh"
    environment_vars = ["TOKEN=${var.token}"]
  }
}
