# An image whose every setting a scenario can turn. Uncompressed: what is tested is not compression.
terraform {
  required_providers {
    sindri = {
      source = "sindri/sindri"
    }
  }
}

variable "suite" { type = string }

variable "base" {
  description = "A disk in place of a system with a step, for what has nothing to do with what is in an image."
  type        = string
  default     = null
}

variable "marker" {
  description = "Part of the content: another marker is another image."
  default     = "one"
}

variable "format" { default = "qcow2" }
variable "description" { default = null }
variable "cache" { default = true }
variable "max_age" { default = null }
variable "retain_on_destroy" { default = false }
variable "on_error" { default = "cleanup" }

variable "tags" {
  type    = map(string)
  default = {}
}

variable "channels" {
  type    = set(string)
  default = []
}

variable "triggers" {
  type    = map(string)
  default = {}
}

variable "seconds" {
  description = "How long the step takes at least: time to be interrupted in."
  default     = 0
}

variable "timeouts" {
  type    = object({ create = optional(string), update = optional(string), delete = optional(string) })
  default = null
}

variable "verify" {
  type    = list(object({ name = string, command = string }))
  default = []
}

resource "sindri_image" "it" {
  name_prefix       = "it"
  description       = var.description
  cache             = var.cache
  max_age           = var.max_age
  triggers          = var.triggers
  tags              = var.tags
  channels          = var.channels
  retain_on_destroy = var.retain_on_destroy
  on_error          = var.on_error
  timeouts          = var.timeouts

  qemu = {
    base         = { bootstrap = var.base == null ? { suite = var.suite } : null, image = var.base }
    boot         = false
    disk_size_gb = 4
    format       = var.format
    compress     = false
    cpus         = 1
  }

  provision = var.base != null ? [] : [
    { inline = ["echo ${var.marker} > /etc/marker", "sleep ${var.seconds}"] },
  ]

  verify = var.verify

  lifecycle {
    create_before_destroy = true
  }
}
