#!/bin/sh
# What root does in a booted guest before it is switched off (switch-off.sh): removes the way in ($SINDRI_KEY) and the traces
# of having been booted by a builder, empties swap space and gives deleted blocks back.
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
# What cloud-init wrote of the builder's network, see await-cloud-init.sh. What a step has changed is the step's.
seeded=/etc/cloud/sindri-builder
if [ -f "$seeded" ]; then
    while read -r sum file; do
        case $(sha256sum "$file" 2>/dev/null) in "$sum "*) rm -f "$file" ;; esac
    done <"$seeded"
    rm -f "$seeded"
fi
# What mmdebstrap was told of the host: proxies, and to do without fsync.
rm -f /etc/apt/apt.conf.d/99mmdebstrap /etc/dpkg/dpkg.cfg.d/99mmdebstrap
# Swap space holds what was in memory, secrets too. Its first page, which says what it is, with UUID and label, stays.
page=$(getconf PAGESIZE 2>/dev/null || echo 4096)
sed 1d /proc/swaps | while read -r swap kind _; do
    swap=$(printf %b "$swap")
    # Memory itself.
    case $swap in /dev/zram*) continue ;; esac
    # A file that a step has removed, or more in it than memory can take.
    if ! swapoff "$swap"; then
        echo "W: $swap may hold what was in memory: swapoff failed"
        continue
    fi
    if [ "$kind" = partition ]; then
        # The file of a loop device would get blocks that count as empty, with all that is in them still on the disk.
        case $swap in
        /dev/loop*) ;;
        *) if blkdiscard --zeroout --offset "$page" "$swap" 2>/dev/null; then continue; fi ;;
        esac
        size=$(blockdev --getsize64 "$swap")
    else
        size=$(wc -c <"$swap")
    fi
    head -c "$((size - page))" /dev/zero | dd of="$swap" bs="$page" seek=1 conv=notrunc status=none
done
sync
fstrim --all || echo 'W: what was deleted may still be on the disk, for fstrim failed'
sync
