# An AMI from Canonical's Ubuntu 24.04 with nginx, copied to other regions, shared with other accounts, aged after 90 days.
# Where an identical image exists already, the plan shows its id, and nothing is built.
terraform {
  required_providers {
    sindri = {
      source = "sindri/sindri"
    }
  }
}

provider "sindri" {
  default_tags = { project = "sindri-example" }
  aws          = { region = var.region }
}

variable "region" {
  description = "Where the image is built and stays."
  type        = string
  default     = "us-west-2"
}

variable "ami_regions" {
  description = "Regions that get a copy. Changes in place."
  type        = set(string)
  default     = []
}

variable "account_ids" {
  description = "Accounts that may launch machines from the image. Changes in place."
  type        = set(string)
  default     = []
}

resource "sindri_image" "web" {
  name_prefix = "web"
  description = "Ubuntu 24.04 with nginx"
  channels    = ["development"]
  tags        = { role = "web" }

  provision = [
    { inline = ["apt-get update", "apt-get install -y --no-install-recommends nginx"] },
  ]

  verify = [
    { name = "nginx is configured", command = "nginx -t" },
  ]

  aws = {
    instance_type   = "t3.large"
    volume_size_gb  = 20
    encrypt_boot    = false # others could not use the account's default key
    ami_regions     = var.ami_regions
    share           = { account_ids = var.account_ids }
    deprecate_after = "2160h"
  }

  # A failing build must not cost the image that works.
  lifecycle {
    create_before_destroy = true
  }
}

output "image_id" {
  value = sindri_image.web.image_id
}

output "artifacts" {
  description = "What there is of the image, by region."
  value       = sindri_image.web.artifacts
}
