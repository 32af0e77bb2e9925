#!/bin/sh
set -eu
echo "$GREETING from a script" > /etc/script
