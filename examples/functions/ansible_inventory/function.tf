# `tofu output -raw inventory >inventory.yaml && ansible -i inventory.yaml all -m ping`
output "inventory" {
  value = provider::sindri::ansible_inventory([sindri_vm.dev, sindri_vm.web])
}
