#!/bin/sh
# Run outside the tree, in the namespace that sees it: a root file system from the tree in $1 into the disk $2 and
# the EFI system partition's files into the new folder $3. $4 is the file system's size; the other arguments are mke2fs's own.
set -eu
tree=$1 disk=$2 esp=$3 size=$4
shift 4

if [ -d "$tree/boot/efi" ]; then
    # A folder of our own, even where a step has put a link there.
    mkdir "$esp"
    cp -R "$tree/boot/efi/." "$esp"
    chmod -R a+rX "$esp"
    # kernel-install takes paths from the mount point above its files, which in a tree is the root folder.
    for entry in "$esp"/loader/entries/*.conf; do
        sed -i -E 's#^((linux|initrd|devicetree)[[:space:]]+)/boot/efi/#\1/#' "$entry"
    done
    # What has a partition of its own is not also in the root file system.
    mount -t tmpfs -o mode=0755 none "$tree/boot/efi"
fi
# What mmdebstrap was told of the host: proxies, and to do without fsync. Steps in a guest still need it.
if [ -n "${SINDRI_STEPS_DONE:-}" ]; then
    rm -f "$tree/etc/apt/apt.conf.d/99mmdebstrap" "$tree/etc/dpkg/dpkg.cfg.d/99mmdebstrap"
    # Where steps found the logins at mirrors: apt_login.rs.
    rm -f "$tree/etc/apt/auth.conf.d/sindri-build.conf"
fi
# What packages left of a running system.
mount -t tmpfs -o mode=0755 none "$tree/run"
exec mke2fs "$@" -d "$tree" "$disk" "$size"
