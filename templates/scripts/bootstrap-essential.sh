#!/bin/sh
# Runs on the bare tree ($1) before the kernel is unpacked: its loader entry takes the command line and the
# folder's name from these files, or, without them, from the machine that builds the image.
# Environment: SINDRI_ROOT_PARTUUID, SINDRI_ESP_PARTUUID, SINDRI_CMDLINE.
set -eu
root=$1

mkdir -p "$root/boot/efi/EFI/BOOT" "$root/boot/efi/EFI/systemd" "$root/boot/efi/loader/entries" "$root/etc/kernel"
# The same machine boots with or without a screen; the last console named is the one that gets the messages.
printf 'root=PARTUUID=%s rw quiet console=tty0 %s\n' \
    "$SINDRI_ROOT_PARTUUID" "$SINDRI_CMDLINE" >"$root/etc/kernel/cmdline"
echo linux >"$root/etc/kernel/entry-token"
# Newer ones look for a mounted ESP, which a tree has not; in a machine it is the same place.
printf 'layout=bls\nBOOT_ROOT=/boot/efi\n' >"$root/etc/kernel/install.conf"
mkdir -p "$root/boot/efi/linux"

cat >"$root/etc/fstab" <<EOF
PARTUUID=$SINDRI_ROOT_PARTUUID / ext4 rw,errors=remount-ro 0 1
PARTUUID=$SINDRI_ESP_PARTUUID /boot/efi vfat umask=0077,noauto,x-systemd.automount,x-systemd.idle-timeout=60 0 0
EOF

# What a small server does not read; the same rules hold for packages installed later.
mkdir -p "$root/etc/dpkg/dpkg.cfg.d"
cat >"$root/etc/dpkg/dpkg.cfg.d/sindri-small" <<EOF
path-exclude=/usr/share/man/*
path-exclude=/usr/share/doc/*
path-include=/usr/share/doc/*/copyright
path-exclude=/usr/share/locale/*
path-include=/usr/share/locale/locale.alias
EOF
