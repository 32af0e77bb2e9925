# Every kind of step, and checks on the finished image: it is booted on a throw-away overlay, and is
# published only when all of them succeed.
terraform {
  required_providers {
    sindri = {
      source = "sindri/sindri"
    }
  }
}

variable "suite" {
  description = "The Debian or Ubuntu suite. By default packages come from this machine's own APT sources, so take a suite that they have."
  type        = string
  default     = "bookworm"
}

variable "token" {
  description = "A secret that a step needs. It reaches neither the state nor the image."
  type        = string
  sensitive   = true
  ephemeral   = true
  default     = "an example's token"
}

resource "sindri_image" "steps" {
  name_prefix = "steps"
  environment = { GREETING = "hello" }

  qemu = {
    base = { bootstrap = { suite = var.suite, packages = ["less"] } }
  }

  provision = [
    { inline = ["echo \"$GREETING from a step\" > /etc/inline", "echo \"as $(id -un)\" >> /etc/inline", "install -o games /dev/null /etc/by-user"] },
    { inline = ["id -un > /etc/by-user"], user = "games" },
    { script = "${path.module}/setup.sh", environment = { GREETING = "good morning" } },
    { content = "#!/bin/sh\necho content > /etc/content\n" },
    {
      upload = {
        source      = "${path.module}/files"
        destination = "/etc/uploaded"
        owner       = "root:root"
      }
    },
    {
      inline                 = ["printf %s \"$TOKEN\" | sha256sum | cut -d ' ' -f 1 > /etc/token-sum"]
      environment_wo         = { TOKEN = var.token }
      environment_wo_version = 1
    },
  ]

  verify = [
    { name = "the inline step ran as root", command = "grep -qx 'hello from a step' /etc/inline && grep -qx 'as root' /etc/inline" },
    { name = "a step ran as another user", command = "grep -qx games /etc/by-user" },
    { name = "a step's environment wins", command = "grep -qx 'good morning from a script' /etc/script" },
    { name = "the content step ran", command = "grep -qx content /etc/content" },
    { name = "the folder is uploaded", command = "test -s /etc/uploaded/one.conf && test -s /etc/uploaded/more/two.conf" },
    { name = "the package is there", command = "command -v less" },
    { name = "the secret arrived", command = "grep -qx '${sha256("an example's token")}' /etc/token-sum" },
    { name = "the machine has an id of its own", command = "test $(wc -c < /etc/machine-id) -eq 33" },
  ]

  lifecycle {
    create_before_destroy = true
  }
}
