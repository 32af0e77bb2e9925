terraform {
  required_providers {
    sindri = {
      source = "sindri/sindri"
    }
  }
}

provider "sindri" {
  default_tags = {
    team = "platform"
  }

  qemu = {
    accelerator = "auto" # KVM where it works, software emulation elsewhere
  }
}
