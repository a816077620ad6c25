#!/usr/bin/env bash
# Run each fuzz target of the project for FUZZTIME, one after another: each uses every core.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fuzztime=${FUZZTIME:-30s}
count=0
for package in $(go list ./...); do
    for target in $(go test -list '^Fuzz' "$package" | grep '^Fuzz' || true); do
        printf '\n=== %s %s for %s\n' "$package" "$target" "$fuzztime"
        go test -run '^$' -fuzzminimizetime 10x -fuzz "^$target\$" -fuzztime "$fuzztime" "$package"
        count=$((count + 1))
    done
done
[ "$count" -gt 0 ] || { echo "fuzz: there is no fuzz target" >&2 && exit 1; }
printf '\n%d fuzz targets passed, %s each\n' "$count" "$fuzztime"
