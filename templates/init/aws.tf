# An AMI with nginx, as `terraform-provider-sindri init aws` prints it. Works as it stands: `tofu plan`, after `tofu init`
# where the provider comes from a registry and not from a development override.
# All options: https://github.com/sindri/terraform-provider-sindri/blob/main/docs/resources/image.md
terraform {
  required_providers {
    sindri = {
      source = "sindri/sindri"
    }
  }
}

# Credentials come from where the AWS tools take them: AWS_PROFILE, AWS_ACCESS_KEY_ID, SSO, roles.
provider "sindri" {
  # Tags of all that is made.
  default_tags = { project = var.name_prefix }

  aws = {
    region = var.region
    # Stops everything when the credentials are of another account.
    # allowed_account_ids = ["123456789012"]
  }
}

# https://docs.aws.amazon.com/global-infrastructure/latest/regions/aws-regions.html
variable "region" {
  description = "Where the image is built and stays."
  type        = string
  default     = "us-west-2"
}

variable "name_prefix" {
  description = "What the image's name begins with."
  type        = string
  default     = "web"
}

variable "environment" {
  description = "The channel that the image is promoted to; the data source sindri_image finds it by that."
  type        = string
  default     = "development"
}

variable "allowed_cidrs" {
  description = "Networks that may reach SSH, such as [\"203.0.113.7/32\"]. A build asks checkip.amazonaws.com for this computer's own when it is null."
  type        = list(string)
  default     = null
}

# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-types.html
variable "instance_type" {
  description = "The builder's size. A change builds nothing anew."
  type        = string
  default     = "t3.large"
}

variable "ami_regions" {
  description = "Regions that get a copy. Changes in place."
  type        = set(string)
  default     = []
}

resource "sindri_image" "this" {
  name_prefix = var.name_prefix
  description = "Ubuntu 24.04 with nginx"
  channels    = [var.environment]
  tags        = { role = var.name_prefix }

  # Older images are planned to be built anew, for the distribution's updates.
  # max_age = "720h"

  # What is done in the image, in order; `script`, `upload` and `reboot` are other kinds of steps.
  provision = [
    { inline = ["apt-get update", "apt-get install -y --no-install-recommends nginx"] },
  ]

  # Secrets of the steps are in no plan, state, log or image; raise the version to build with new ones.
  # environment_wo         = { TOKEN = var.token }
  # environment_wo_version = 1

  # What must hold before an image is made of the builder.
  verify = [
    { name = "nginx is configured", command = "nginx -t" },
  ]

  # What nobody should find in an image: logs, histories, instance data, and host keys that all machines would share.
  security = {
    clean_sensitive_data = true
    remove_ssh_host_keys = true
  }

  aws = {
    # Canonical's newest Ubuntu 24.04 unless one of these is set.
    # source_image  = "ami-0123456789abcdef0"
    # source_filter = { name = "debian-13-amd64-*", owners = ["136693071363"] }
    # ssh_username  = "admin" # Debian's first user

    # "arm64" needs an instance type such as t4g.large.
    arch = "x86_64"

    # https://docs.aws.amazon.com/ebs/latest/userguide/ebs-volume-types.html
    volume_size_gb = 20
    volume_type    = "gp3"

    # With the account's default key, or with your own. https://docs.aws.amazon.com/ebs/latest/userguide/ebs-encryption.html
    encrypt_boot = true
    # kms_key_id = "alias/images"

    # Instance metadata by session tokens only.
    # https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html
    imdsv2 = "required"

    # Has `verify` run in a machine that is launched from the finished image, before anybody finds it.
    # verify_boot = true

    # The builder, and who may reach it while it works.
    instance_type = var.instance_type
    allowed_cidrs = var.allowed_cidrs
    # spot      = true # cheaper, and AWS may take it away during a build
    # subnet_id = "subnet-0123456789abcdef0"

    # Without a public address: by a private one, or by AWS Systems Manager.
    # ssh_interface        = "session_manager"
    # iam_instance_profile = "images" # a role with AmazonSSMManagedInstanceCore

    # Copies in other regions.
    ami_regions = var.ami_regions

    # Others see it for 90 days; it launches machines after that, too.
    # https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ami-deprecate.html
    deprecate_after = "2160h"

    # Who else may launch machines from it. An encrypted image needs `kms_key_id`, and a key policy that lets them use it.
    # https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/sharing-amis.html
    # share = { account_ids = ["123456789012"] }
  }

  # A failing build must not cost the image that works.
  lifecycle {
    create_before_destroy = true
  }
}

# A machine from the image; set `allowed_cidrs`, or nobody reaches it.
# resource "sindri_vm" "this" {
#   name     = var.name_prefix
#   image_id = sindri_image.this.image_id
#   ssh      = { username = "ubuntu" }
#
#   aws = {
#     instance_type            = "t3.micro"
#     allowed_cidrs            = var.allowed_cidrs
#     associate_public_address = true
#     imdsv2                   = "required"
#     root_volume              = { encrypted = true }
#   }
# }
#
# output "ssh_command" {
#   value = sindri_vm.this.ssh_command
# }

output "image_id" {
  description = "The AMI in its own region."
  value       = sindri_image.this.image_id
}

output "artifacts" {
  description = "What there is of the image, by region."
  value       = sindri_image.this.artifacts
}
