# The smallest image: a distribution's base system, as a qcow2 that boots on any UEFI machine.
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

resource "sindri_image" "base" {
  name_prefix = "base"

  qemu = {
    base = { bootstrap = { suite = var.suite } }
  }

  lifecycle {
    create_before_destroy = true
  }
}

output "path" {
  value = sindri_image.base.path
}
