# A Packer template of your own, built as it is. This one makes a file, so that it runs without a cloud.
terraform {
  required_providers {
    sindri = {
      source = "sindri/sindri"
    }
  }
}

variable "packer" {
  description = "Packer 1.6 or later: a path, or a name in PATH. By default PACKER_BIN, then packer."
  type        = string
  default     = null
}

variable "greeting" {
  description = "What the file says."
  type        = string
  default     = "Hello"
}

variable "token" {
  description = "A secret that a provisioner needs."
  type        = string
  default     = ""
  sensitive   = true
  ephemeral   = true
}

provider "sindri" {
  packer = {
    binary = var.packer
  }
}

resource "sindri_image" "greeting" {
  name_prefix = "greeting"

  packer = {
    template = "${path.module}/template"

    variables = {
      greeting = var.greeting
      # What is neither a string, a number nor a bool is written in JSON.
      names = jsonencode(["Brokkr", "Eitri"])
    }

    variables_wo         = { token = var.token }
    variables_wo_version = 1
  }

  # No create_before_destroy: the template writes to the same file each time, and two images cannot both have it.
}

output "artifacts" {
  value = sindri_image.greeting.packer_artifacts
}
