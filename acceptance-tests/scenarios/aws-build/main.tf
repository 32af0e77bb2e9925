# An image on EC2 that Packer really builds: a guest of the scenario's own stands for all instances.
terraform {
  required_providers {
    sindri = {
      source = "sindri/sindri"
    }
  }
}

variable "source_image" { type = string }

variable "guest" {
  description = "How the guest behind the instances is reached."
  type        = object({ host = string, port = number, user = string, key = string, pair = string })
}

variable "marker" {
  description = "Part of the content: another marker is another image."
  type        = string
}

variable "command" {
  description = "What the step does at last."
  default     = "true"
}

variable "cache" { default = true }

resource "sindri_image" "it" {
  name_prefix = "it"
  cache       = var.cache

  aws = {
    source_image         = var.source_image
    encrypt_boot         = false
    allowed_cidrs        = ["203.0.113.7/32"]
    ssh_username         = var.guest.user
    ssh_host             = var.guest.host
    ssh_port             = var.guest.port
    ssh_keypair_name     = var.guest.pair
    ssh_private_key_path = var.guest.key
  }

  provision = [{ inline = ["echo ${var.marker} > /srv/marker", var.command] }]

  # The guest is needed again.
  security = { clean_sensitive_data = false, remove_ssh_host_keys = false }
}
