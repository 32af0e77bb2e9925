#!/bin/sh
# Part of the image: put there by a provisioning step.
. /etc/os-release
echo "Hello from $PRETTY_NAME on $(hostname), provisioned at $(cat /etc/sindri-quickstart)."
