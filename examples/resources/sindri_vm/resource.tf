resource "sindri_vm" "dev" {
  name      = "dev"
  image_id  = sindri_image.dev.image_id
  user_data = file("${path.module}/cloud-init.yaml")

  qemu = {
    cpus      = 2
    memory_mb = 2048
    ports     = { web = { guest = 80, host = 8080 } }
  }
}

output "ssh_command" {
  value = sindri_vm.dev.ssh_command
}
