#!/usr/bin/env bash
# The whole of tesserafs in a minute: an archive, a mount, a store opened with xarray, a picture, and
# nothing left behind but the archive in .cache/demo and the picture in demo-out.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

archive=.cache/demo/archive
stores=.cache/demo/stores
log=.cache/demo/mount.log

say() { printf '\n$ %s\n' "$*"; }

# A mount that an earlier demo left is dead or forgotten: either way it ends first.
unmount() {
    if grep -qF " $PWD/$stores fuse.tesserafs " /proc/mounts; then
        bin/tesserafs unmount "$stores"
    fi
}
trap unmount EXIT
unmount
mkdir -p "$stores" demo-out

say tesserafs demo --dir "$archive"
bin/tesserafs demo --dir "$archive" >/dev/null
say tesserafs mount "$archive" "$stores" --daemon
bin/tesserafs mount "$archive" "$stores" --daemon --log-file "$log"
store=$(printf '%s\n' "$stores"/v1/zones/*/utm*.zarr | head -n 1)
say ls "$store"
ls "$store"
say python scripts/demo.py "$store" demo-out
.venv/bin/python scripts/demo.py "$store" demo-out
say tesserafs unmount "$stores"
unmount
trap - EXIT
