#!/bin/sh
# Run as root in a booted base image before its steps: prints APT's sources, and the lists of mirrors that they name, each
# file after its name.
set -eu
print() {
    if [ -f "$1" ]; then
        printf '\n#sindri: %s\n' "$1"
        cat "$1"
    fi
}
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
    print "$file"
done
cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | grep -oE 'mirror\+file:[^][:space:]]+' | sort -u |
    while read -r uri; do
        print "/$(echo "${uri#mirror+file:}" | sed 's,^/*,,')"
    done
