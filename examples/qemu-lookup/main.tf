# Promotion: one configuration builds and promotes, another runs what is promoted.
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

variable "channels" {
  description = "What the image is promoted to; changes in place."
  type        = set(string)
  default     = ["production"]
}

resource "sindri_image" "app" {
  name_prefix = "app"
  channels    = var.channels
  tags        = { app = "demo" }

  qemu = {
    base = { bootstrap = { suite = var.suite } }
  }

  lifecycle {
    create_before_destroy = true
  }
}

# In a configuration of its own this needs no depends_on.
data "sindri_image" "production" {
  cloud      = "qemu"
  channel    = "production"
  depends_on = [sindri_image.app]
}

data "sindri_images" "all" {
  cloud      = "qemu"
  tags       = { app = "demo" }
  depends_on = [sindri_image.app]
}

data "sindri_prerequisites" "here" {
  cloud = "qemu"
}

check "builds_images_here" {
  assert {
    condition     = data.sindri_prerequisites.here.satisfied
    error_message = "Run terraform-provider-sindri doctor to see what is missing."
  }
}

output "promoted" {
  value = data.sindri_image.production.image_id
}

output "names" {
  value = [for image in data.sindri_images.all.images : image.image_name]
}
