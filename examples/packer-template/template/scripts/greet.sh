#!/bin/sh
# A provisioner's script is part of the cache key: a change of it builds the image again.
echo "a token of ${#TOKEN} characters"
