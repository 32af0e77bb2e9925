#!/bin/sh
# Run as root in an image at the end of its build: removes what belongs to one machine or to the build. Runs in a
# file tree as well as in a booted guest. Keys, accounts and files that a step made on purpose stay.
set -eu

# Instance data: the next boot is a first boot. What `cloud-init clean` removes is removed below anyway; it is only
# called, for it takes seconds in an emulated guest, where somebody has put scripts that it is to run.
for script in /etc/cloud/clean.d/*; do
    if [ -f "$script" ] && [ -x "$script" ]; then
        cloud-init clean --logs --seed >/dev/null 2>&1 || true
        break
    fi
done
rm -rf /var/lib/cloud
mkdir -p /var/lib/cloud

# Identity. An empty machine-id, rather than none or "uninitialized", also keeps systemd from presetting units.
: >/etc/machine-id
rm -f /var/lib/dbus/machine-id
if [ -d /var/lib/dbus ]; then
    ln -s /etc/machine-id /var/lib/dbus/machine-id
fi
rm -f /var/lib/systemd/random-seed /boot/efi/loader/random-seed /var/lib/systemd/credential.secret
rm -rf /var/lib/systemd/timers /var/lib/systemd/timesync /var/lib/systemd/coredump /var/lib/private/systemd
rm -rf /var/lib/dhcp/* /var/lib/NetworkManager/* /var/lib/systemd/network/*

# Packages: lists and archives can be had again.
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*
rm -f /var/lib/apt/extended_states.* /var/cache/debconf/*-old /var/lib/dpkg/*-old

# Logs: emptied where a package made the file with an owner, removed where a program makes it anew.
find /var/log -xdev -type f \( -name '*.gz' -o -name '*.[0-9]' -o -name '*.old' -o -name '*.journal*' \) -delete
find /var/log -xdev -type f -exec truncate -s 0 {} +
rm -rf /var/log/journal/* /var/log/installer

# Traces of people: what shells and tools remember.
for home in /root /home/*; do
    [ -d "$home" ] || continue
    rm -f "$home"/.bash_history "$home"/.ash_history "$home"/.zsh_history "$home"/.python_history \
        "$home"/.mysql_history "$home"/.psql_history "$home"/.sqlite_history "$home"/.lesshst "$home"/.viminfo \
        "$home"/.wget-hsts "$home"/.sudo_as_admin_successful "$home"/.ssh/known_hosts "$home"/.ssh/known_hosts.old
    rm -rf "$home"/.cache
done

# Temporary files. Over a mount (a booted guest's) they are gone with it.
find /tmp /var/tmp -xdev -mindepth 1 -delete
rm -f /etc/passwd- /etc/shadow- /etc/group- /etc/gshadow- /etc/subuid- /etc/subgid-
rm -f /etc/.pwd.lock /var/lib/logrotate/status
