# All images of one name, the newest first.
data "sindri_images" "dev" {
  cloud       = "qemu"
  name_prefix = "dev"
}

output "megabytes" {
  value = { for image in data.sindri_images.dev.images : image.image_name => floor(image.size_bytes / 1000000) }
}
