#!/bin/sh
# Runs on the complete tree ($1): boot loader, network, first boot.
# Environment: SINDRI_EFI_NAME (BOOTX64.EFI), SINDRI_EFI_LOADER (systemd-bootx64.efi), SINDRI_ROOT_PARTUUID.
set -eu
root=$1
esp=$root/boot/efi

# The loader: no menu, no wait, no editor. kernel-install has its files made anew inside the machine.
loader=$root/usr/lib/systemd/boot/efi/$SINDRI_EFI_LOADER
test -f "$loader" || { echo "E: the suite's systemd-boot has no $SINDRI_EFI_LOADER" >&2; exit 1; }
cp "$loader" "$esp/EFI/BOOT/$SINDRI_EFI_NAME"
cp "$loader" "$esp/EFI/systemd/$SINDRI_EFI_LOADER"
printf 'timeout 0\neditor no\n' >"$esp/loader/loader.conf"
for image in "$root"/boot/vmlinuz-*; do
    version=${image##*/vmlinuz-}
    chroot "$root" kernel-install add "$version" "/boot/vmlinuz-$version" "/boot/initrd.img-$version"
done
# Paths in an entry begin at the ESP, which newer ones only leave out where it is mounted.
sed -i -E 's#^(linux|initrd)([[:space:]]+)/boot/efi/#\1\2/#' "$esp"/loader/entries/*.conf
grep -q "root=PARTUUID=$SINDRI_ROOT_PARTUUID " "$esp"/loader/entries/*.conf ||
    { echo 'E: kernel-install wrote no loader entry for the root file system' >&2; exit 1; }

# Any Ethernet card asks for an address; what cloud-init writes sorts before this and wins.
mkdir -p "$root/etc/systemd/network" "$root/etc/cloud/cloud.cfg.d" "$root/etc/systemd/system"
cat >"$root/etc/systemd/network/80-dhcp.network" <<EOF
[Match]
Type=ether

[Network]
DHCP=yes

[DHCPv4]
UseDomains=yes
EOF
# Online means an address on any one card, not on all of them.
mkdir -p "$root/etc/systemd/system/systemd-networkd-wait-online.service.d"
cat >"$root/etc/systemd/system/systemd-networkd-wait-online.service.d/any.conf" <<EOF
[Service]
ExecStart=
ExecStart=/lib/systemd/systemd-networkd-wait-online --any --timeout=30
EOF
chroot "$root" systemctl --quiet enable systemd-networkd.service systemd-resolved.service

# cloud-init: a seed on a disk first, the large clouds after it. Host keys are made below, so that SSH need not
# wait for cloud-init.
cat >"$root/etc/cloud/cloud.cfg.d/90_sindri.cfg" <<EOF
datasource_list: [NoCloud, ConfigDrive, Azure, Ec2, GCE, OpenStack, Oracle, AliYun, None]
ssh_deletekeys: false
ssh_genkeytypes: [ed25519, ecdsa]
locale: C.UTF-8
system_info:
  network:
    renderers: [networkd]
EOF
# The distribution holds the whole boot, SSH included, until cloud-init is through with the network's part: half of
# the time to a login. Its files and the network's own order stay.
for unit in cloud-init.service cloud-init-network.service; do
    if [ -f "$root/usr/lib/systemd/system/$unit" ]; then
        sed -E '/^Before=(sysinit.target|systemd-user-sessions.service|sshd?.service|sshd-keygen.service)$/d' \
            "$root/usr/lib/systemd/system/$unit" >"$root/etc/systemd/system/$unit"
    fi
done
cat >"$root/etc/systemd/system/ssh-host-keys.service" <<EOF
[Unit]
Description=Make the SSH host keys of a new machine
Before=ssh.service
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/ssh-keygen -q -N '' -t ed25519 -f /etc/ssh/ssh_host_ed25519_key
ExecStart=/bin/sh -c 'test -e /etc/ssh/ssh_host_ecdsa_key || exec ssh-keygen -q -N "" -t ecdsa -f /etc/ssh/ssh_host_ecdsa_key'

[Install]
WantedBy=ssh.service
EOF
chroot "$root" systemctl --quiet enable ssh-host-keys.service
rm -f "$root"/etc/ssh/ssh_host_*_key "$root"/etc/ssh/ssh_host_*_key.pub

# Work that a fresh machine would start with, and need not: the administrator can enable it.
chroot "$root" systemctl --quiet mask apt-daily.timer apt-daily-upgrade.timer
for unit in e2scrub_all.timer e2scrub_reap.service man-db.timer motd-news.timer; do
    chroot "$root" systemctl --quiet disable "$unit" 2>/dev/null || true
done

# How mirrors were reached: the host's certificates are not here. Steps use the rest; nothing of it stays in the image.
if [ -f "$root/etc/apt/apt.conf.d/99mmdebstrap" ]; then
    sed -i -E '/::(CaInfo|CaPath) /d' "$root/etc/apt/apt.conf.d/99mmdebstrap"
fi

echo LANG=C.UTF-8 >"$root/etc/default/locale"
echo localhost >"$root/etc/hostname"
printf '127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n' >"$root/etc/hosts"
# mmdebstrap brings the builder's own files, modes included; systemd-resolved puts one of them aside.
chmod 644 "$root/etc/hostname" "$root/etc/hosts"
rm -f "$root/etc/.resolv.conf.systemd-resolved.bak"
chroot "$root" passwd --quiet --lock root
