# An image built on this machine, and a VM that runs it. `make quickstart` applies this.
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

variable "arch" {
  description = "x86_64 or arm64: what this computer is."
  type        = string
  default     = "x86_64"
}

resource "sindri_image" "quickstart" {
  name_prefix = "quickstart"
  description = "A first image"

  qemu = {
    arch         = var.arch
    base         = { bootstrap = { suite = var.suite } }
    disk_size_gb = 4
  }

  # Steps run as root, in order. Change one and apply again: only it and the disk are made anew.
  provision = [
    {
      upload = {
        source      = "${path.module}/hello.sh"
        destination = "/usr/local/bin/hello-sindri"
        mode        = "0755"
      }
    },
    { inline = ["date --utc +%FT%TZ > /etc/sindri-quickstart"] },
  ]

  # A failing build must not cost the image that works.
  lifecycle {
    create_before_destroy = true
  }
}

resource "sindri_vm" "quickstart" {
  name     = "quickstart"
  image_id = sindri_image.quickstart.image_id

  qemu = {
    arch      = var.arch
    cpus      = 2
    memory_mb = 1024
  }
}

output "ssh_command" {
  description = "Logs in to the VM."
  value       = sindri_vm.quickstart.ssh_command
}

output "image_path" {
  description = "The image's disk file."
  value       = sindri_image.quickstart.path
}

output "console_log_path" {
  description = "What the VM prints on its console."
  value       = sindri_vm.quickstart.console_log_path
}
