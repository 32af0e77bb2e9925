# `qemu/` and the `image_id`, as the data source `sindri_images` lists it.
terraform import sindri_image.dev qemu/0f1c5c3e-6d0b-4a52-9d6e-2f0f3c1f7a11

# On AWS: region and AMI id.
terraform import sindri_image.web aws/us-west-2/ami-0123456789abcdef0
