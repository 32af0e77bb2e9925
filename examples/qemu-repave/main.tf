# An image that is built again when it is a month old: the plan after that replaces it, the new one first.
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

variable "max_age" {
  description = "The greatest age of the image."
  type        = string
  default     = "720h"
}

resource "sindri_image" "fresh" {
  name_prefix = "fresh"
  max_age     = var.max_age

  qemu = {
    base = { bootstrap = { suite = var.suite } }
  }

  lifecycle {
    create_before_destroy = true
  }
}
