#!/bin/sh
# Run as root in an image: unpacks $SINDRI_STAGE/upload.tar, which holds one file or folder named $SINDRI_NAME, to
# $SINDRI_TO, with mode $SINDRI_MODE (kept when empty) and owner $SINDRI_OWNER.
set -eu
name=$SINDRI_NAME destination=$SINDRI_TO

fresh=$(mktemp -d /var/tmp/upload.XXXXXX)
trap 'rm -rf "$fresh"' EXIT
tar --extract --same-permissions --file "$SINDRI_STAGE/upload.tar" --directory "$fresh"
chown -R -h -- "$SINDRI_OWNER" "$fresh/$name"
if [ -n "$SINDRI_MODE" ]; then
    chmod -- "$SINDRI_MODE" "$fresh/$name"
fi
case $destination in
*/) mkdir -p -- "$destination" ;;
*) mkdir -p -- "$(dirname -- "$destination")" ;;
esac
if [ -d "$fresh/$name" ]; then
    # A folder's content joins what is there.
    mkdir -p -- "$destination"
    cp -a -- "$fresh/$name/." "$destination"
else
    cp -a -- "$fresh/$name" "$destination"
fi
