# An image with secrets wherever it takes them, whose last step shows them in every form and fails.
terraform {
  required_providers {
    sindri = {
      source = "sindri/sindri"
    }
  }
}

variable "suite" { type = string }

variable "secrets" {
  description = "Of all steps and of one."
  type        = list(string)
  ephemeral   = true
}

resource "sindri_image" "it" {
  name_prefix = "it"

  qemu = {
    base         = { bootstrap = { suite = var.suite } }
    disk_size_gb = 4
    compress     = false
  }

  environment_wo         = { OF_ALL = var.secrets[0] }
  environment_wo_version = 1

  provision = [
    { upload = { source = "${path.module}/forms.py", destination = "/srv/forms.py" } },
    {
      inline = [
        "for secret in \"$OF_ALL\" \"$OF_ONE\"; do SECRET=$secret python3 /srv/forms.py; done",
        "bash -xc ': \"$OF_ALL\" \"$OF_ONE\"'",
        "bash -c 'printf \"%q\\n\" \"$OF_ALL\" \"$OF_ONE\"'",
        "exit 3",
      ]
      environment_wo         = { OF_ONE = var.secrets[1] }
      environment_wo_version = 1
    },
  ]
}
