# `ssh -F ssh_config dev`
resource "local_file" "ssh_config" {
  filename = "${path.module}/ssh_config"
  content  = provider::sindri::ssh_config(sindri_vm.dev)
}
