#!/bin/sh
# Run as root in a booted guest before it is cleaned: what writes on its own stops, so that it stays clean.
set -eu
# The last stages of cloud-init, which run at each boot: the last step may have been a restart.
systemctl --quiet stop cloud-config.service cloud-final.service 2>/dev/null || true
journalctl --relinquish-var 2>/dev/null || true
for unit in systemd-random-seed.service systemd-timesyncd.service rsyslog.service cron.service; do
    systemctl --quiet stop "$unit" 2>/dev/null || true
done
