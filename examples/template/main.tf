# What would be built, before it is: for a review, for CI, or to take it elsewhere. Nothing is built, and no cloud is asked.
terraform {
  required_providers {
    sindri = {
      source = "sindri/sindri"
    }
  }
}

variable "packer" {
  description = "Packer 1.6.6 or later: a path, or a name in PATH. By default PACKER_BIN, then packer."
  type        = string
  default     = null
}

variable "packer_version" {
  description = "Set, the template is for that version, and no Packer is needed unless it is to validate."
  type        = string
  default     = null
}

variable "validate" {
  description = "Whether Packer is asked what it thinks of the templates."
  type        = bool
  default     = false
}

provider "sindri" {
  packer = {
    binary = var.packer
  }
}

# What the images have in common: a resource would say `provision = local.provision`, too.
locals {
  provision = [
    { upload = { source = "${path.module}/motd", destination = "/etc/motd" } },
    { inline = ["apt-get update", "apt-get install -y --no-install-recommends nginx"], timeout = "20m" },
    { inline = ["test -n \"$TOKEN\""], environment_wo_names = ["TOKEN"], environment_wo_version = 1 },
  ]
  verify = [{ name = "nginx is configured", command = "nginx -t" }]
}

data "sindri_template" "aws" {
  name_prefix    = "web"
  tags           = { role = "web" }
  aws            = { region = "us-west-2", volume_size_gb = 20 }
  provision      = local.provision
  verify         = local.verify
  packer_version = var.packer_version
  validate       = var.validate
}

data "sindri_template" "qemu" {
  name_prefix    = "web"
  qemu           = { engine = "packer", base = { bootstrap = { suite = "bookworm" } } }
  provision      = local.provision
  verify         = local.verify
  packer_version = var.packer_version
  validate       = var.validate
}

# Without Packer there is no template, and the same scripts.
data "sindri_template" "native" {
  name_prefix = "web"
  qemu        = { base = { bootstrap = { suite = "bookworm" } } }
  provision   = local.provision
  verify      = local.verify
}

output "hcl" {
  value = data.sindri_template.aws.hcl
}

output "variables" {
  value = jsondecode(data.sindri_template.aws.variables)
}

output "steps" {
  value = [for script in data.sindri_template.aws.scripts : "${script.belongs_to}: ${script.name}"]
}

output "cache_key" {
  description = "That of an image with this configuration: an image that has it already is used."
  value       = data.sindri_template.aws.cache_key
}
