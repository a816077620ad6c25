#!/usr/bin/env bash
# Find FUSE mounts and processes that should be gone, name them, end them, and fail.
#
#   scripts/leftovers.sh --run ID DIR     of one test run: mounts below DIR, and processes with
#                                         TESSERAFS_RUN=ID in their environment
#   scripts/leftovers.sh --quiet          mounts in this checkout, without failing (make clean);
#                                         a daemon ends with its mount
#
# A run is told by its mark and its directory, never by a name, so that runs beside this one, and a
# user's own mounts, are left alone. What is about to end gets ten seconds to do so.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

quiet='' id='' dir=$PWD
case ${1:-} in
--quiet) quiet=yes ;;
--run) id=$2 dir=$3 ;;
*)
    echo "leftovers: --run ID DIR or --quiet" >&2
    exit 2
    ;;
esac

# Mount points of FUSE below the directory, the deepest first.
mounts() {
    local _ point rest type
    while read -r _ _ _ _ point rest; do
        type=${rest##* - }
        [[ ${type%% *} == fuse.* || ${type%% *} == fuse ]] || continue
        printf -v point '%b' "$point" # spaces are written \040
        [[ $point != "$dir"/* ]] || printf '%s\n' "$point"
    done </proc/self/mountinfo | sort -r
}

# Processes as "pid command".
processes() {
    local proc
    [ -n "$id" ] || return 0
    for proc in /proc/[0-9]*; do
        if grep -qzxF "TESSERAFS_RUN=$id" "$proc/environ" 2>/dev/null; then
            printf '%s %s\n' "${proc#/proc/}" "$(tr '\0' ' ' <"$proc/cmdline" 2>/dev/null)"
        fi
    done
}

for _ in $(seq 20); do
    left_mounts=$(mounts) left_processes=$(processes)
    [ -n "$left_mounts$left_processes" ] && [ -z "$quiet" ] || break
    sleep 0.5
done
[ -n "$left_mounts$left_processes" ] || exit 0

while read -r point; do
    [ -n "$point" ] || continue
    echo "leftovers: still mounted: $point" >&2
    fusermount3 -uz "$point" 2>/dev/null || umount -l "$point" || true
done <<<"$left_mounts"
while read -r pid command; do
    [ -n "$pid" ] || continue
    echo "leftovers: still running: $pid $command" >&2
    kill -9 "$pid" 2>/dev/null || true
done <<<"$left_processes"
[ -n "$quiet" ]
