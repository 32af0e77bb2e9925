# A VM whose settings a scenario can turn, on an image as plain as possible.
terraform {
  required_providers {
    sindri = {
      source = "sindri/sindri"
    }
  }
}

variable "suite" { type = string }
variable "power_state" { default = "running" }
variable "wait_for" { default = "ssh" }
variable "memory_mb" { default = 1024 }
variable "disk_size_gb" { default = null }
variable "user_data" { default = null }
variable "user_data_wo_version" { default = null }
variable "user_data_replace_on_change" { default = false }

variable "user_data_wo" {
  type      = string
  default   = null
  ephemeral = true
}

variable "tags" {
  type    = map(string)
  default = {}
}

variable "ports" {
  type    = map(object({ guest = number, host = number }))
  default = {}
}

variable "ssh" {
  type = object({
    username         = optional(string)
    public_key       = optional(string)
    private_key_path = optional(string)
  })
  default = null
}

variable "create_timeout" { default = "10m" }

resource "sindri_image" "it" {
  name_prefix = "it"

  qemu = {
    base         = { bootstrap = { suite = var.suite } }
    disk_size_gb = 4
    compress     = false
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "sindri_vm" "it" {
  name                        = "it"
  image_id                    = sindri_image.it.image_id
  power_state                 = var.power_state
  wait_for                    = var.wait_for
  user_data                   = var.user_data
  user_data_wo                = var.user_data_wo
  user_data_wo_version        = var.user_data_wo_version
  user_data_replace_on_change = var.user_data_replace_on_change
  tags                        = var.tags
  ssh                         = var.ssh

  qemu = {
    # Emulated, two processors wait for each other more than they do.
    cpus         = 1
    memory_mb    = var.memory_mb
    disk_size_gb = var.disk_size_gb
    ports        = var.ports
  }

  timeouts = { create = var.create_timeout }
}
