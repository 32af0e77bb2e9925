# A VM on EC2 from any AMI, reachable over SSH from given networks only.
terraform {
  required_providers {
    sindri = {
      source = "sindri/sindri"
    }
  }
}

provider "sindri" {
  default_tags = { project = "sindri-example" }
  aws          = { region = var.region }
}

variable "region" {
  description = "Where the VM runs. An AMI is of one region."
  type        = string
  default     = "us-west-2"
}

variable "image_id" {
  description = "The AMI to start from, such as the `image_id` of a data source `sindri_image`."
  type        = string
}

variable "allowed_cidrs" {
  description = "Networks that may reach SSH: this computer's public address with /32."
  type        = list(string)
}

variable "power_state" {
  description = "running or stopped; changes in place. A stopped VM costs its volume only."
  type        = string
  default     = "running"
}

variable "wait_for" {
  description = "ssh, cloud-init or none."
  type        = string
  default     = "ssh"
}

resource "sindri_vm" "web" {
  name        = "web"
  image_id    = var.image_id
  power_state = var.power_state
  wait_for    = var.wait_for
  user_data   = file("${path.module}/cloud-init.yaml")
  ssh         = { username = "ubuntu" }
  tags        = { role = "web" }

  aws = {
    instance_type            = "t3.micro"
    allowed_cidrs            = var.allowed_cidrs
    associate_public_address = true
    root_volume              = { size_gb = 20, volume_type = "gp3", encrypted = true }
  }
}

output "ssh_command" {
  value = sindri_vm.web.ssh_command
}
