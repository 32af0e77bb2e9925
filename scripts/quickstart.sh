#!/bin/sh
# `make quickstart` and `make quickstart-destroy`: an image and a VM from it, on this machine.
#
#   scripts/quickstart.sh apply | destroy
#
# State and settings stay in examples/quickstart; nothing of the user's own OpenTofu or Terraform
# configuration is touched.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
example=$root/examples/quickstart
work=$example/.work
data=${XDG_DATA_HOME:-$HOME/.local/share}/sindri
output=$work/output.log
# cargo takes a relative one from where it runs.
case ${CARGO_TARGET_DIR:-target} in
    /*) target=$CARGO_TARGET_DIR ;;
    *) target=$root/${CARGO_TARGET_DIR:-target} ;;
esac

# The suites of which this machine, if it has one of them, can make the image; the provider knows the same
# (provider/src/backends/qemu/image/distribution.rs).
suites="bookworm trixie forky duke sid noble plucky questing resolute"

# The machine's own package sources have the machine's own suite; of a derivative, that of what it derives from.
find_suite() {
    suite=
    for name in UBUNTU_CODENAME DEBIAN_CODENAME VERSION_CODENAME; do
        if [ -z "$suite" ]; then suite=$(sed -n "s/^$name=//p" /etc/os-release | tr -d '"'); fi
    done
    case " $suites " in
        *" ${suite:-none} "*) return ;;
    esac
    cat >&2 <<END
The quickstart makes an image of this machine's own distribution, and ${suite:-this one} is none that Sindri can make:
Debian 12 (bookworm) and Ubuntu 24.04 (noble) are the oldest, whose systemd-boot follows kernel upgrades. Elsewhere,
write a configuration of your own, with a suite and a \`mirror\`; see docs/resources/image.md.
END
    exit 1
}

# The architecture in the words of the configuration; install.sh refuses others.
find_arch() {
    case $(uname -m) in
        aarch64) arch=arm64 ;;
        *) arch=x86_64 ;;
    esac
}

# The program that made the state goes on with it, whatever is put on PATH later.
choose_cli() {
    mkdir -p "$work"
    if [ ! -x "$work/cli" ]; then
        cli=$(command -v tofu || command -v terraform || "$root/scripts/tools.sh" tofu)
        # Not a link: snap and its like look at the name by which they are called.
        printf '#!/bin/sh\nexec "%s" "$@"\n' "$cli" >"$work/cli"
        chmod +x "$work/cli"
        echo "$cli" >"$work/cli-name"
    fi
}

configure() {
    cat > "$work/cli.tfrc" <<END
provider_installation {
  dev_overrides {
    "sindri/sindri" = "$target/release"
  }
  direct {}
}
END
    export TF_CLI_CONFIG_FILE="$work/cli.tfrc" TF_IN_AUTOMATION=1 TF_INPUT=0 CHECKPOINT_DISABLE=1
    find_arch
    export TF_VAR_suite="$suite" TF_VAR_arch="$arch"
}

cli() {
    "$work/cli" -chdir="$example" "$@"
}

# show_progress: the newest line of the build's log, until killed. In a terminal it stays on one line.
show_progress() {
    last=
    while sleep 0.5; do
        line=$(tail -q -n 1 "$data"/logs/latest-quickstart*.log 2>/dev/null | tail -n 1 | tr -d '\r' || true)
        # The host's own words go into its file.
        if grep -q '^Interrupt received' "$output" 2>/dev/null; then line='Stopping: the build is being cleaned up…'; fi
        if [ "$line" = "$last" ]; then continue; fi
        last=$line
        if [ -t 1 ]; then
            printf '\r\033[K  %.*s' "$(($(tput cols 2>/dev/null || echo 80) - 3))" "$line"
        else
            printf '  %s\n' "$line"
            sleep 5
        fi
    done
}

# with_progress COMMAND…: the command runs in front, so that Ctrl-C reaches it as it should.
with_progress() {
    mkdir -p "$data/logs"
    rm -f "$data"/logs/latest-quickstart*.log
    show_progress &
    progress=$!
    trap 'kill "$progress" 2>/dev/null || true' EXIT
    # Runs when the command has ended: how it did is in its file.
    trap 'echo; cat "$output" >&2; exit 130' INT
    status=0
    "$@" >"$output" 2>&1 || status=$?
    kill "$progress" 2>/dev/null || true
    wait "$progress" 2>/dev/null || true
    trap - EXIT INT
    if [ -t 1 ]; then printf '\r\033[K'; fi
    if [ "$status" != 0 ]; then
        cat "$output" >&2
        exit "$status"
    fi
}

build() {
    echo "Building the provider…"
    (cd "$root" && cargo build --release --package terraform-provider-sindri)
}

apply() {
    # Nothing is installed in vain; where nothing can be, all that is missing is told first.
    if command -v apt-get >/dev/null 2>&1; then find_suite; fi
    "$root/scripts/install.sh" quickstart
    find_suite
    build
    choose_cli
    configure
    echo "Applying examples/quickstart with $(cat "$work/cli-name")…"
    with_progress cli apply -auto-approve -no-color
    grep -E '^(Apply complete|No changes)' "$output" || true

    ssh_command=$(cli output -raw ssh_command)
    echo
    echo "In the guest, hello-sindri, which a provisioning step put there, says:"
    echo
    # The command is made for a shell: it is what the user is told to type.
    sh -c "$ssh_command hello-sindri" | sed 's/^/  /'
    cat <<END

Log in:          $ssh_command
Configuration:   $example
Image:           $(cli output -raw image_path)
Console log:     $(cli output -raw console_log_path)
Build logs:      $data/logs
Plan again:      TF_CLI_CONFIG_FILE=$work/cli.tfrc TF_VAR_suite=$TF_VAR_suite TF_VAR_arch=$TF_VAR_arch $work/cli -chdir=$example plan
Destroy:         make quickstart-destroy
END
}

destroy() {
    if [ ! -e "$example/terraform.tfstate" ]; then
        echo "There is nothing to destroy: examples/quickstart was not applied."
        return
    fi
    # Destroy makes nothing: any will do.
    suite=bookworm
    build
    choose_cli
    configure
    cli destroy -auto-approve -no-color
    echo
    echo "Image and VM are gone. Kept for the next image: the bootstrapped system in ${XDG_CACHE_HOME:-$HOME/.cache}/sindri."
    echo "Kept for a look: logs in $data/logs."
}

case ${1:-} in
    apply) apply ;;
    destroy) destroy ;;
    *) echo "usage: scripts/quickstart.sh apply|destroy" >&2; exit 2 ;;
esac
