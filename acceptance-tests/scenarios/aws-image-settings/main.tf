# Images on EC2 whose settings a scenario can turn. They are there already: nothing is built.
terraform {
  required_providers {
    sindri = {
      source = "sindri/sindri"
    }
  }
}

variable "images" { default = 1 }
variable "marker" { default = "one" }
variable "default_tags" {
  type    = map(string)
  default = {}
}
variable "role" { default = null }
variable "description" { default = null }
variable "max_age" { default = null }
variable "retain_on_destroy" { default = false }
variable "tags" {
  type    = map(string)
  default = null
}
variable "channels" {
  type    = set(string)
  default = null
}
variable "timeouts" {
  type    = map(string)
  default = null
}
variable "aws" {
  type = object({
    region          = optional(string)
    instance_type   = optional(string)
    volume_size_gb  = optional(number)
    encrypt_boot    = optional(bool, false)
    ami_regions     = optional(set(string))
    deprecate_after = optional(string)

    ssh_keypair_name     = optional(string)
    ssh_private_key_path = optional(string)
    source_filter        = optional(object({ name = string, owners = set(string) }))
    share = optional(object({
      account_ids       = optional(set(string))
      organization_arns = optional(set(string))
      public            = optional(bool)
    }))
  })
  default = { encrypt_boot = false }
}

provider "sindri" {
  default_tags = var.default_tags
  aws          = var.role == null ? null : { assume_role = { role_arn = var.role } }
}

resource "sindri_image" "it" {
  count             = var.images
  name_prefix       = "it-${count.index}"
  description       = var.description
  tags              = var.tags
  channels          = var.channels
  max_age           = var.max_age
  retain_on_destroy = var.retain_on_destroy
  aws               = var.aws
  timeouts          = var.timeouts
  security          = { clean_sensitive_data = true, remove_ssh_host_keys = true }
  provision         = [{ inline = ["echo ${var.marker} > /etc/marker"] }]
}
