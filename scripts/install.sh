#!/bin/sh
# Installs from the distribution what a purpose needs and this machine lacks.
#
#   scripts/install.sh quickstart | test
#
# Nothing is installed when nothing is missing: apt is not even called. Packages are listed
# first, and the user is asked unless CI=true or we are root. On a system without apt the
# missing tools are named and the script fails.
set -eu

usage="usage: scripts/install.sh quickstart|test"
purpose=${1:?$usage}
case $purpose in quickstart | test) ;; *) echo "$usage" >&2; exit 2 ;; esac

root=$(cd "$(dirname "$0")/.." && pwd)
# Debian keeps mke2fs and its kin where an ordinary user's PATH does not look.
PATH=$PATH:/usr/sbin:/sbin
missing_packages=
missing_names=

# need WHAT PACKAGE PROBE…: WHAT is there when one of the PROBEs is a command on PATH or a file.
need() {
    what=$1 package=$2
    shift 2
    for probe; do
        if command -v "$probe" >/dev/null 2>&1 || [ -f "$probe" ]; then return; fi
    done
    missing_packages="$missing_packages $package"
    missing_names="$missing_names
  $what (Debian and Ubuntu: $package)"
}

# at_least HAVE WANT: compares dotted versions.
at_least() {
    [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]
}

need_virtualisation() {
    case $(uname -m) in
        x86_64)
            need "QEMU for x86_64" qemu-system-x86 qemu-system-x86_64
            need "UEFI firmware" ovmf /usr/share/OVMF/OVMF_CODE_4M.fd /usr/share/OVMF/OVMF_CODE.fd \
                /usr/share/edk2/x64/OVMF_CODE.4m.fd /usr/share/edk2/ovmf/OVMF_CODE.fd
            ;;
        aarch64)
            need "QEMU for arm64" qemu-system-arm qemu-system-aarch64
            need "UEFI firmware" qemu-efi-aarch64 /usr/share/AAVMF/AAVMF_CODE.fd \
                /usr/share/edk2/aarch64/QEMU_EFI.fd
            ;;
        *)
            echo "Sindri builds images on x86_64 and arm64; this machine is $(uname -m)." >&2
            exit 1
            ;;
    esac
    need "qemu-img" qemu-utils qemu-img
    need "mmdebstrap" mmdebstrap mmdebstrap
    need "newuidmap" uidmap newuidmap
    need "mke2fs" e2fsprogs mke2fs
    need "ssh" openssh-client ssh
}

# The quickstart's image is the host's own distribution, signed by its own archive key.
need_archive_key() {
    case $distribution in
        ubuntu) need "Ubuntu's archive key" ubuntu-keyring /usr/share/keyrings/ubuntu-archive-keyring.gpg ;;
        *) need "Debian's archive key" debian-archive-keyring /usr/share/keyrings/debian-archive-keyring.gpg \
            /usr/share/keyrings/debian-archive-keyring.pgp ;;
    esac
}

# Go is wanted only to build OpenTofu, when there is neither it nor Terraform. Go fetches a newer
# toolchain by itself since 1.21; before that it cannot, and the distribution's is of no use.
need_go_for_opentofu() {
    for cli in tofu terraform "$("$root/scripts/tools.sh" where tofu)"; do
        if command -v "$cli" >/dev/null 2>&1; then return; fi
    done
    have=$(go env GOVERSION 2>/dev/null | sed 's/^go//' || true)
    if [ -n "$have" ] && at_least "$have" 1.21; then return; fi
    candidate=$(apt-cache policy golang-go 2>/dev/null | sed -n 's/^ *Candidate: *\([0-9]*:\)\{0,1\}//p')
    case ${candidate:-none} in
        *none*) candidate=0 ;;
    esac
    if at_least "$candidate" 1.21; then
        missing_packages="$missing_packages golang-go"
        missing_names="$missing_names
  Go 1.21 or newer, to build OpenTofu (Debian and Ubuntu: golang-go)"
    else
        unobtainable="$unobtainable
  tofu or terraform, or Go 1.21 or newer to build OpenTofu from source: this distribution has no such
  Go. Install OpenTofu (https://opentofu.org/docs/intro/install) or Go (https://go.dev/doc/install)."
    fi
}

# A distribution's own cargo is too old as often as not; its rustup brings the one of today.
need_rust() {
    want=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml")
    have=$(cargo --version 2>/dev/null | cut -d ' ' -f 2 || true)
    if [ -n "$have" ] && at_least "$have" "$want"; then return; fi
    has_rustup_package=
    if apt-cache policy rustup 2>/dev/null | grep -q 'Candidate: [0-9]'; then has_rustup_package=yes; fi
    if command -v rustup >/dev/null 2>&1; then
        how="run: rustup default stable && rustup update stable"
    elif [ -z "$has_rustup_package" ]; then
        how="see https://rustup.rs"
    elif [ -n "$have" ]; then
        how="run: apt-get install rustup && rustup default stable"
    else
        missing_packages="$missing_packages rustup"
        missing_names="$missing_names
  cargo $want or newer, which rustup then fetches for you (Debian and Ubuntu: rustup)"
        by_rustup=yes
        return
    fi
    unobtainable="$unobtainable
  cargo $want or newer (here: ${have:-none}); $how"
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

refresh_lists() {
    if [ -z "$refreshed" ]; then as_root apt-get update -qq; fi
    refreshed=yes
}

install_missing() {
    if [ -z "$missing_packages" ]; then return; fi
    if ! command -v apt-get >/dev/null 2>&1; then
        unobtainable="$missing_names$unobtainable"
        return
    fi
    echo "To be installed from the distribution:$missing_names"
    if [ "$(id -u)" != 0 ]; then
        if ! command -v sudo >/dev/null 2>&1; then
            echo "Run as root: apt-get install --no-install-recommends$missing_packages" >&2
            exit 1
        fi
        if [ "${CI:-}" != true ]; then
            printf 'Install now with sudo? [Y/n] '
            if ! read -r answer; then
                printf '\nNobody is there to answer: set CI=true to have it installed without asking.\n' >&2
                exit 1
            fi
            case $answer in '' | [yY]*) ;; *) exit 1 ;; esac
        fi
    fi
    # shellcheck disable=SC2086 # a list of package names
    set -- $missing_packages
    refresh_lists
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -qq -y --no-install-recommends "$@"
}

distribution=$(sed -n 's/^ID="\{0,1\}\([a-z]*\).*/\1/p' /etc/os-release 2>/dev/null || true)
unobtainable=
refreshed=
by_rustup=
need "a C compiler" "gcc libc6-dev" cc gcc clang
need "certificates" ca-certificates /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt
need_virtualisation
need_archive_key
if [ "$purpose" = test ]; then
    need "shellcheck" shellcheck shellcheck
    need "git" git git
    need "curl" curl curl
    need "sgdisk" gdisk sgdisk
    need "mtype" mtools mtype
    # For the EC2 emulator. Debian splits Python's venv off, and tells by a module that is missing.
    need "Python 3" python3 python3
    if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then need "Python's venv" python3-venv; fi
    # One of the shells that a guest may have.
    need "busybox" busybox busybox
    # The oldest Packer that is driven; the newer one is built by scripts/tools.sh.
    need "Packer" packer packer
fi
install_missing

# A bare machine has no package lists before the first installation; what may be had is known only now.
missing_packages=
missing_names=
need_go_for_opentofu
need_rust
install_missing
# The toolchain is the user's own, root's or not.
if [ -n "$by_rustup" ] && command -v rustup >/dev/null 2>&1; then
    rustup default stable
    need_rust
fi
if [ -n "$unobtainable" ]; then
    echo "Missing, and to be installed by you:$unobtainable" >&2
    exit 1
fi
