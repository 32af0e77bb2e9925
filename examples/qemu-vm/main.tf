# A VM with user data, a port on loopback, and helpers for ssh and Ansible.
terraform {
  required_providers {
    sindri = {
      source = "sindri/sindri"
    }
  }
}

variable "suite" {
  description = "The Debian or Ubuntu suite. By default packages come from this machine's own APT sources, so take a suite that they have."
  type        = string
  default     = "bookworm"
}

variable "cpus" {
  description = "Virtual processors of the guest. One is quicker where the guest is emulated on a busy machine."
  type        = number
  default     = 2
}

variable "web_port" {
  description = "The port on this machine that leads to the VM's web server."
  type        = number
  default     = 8080
}

variable "power_state" {
  description = "running or stopped; changes in place."
  type        = string
  default     = "running"
}

resource "sindri_image" "web" {
  name_prefix = "web"

  qemu = {
    base         = { bootstrap = { suite = var.suite, packages = ["python3"] } }
    disk_size_gb = 4
  }

  provision = [
    {
      upload = {
        source      = "${path.module}/web.service"
        destination = "/etc/systemd/system/web.service"
      }
    },
    { inline = ["mkdir -p /srv/web", "echo 'served by Sindri' > /srv/web/index.html", "systemctl enable web.service"] },
  ]

  lifecycle {
    create_before_destroy = true
  }
}

resource "sindri_vm" "web" {
  name        = "web"
  image_id    = sindri_image.web.image_id
  power_state = var.power_state
  user_data   = file("${path.module}/cloud-init.yaml")
  wait_for    = "cloud-init"
  tags        = { role = "web" }

  qemu = {
    cpus      = var.cpus
    memory_mb = 1024
    ports     = { web = { guest = 80, host = var.web_port } }
  }
}

output "url" {
  value = "http://127.0.0.1:${var.web_port}/"
}

output "ssh_config" {
  value = provider::sindri::ssh_config(sindri_vm.web)
}

output "ansible_inventory" {
  value = provider::sindri::ansible_inventory([sindri_vm.web])
}
