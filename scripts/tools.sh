#!/bin/sh
# Finds a development tool, building it once if it is not there, and prints its path.
#
#   scripts/tools.sh tofu | packer | cargo-deny | peer | machine     build if need be, print the path
#   scripts/tools.sh packer-plugin-amazon                  the same; the folder beside it is for PACKER_PLUGIN_PATH
#   scripts/tools.sh moto                                  the same; a Python that has the EC2 emulator
#   scripts/tools.sh tests                                 all that tests need, those that are needed first, first
#   scripts/tools.sh where TOOL                            print where a built one would be
#
# Built tools live outside the checkout, in $XDG_CACHE_HOME/sindri-dev/NAME-VERSION/. A build
# happens in a folder beside it that is renamed when complete; a lock keeps runs from doing it twice.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
tools=$root/acceptance-tests/tools
schema=$root/provider/tests/snapshots/schema__the_schema_is_as_documented.snap
moto_requirements=$root/acceptance-tests/rig/moto/requirements.txt
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sindri-dev
cargo_deny_version=0.20.2

# module_version FOLDER MODULE: the version that the folder's go.mod requires.
module_version() {
    awk -v module="$2" '$1 == "require" && $2 == module { print $3; exit } $1 == module { print $2; exit }' \
        "$tools/$1/go.mod" | sed 's/^v//'
}

version() {
    case $1 in
        tofu) module_version opentofu github.com/opentofu/opentofu ;;
        packer) module_version packer github.com/hashicorp/packer ;;
        packer-plugin-amazon) module_version packer-plugin-amazon github.com/hashicorp/packer-plugin-amazon ;;
        peer) cat "$tools/peer"/*.go "$tools/peer/go.sum" "$schema" | sha256sum | cut -c 1-12 ;;
        machine) cat "$tools/machine"/*.go "$tools/machine/go.sum" | sha256sum | cut -c 1-12 ;;
        cargo-deny) echo "$cargo_deny_version" ;;
        # With a digest of all that is pinned beside it.
        moto) echo "$(sed -n 's/^moto\[.*\]==//p' "$moto_requirements")-$(
            sha256sum "$moto_requirements" | cut -c 1-8)" ;;
        *) echo "scripts/tools.sh: unknown tool '$1'" >&2; exit 2 ;;
    esac
}

# go_build FOLDER PACKAGE LDFLAGS OUT
go_build() {
    if ! command -v go >/dev/null 2>&1; then
        echo "$1 has to be built from source, and there is no go on PATH:" \
            "install Go 1.21 or newer, or put the tool itself on PATH" >&2
        exit 1
    fi
    go_in "$tools/$1" build -trimpath -ldflags "-s -w $3" -o "$4" "$2"
}

# go_in FOLDER ARGUMENTS: a distribution's Go may be set not to fetch the toolchain that go.mod asks for.
go_in() {
    folder_of_go=$1
    shift
    (cd "$folder_of_go" && CGO_ENABLED=0 GOTOOLCHAIN="${GOTOOLCHAIN:-auto}" GOFLAGS=-mod=readonly go "$@")
}

build() {
    case $1 in
        tofu) go_build opentofu github.com/opentofu/opentofu/cmd/tofu \
            "-X github.com/opentofu/opentofu/version.dev=no" "$2/tofu" ;;
        # The fork's hash is not in the checksum database; the go.sum beside go.mod pins it.
        packer) GONOSUMDB=github.com/toowoxx/packer go_build packer . "" "$2/packer" ;;
        # Laid out as `packer init` would.
        packer-plugin-amazon)
            plugin=$2/plugins/github.com/hashicorp/amazon/packer-plugin-amazon_v${version}_x5.0_linux_$(go env GOARCH)
            go_build packer-plugin-amazon github.com/hashicorp/packer-plugin-amazon "" "$plugin"
            sha256sum "$plugin" | cut -d " " -f 1 | tr -d "\n" >"${plugin}_SHA256SUM"
            ln -s "plugins/${plugin#"$2/plugins/"}" "$2/packer-plugin-amazon" ;;
        # With Sindri's own schema, of which it makes itself one.
        peer)
            cp -R "$tools/peer" "$2/source"
            go_in "$2/source" run generate.go <"$schema" >"$2/schema.go"
            mv "$2/schema.go" "$2/source"
            go_in "$2/source" build -trimpath -ldflags "-s -w" -o "$2/peer" .
            rm -rf "$2/source" ;;
        machine) go_build machine . "" "$2/machine" ;;
        # The environment finds itself by where its python lies, so it can be renamed with its folder.
        moto)
            python3 -m venv "$2/venv"
            "$2/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
                --requirement "$moto_requirements" >&2
            # shellcheck disable=SC2016 # for the program that is written
            printf '#!/bin/sh\nexec "$(dirname "$0")/venv/bin/python" "$@"\n' >"$2/moto"
            chmod +x "$2/moto" ;;
        # A check, run once per build: compiled for a short build, not for speed, and not checked by us.
        cargo-deny)
            unset RUSTC_WORKSPACE_WRAPPER
            CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off \
                CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_DEBUG=0 \
                cargo install --locked --quiet cargo-deny --version "$cargo_deny_version" \
                --target-dir "$2/target" --root "$2/root" >&2
            mv "$2/root/bin/cargo-deny" "$2/cargo-deny"
            rm -rf "$2/root" "$2/target" ;;
    esac
}

if [ "${1:-}" = where ]; then
    echo "$cache/$2-$(version "$2")/$2"
    exit
fi
if [ "${1:-}" = tests ]; then
    for tool in cargo-deny tofu moto packer packer-plugin-amazon machine; do "$0" "$tool"; done
    exit
fi
tool=${1:?"usage: scripts/tools.sh tofu|packer|packer-plugin-amazon|cargo-deny|peer|machine|moto, or tests, or where TOOL"}
version=$(version "$tool")
case $tool in
    # Only what a user would have installed is taken from PATH. A packer there may be of another
    # licence and version than the one that figures are compared with.
    tofu | cargo-deny) if command -v "$tool"; then exit; fi ;;
esac

folder=$cache/$tool-$version
if [ ! -x "$folder/$tool" ]; then
    mkdir -p "$cache"
    exec 9>"$cache/$tool.lock"
    flock --wait 1800 9 || { echo "scripts/tools.sh: somebody has held $cache/$tool.lock for half an hour" >&2; exit 1; }
fi
if [ ! -x "$folder/$tool" ]; then
    echo "Building $tool $version (once; kept in $folder)…" >&2
    scratch=$(mktemp -d "$cache/.$tool-XXXXXX")
    trap 'chmod -R u+w "$scratch" 2>/dev/null; rm -rf "$scratch"' EXIT
    build "$tool" "$scratch"
    rm -rf "$folder"
    mv -T "$scratch" "$folder"
    trap - EXIT
fi
echo "$folder/$tool"
