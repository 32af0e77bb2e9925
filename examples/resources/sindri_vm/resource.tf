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

# On EC2, from any AMI.
resource "sindri_vm" "cloud" {
  name     = "cloud"
  image_id = "ami-0123456789abcdef0"
  ssh      = { username = "ubuntu" }

  aws = {
    instance_type            = "t3.micro"
    allowed_cidrs            = ["203.0.113.7/32"]
    associate_public_address = true
  }
}
