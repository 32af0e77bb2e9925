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

  aws = {
    region              = "us-west-2"
    allowed_account_ids = ["123456789012"] # nothing happens with credentials of another account
  }

  qemu = {
    accelerator = "auto" # KVM where it works, software emulation elsewhere
  }
}
