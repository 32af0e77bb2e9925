# An image made from another: a disk file of yours, or one from the web with its checksum.
terraform {
  required_providers {
    sindri = {
      source = "sindri/sindri"
    }
  }
}

variable "base" {
  description = "The path or the URL of a qcow2, raw or vmdk disk."
  type        = string
}

variable "sha256" {
  description = "The disk's SHA-256; required with a URL."
  type        = string
  default     = null
}

resource "sindri_image" "derived" {
  name_prefix = "derived"

  qemu = {
    base = { image = var.base, sha256 = var.sha256 }
  }

  lifecycle {
    create_before_destroy = true
  }
}
