data "sindri_prerequisites" "here" {
  cloud = "qemu"
}

check "builds_images_here" {
  assert {
    condition = data.sindri_prerequisites.here.satisfied
    error_message = join("\n", [
      for one in data.sindri_prerequisites.here.prerequisites : "${one.name}: ${one.hint}" if one.state != "ok"
    ])
  }
}
