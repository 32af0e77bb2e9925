# Steps in a booted guest: for what needs a running system, such as services or a reboot.
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

resource "sindri_image" "booted" {
  name_prefix = "booted"

  qemu = {
    base      = { bootstrap = { suite = var.suite } }
    boot      = true
    cpus      = var.cpus
    memory_mb = 1024
  }

  provision = [
    { inline = ["systemctl is-system-running --wait || true", "cat /proc/sys/kernel/random/boot_id > /etc/first-boot"] },
    { reboot = true },
    { inline = ["! grep -qx \"$(cat /proc/sys/kernel/random/boot_id)\" /etc/first-boot", "touch /etc/rebooted"] },
  ]

  lifecycle {
    create_before_destroy = true
  }
}
