# What Packer would be given, validated by the Packer that is installed.
data "sindri_template" "web" {
  name_prefix          = "web"
  aws                  = { region = "us-west-2" }
  environment_wo_names = ["TOKEN"]
  provision            = [{ inline = ["apt-get update", "apt-get install -y nginx"] }]
  validate             = true
}

output "web_template" {
  value = data.sindri_template.web.hcl
}
