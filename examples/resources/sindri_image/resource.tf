# Debian 12 with git and a setup script, built on this machine: no cloud, no Packer, no KVM needed.
resource "sindri_image" "dev" {
  name_prefix = "dev"

  qemu = {
    base = { bootstrap = { suite = "bookworm" } }
  }

  provision = [
    { inline = ["apt-get install -y --no-install-recommends git"] },
    { script = "${path.module}/setup.sh" },
  ]

  verify = [
    { name = "git runs", command = "git --version" },
  ]

  # A failing build must not cost the image that works.
  lifecycle {
    create_before_destroy = true
  }
}
