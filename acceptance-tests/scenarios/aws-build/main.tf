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

variable "secret" {
  description = "Of the step."
  type        = string
  default     = null
  ephemeral   = true
}

variable "cache" { default = true }
variable "on_error" { default = null }

variable "verify" {
  type    = list(object({ name = string, command = string }))
  default = null
}

variable "verify_boot" { default = null }
variable "ssh_bastion_host" { default = null }
variable "vpc_id" { default = null }
variable "ami_regions" { default = null }
variable "create_timeout" { default = null }
variable "public" { default = null }

variable "accounts" {
  description = "Who else may use it."
  type        = set(string)
  default     = null
}

variable "clean" {
  description = "Whether the image is cleaned: the guest is of no use afterwards."
  default     = false
}

resource "sindri_image" "it" {
  name_prefix = "it"
  cache       = var.cache
  on_error    = var.on_error

  aws = {
    source_image         = var.source_image
    encrypt_boot         = false
    allowed_cidrs        = ["203.0.113.7/32"]
    ssh_username         = var.guest.user
    ssh_host             = var.guest.host
    ssh_port             = var.guest.port
    ssh_keypair_name     = var.guest.pair
    ssh_private_key_path = var.guest.key
    ssh_bastion_host     = var.ssh_bastion_host
    vpc_id               = var.vpc_id
    ami_regions          = var.ami_regions
    verify_boot          = var.verify_boot
    share                = var.public == null && var.accounts == null ? null : { public = var.public, account_ids = var.accounts }
  }

  environment_wo         = var.secret == null ? null : { SECRET = var.secret }
  environment_wo_version = 1

  provision = [{ inline = ["echo ${var.marker} > /srv/marker", var.command] }]

  verify    = var.verify

  security = { clean_sensitive_data = var.clean, remove_ssh_host_keys = var.clean }

  timeouts = { create = var.create_timeout }
}
