#!/bin/sh
# Run as root after each boot of a guest whose seed leaves cloud-init's last two stages empty: returns when the first two are
# done, and keeps the others from starting at all. Each costs seconds in an emulated guest, and so does asking
# cloud-init itself; systemd knows (https://cloudinit.readthedocs.io/en/latest/explanation/boot.html).
command -v cloud-init >/dev/null || exit 0

# What this boot wrote of the builder's network card, for leave-guest.sh, beside what an earlier one did: a base's own files are
# older, and stay.
remember_network() {
    find /etc/netplan /etc/network/interfaces.d /etc/systemd/network /etc/NetworkManager/system-connections \
        /etc/udev/rules.d -type f \( -name '*cloud-init*' -o -name 70-persistent-net.rules \) \
        -newermt "@$(sed -n 's/^btime //p' /proc/stat)" -exec sha256sum {} + >>/etc/cloud/sindri-builder 2>/dev/null
}

if [ ! -d /run/systemd/system ]; then
    cloud-init status --wait >/dev/null 2>&1
    remember_network
    exit 0
fi
# Made by cloud-init's generator where it is to run.
[ -e /run/cloud-init/enabled ] || exit 0

# done_with UNIT: it has run, whatever came of it.
done_with() {
    case $(systemctl show --property ActiveState --value "$1") in
    active | failed) return 0 ;;
    *) return 1 ;;
    esac
}

# The stage of the network has had two names. The file is written after the last stage.
until done_with cloud-init-network.service || done_with cloud-init.service || [ -e /run/cloud-init/result.json ]; do
    sleep 0.2
done
systemctl --quiet stop cloud-config.service cloud-final.service 2>/dev/null || true
# On a busy computer one of them may have begun: stopped amid its work, which is none, it would be said to run for ever.
if [ -e /run/cloud-init/status.json ]; then
    sed -i -e 's/"stage": "[^"]*"/"stage": null/' -e '/"modules-[a-z]*": {/,/}/s/"start": [0-9][0-9.]*/"start": null/' \
        /run/cloud-init/status.json
fi
# For steps that wait for the end as they would in a cloud, and for `cloud-init status --wait`.
echo '{"v1": {"datasource": null, "errors": []}}' >/run/cloud-init/result.json
if [ -d /var/lib/cloud/instance ]; then
    date >/var/lib/cloud/instance/boot-finished
fi
remember_network
exit 0
