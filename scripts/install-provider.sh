#!/bin/sh
# Copies the release build to the user's plugin folder and prints the CLI configuration that makes
# OpenTofu and Terraform use it. Changes no configuration file.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
folder=${XDG_DATA_HOME:-$HOME/.local/share}/sindri/bin
install -D -m 0755 "${CARGO_TARGET_DIR:-$root/target}/release/terraform-provider-sindri" \
    "$folder/terraform-provider-sindri"
# Where it is set, both read that file alone.
# shellcheck disable=SC2088 # for a person to read
case ${TF_CLI_CONFIG_FILE:-} in
    '') files='~/.tofurc (OpenTofu) or ~/.terraformrc (Terraform)' ;;
    *) files="$TF_CLI_CONFIG_FILE, which TF_CLI_CONFIG_FILE names" ;;
esac
cat <<END
Installed $folder/terraform-provider-sindri

To use it, put this into $files:

  provider_installation {
    dev_overrides {
      "sindri/sindri" = "$folder"
    }
    direct {}
  }
END
