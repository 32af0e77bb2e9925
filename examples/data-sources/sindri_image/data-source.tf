# The newest image that was promoted to production.
data "sindri_image" "production" {
  cloud   = "qemu"
  channel = "production"
}

resource "sindri_vm" "web" {
  name     = "web"
  image_id = data.sindri_image.production.image_id
  qemu     = {}
}
