#!/bin/sh
# The last thing run as root in a booted guest: removes the way in ($SINDRI_KEY) and the traces of having been booted
# by a builder, gives deleted blocks back, and switches the guest off with clean file systems. Nothing may run after it:
# services that stop in an orderly way would write again (random seed, logs).
set -eu

for file in /root/.ssh/authorized_keys /home/*/.ssh/authorized_keys; do
    if [ -f "$file" ] && grep -qF "$SINDRI_KEY" "$file"; then
        grep -vF "$SINDRI_KEY" "$file" >"$file.rest" || true
        cat "$file.rest" >"$file"
        rm "$file.rest"
        [ -s "$file" ] || rm "$file"
    fi
done
rmdir /root/.ssh 2>/dev/null || true
# The builder's seed and key stand in here too.
rm -rf /var/lib/cloud/instances /var/lib/cloud/instance /var/lib/cloud/seed /var/lib/cloud/data
rm -rf /var/tmp/sindri-build
# What mmdebstrap was told of the host: proxies, and to do without fsync.
rm -f /etc/apt/apt.conf.d/99mmdebstrap /etc/dpkg/dpkg.cfg.d/99mmdebstrap
sync
fstrim --all 2>/dev/null || true
sync
if [ -d /run/systemd/system ]; then
    # Kills instead of stopping, then unmounts. A mere remount would leave deleted files that somebody still has open.
    systemctl poweroff --force
else
    echo u >/proc/sysrq-trigger
    sleep 2
    echo o >/proc/sysrq-trigger
fi
