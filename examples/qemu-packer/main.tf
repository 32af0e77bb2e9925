# Steps run by HashiCorp Packer: for those who have it anyway, and want its way of doing things.
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

variable "cpus" {
  description = "Virtual processors of the guest. One is quicker where the guest is emulated on a busy machine."
  type        = number
  default     = 2
}

variable "packer" {
  description = "Packer 1.6.6 or later: a path, or a name in PATH. By default PACKER_BIN, then packer."
  type        = string
  default     = null
}

variable "token" {
  description = "A secret that a step needs."
  type        = string
  default     = ""
  sensitive   = true
  ephemeral   = true
}

provider "sindri" {
  packer = {
    binary = var.packer
  }
}

resource "sindri_image" "packed" {
  name_prefix = "packed"

  qemu = {
    engine    = "packer"
    base      = { bootstrap = { suite = var.suite } }
    cpus      = var.cpus
    memory_mb = 1024
  }

  environment_wo         = { TOKEN = var.token }
  environment_wo_version = 1

  provision = [
    { upload = { source = "${path.module}/motd", destination = "/etc/motd" } },
    { inline = ["test -z \"$TOKEN\" || echo \"$TOKEN\" | wc -c > /etc/token-length", "cat /proc/sys/kernel/random/boot_id > /etc/first-boot"] },
    { reboot = true },
    { inline = ["! grep -qx \"$(cat /proc/sys/kernel/random/boot_id)\" /etc/first-boot", "touch /etc/rebooted"] },
  ]

  lifecycle {
    create_before_destroy = true
  }
}
