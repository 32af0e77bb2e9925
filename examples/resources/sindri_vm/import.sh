# `qemu/` and the `id`, which is the name of the VM's folder below `data_dir/vms`.
terraform import sindri_vm.dev qemu/5b1f7f5e-2f8e-4a04-8f5c-6a2d1b9e0c33

# On AWS: region and instance id.
terraform import sindri_vm.web aws/us-west-2/i-0123456789abcdef0
