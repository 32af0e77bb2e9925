#!/bin/sh
# Run as root in an image: unpacks $SINDRI_STAGE/upload.tar, which holds one file or folder named $SINDRI_NAME, to
# $SINDRI_TO, with owner $SINDRI_OWNER; a file, or a folder's files, with mode $SINDRI_MODE (kept when empty).
set -eu
name=$SINDRI_NAME destination=$SINDRI_TO
# Whatever the steps' environment says.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH

fresh=$(mktemp -d /var/tmp/upload.XXXXXX)
trap 'rm -rf "$fresh"' EXIT
tar --extract --same-permissions --file "$SINDRI_STAGE/upload.tar" --directory "$fresh"
chown -R -h -- "$SINDRI_OWNER" "$fresh/$name"
if [ -n "$SINDRI_MODE" ]; then
    find "$fresh/$name" -type f -exec chmod -- "$SINDRI_MODE" {} +
fi
case $destination in
*/) mkdir -p -- "$destination" ;;
*) mkdir -p -- "$(dirname -- "$destination")" ;;
esac
if [ -d "$fresh/$name" ]; then
    # A folder's content joins what is there; folders that are there, and links to them, stay as they are.
    mkdir -p -- "$destination"
    tar --create --directory "$fresh/$name" . |
        tar --extract --directory "$destination" --same-permissions --same-owner --no-overwrite-dir \
            --keep-directory-symlink
else
    cp -a -- "$fresh/$name" "$destination"
fi
