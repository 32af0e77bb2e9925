#!/bin/sh
# Run as root in an image at the end of its build: no two machines may share host keys. The image makes its own at
# its first boot.
set -eu
rm -f /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub
