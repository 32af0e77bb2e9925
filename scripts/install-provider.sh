#!/bin/sh
# Copies the release build to the user's plugin folder and prints the CLI configuration that makes
# OpenTofu and Terraform use it. Changes no configuration file.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
folder=${XDG_DATA_HOME:-$HOME/.local/share}/sindri/bin
install -D -m 0755 "${CARGO_TARGET_DIR:-$root/target}/release/terraform-provider-sindri" \
    "$folder/terraform-provider-sindri"
cat <<END
Installed $folder/terraform-provider-sindri

To use it, put this into ~/.tofurc (OpenTofu) or ~/.terraformrc (Terraform):

  provider_installation {
    dev_overrides {
      "sindri/sindri" = "$folder"
    }
    direct {}
  }
END
