# `ansible -i inventory.json all -m ping`
resource "local_file" "inventory" {
  filename = "${path.module}/inventory.json"
  content  = provider::sindri::ansible_inventory([sindri_vm.web, sindri_vm.database])
}
