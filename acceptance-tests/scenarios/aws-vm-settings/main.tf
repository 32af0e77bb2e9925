# A VM on EC2 whose settings a scenario can turn.
terraform {
  required_providers {
    sindri = {
      source = "sindri/sindri"
    }
  }
}

variable "provider_aws" {
  type = object({
    region              = optional(string)
    profile             = optional(string)
    allowed_account_ids = optional(list(string))
    endpoint_url        = optional(string)
    assume_role         = optional(object({ role_arn = string }))
  })
  default = {}
}
variable "default_tags" {
  type    = map(string)
  default = {}
}
variable "image_id" { type = string }
variable "instances" { default = 1 }
variable "power_state" { default = "running" }
variable "wait_for" { default = "none" }
variable "user_data" { default = null }
variable "user_data_replace_on_change" { default = false }
variable "create_timeout" { default = "5m" }
variable "tags" {
  type    = map(string)
  default = {}
}
variable "ssh" {
  type = object({
    username         = optional(string)
    public_key       = optional(string)
    private_key_path = optional(string)
    host             = optional(string)
    port             = optional(number)
  })
  default = null
}
variable "aws" {
  type = object({
    region                   = optional(string)
    instance_type            = optional(string, "t3.micro")
    subnet_id                = optional(string)
    security_group_ids       = optional(list(string))
    allowed_cidrs            = optional(list(string))
    associate_public_address = optional(bool)
    spot                     = optional(bool)
    imdsv2                   = optional(string)
    iam_instance_profile     = optional(string)
    root_volume              = optional(object({ size_gb = number }))
  })
  default = {}
}

provider "sindri" {
  default_tags = var.default_tags
  aws          = var.provider_aws
}

resource "sindri_vm" "it" {
  count                       = var.instances
  name                        = "it-${count.index}"
  image_id                    = var.image_id
  power_state                 = var.power_state
  wait_for                    = var.wait_for
  user_data                   = var.user_data
  user_data_replace_on_change = var.user_data_replace_on_change
  tags                        = var.tags
  ssh                         = var.ssh
  aws                         = var.aws
  timeouts                    = { create = var.create_timeout }
}
