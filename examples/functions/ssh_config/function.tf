# `tofu output -raw ssh_config >ssh_config && ssh -F ssh_config dev`
output "ssh_config" {
  value = provider::sindri::ssh_config(sindri_vm.dev)
}
