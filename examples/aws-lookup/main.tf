# The newest promoted AMI of one's own account, and a check that AWS lets one work.
terraform {
  required_providers {
    sindri = {
      source = "sindri/sindri"
    }
  }
}

variable "region" {
  description = "Where to look. An AMI is of one region."
  type        = string
  default     = "us-west-2"
}

provider "sindri" {
  aws = { region = var.region }
}

data "sindri_image" "production" {
  cloud   = "aws"
  channel = "production"
}

data "sindri_images" "all" {
  cloud = "aws"
}

data "sindri_prerequisites" "aws" {
  cloud = "aws"
}

check "aws" {
  assert {
    condition     = data.sindri_prerequisites.aws.satisfied
    error_message = join("\n", [for one in data.sindri_prerequisites.aws.prerequisites : "${one.name}: ${one.hint}" if one.state != "ok"])
  }
}

output "promoted" {
  value = data.sindri_image.production.image_id
}

output "names" {
  value = data.sindri_images.all.images[*].image_name
}
