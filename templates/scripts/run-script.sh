#!/bin/sh
# Run as root in an image: the step's script, $SINDRI_STAGE/script, as user $SINDRI_USER (root when empty), in that
# user's home.
set -eu
stage=$SINDRI_STAGE user=${SINDRI_USER:-root}
unset SINDRI_STAGE SINDRI_USER
# The step's own PATH is for the step alone.
wanted=$PATH
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
record=$(getent passwd "$user") || { echo "E: the image has no user named $user" >&2; exit 1; }
HOME=$(echo "$record" | cut -d: -f6)
USER=$user
LOGNAME=$user
export HOME USER LOGNAME
cd "$HOME" 2>/dev/null || cd /
if [ "$user" = root ]; then
    PATH=$wanted exec "$stage/script"
fi
runuser=$(command -v runuser) || { echo "E: the image has no runuser, which a step's user needs" >&2; exit 1; }
PATH=$wanted exec "$runuser" -u "$user" -- "$stage/script"
