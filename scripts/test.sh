#!/usr/bin/env bash
# Every check and test, one after another, then a look for what they left behind. `make test` has
# set up and built before. All steps run even when one fails; the last lines say which did.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

# Every process of this run carries the mark, every mount lies below the directory: that is how
# leftovers.sh knows them.
run_id=$(date +%s).$$
run_dir=$(mktemp -d "${TMPDIR:-/tmp}/tesserafs-test.XXXXXX")
run_dir=$(cd "$run_dir" && pwd -P)
chmod 1777 "$run_dir" # as /tmp: some tests, run by root, go on as nobody

failed=()
summary=()

step() {
    local name=$1 begun=$SECONDS verdict=ok
    shift
    printf '\n=== %s\n' "$name"
    # In the foreground, so that Ctrl-C reaches it; what outlives a timeout, leftovers.sh ends.
    if ! TESSERAFS_RUN=$run_id TMPDIR=$run_dir PYTHONDONTWRITEBYTECODE=1 \
        timeout --foreground --kill-after=30 900 "$@"; then
        verdict=FAILED
        failed+=("$name")
    fi
    summary+=("$(printf '%-6s %5ds  %s' "$verdict" $((SECONDS - begun)) "$name")")
}

finish() {
    if ! scripts/leftovers.sh --run "$run_id" "$run_dir"; then
        failed+=(leftovers)
        summary+=("$(printf '%-6s %6s  %s' FAILED '' 'mounts and processes left behind')")
    fi
    rm -rf --one-file-system "$run_dir"
}
trap 'finish; exit 130' INT TERM

step 'gofmt' bash -c '! gofmt -l . | grep .'
step 'go vet' go vet ./...
step 'staticcheck' go tool staticcheck ./...
# The seed corpora of the fuzz targets run as tests here; `make fuzz` goes on from them.
# `make soak` is longer; with the race detector, or without the variable, it is shorter.
step 'go test' env TESSERAFS_SOAK=60s go test ./...
step 'go test -race' go test -race ./...
# Go does not count GOMAXPROCS among what a cached result depends on: -count=1.
step 'go test, one thread' env GOMAXPROCS=1 go test -count=1 ./vfs/...
step 'Python clients' .venv/bin/python -m pytest -c tests/pytest.ini --rootdir=. tests
step 'Node client' .venv/bin/python tests/with_store.py node --test tests/node/zarrita.test.mjs
finish

printf '\n=== summary\n'
printf '%s\n' "${summary[@]}"
if [ "${#failed[@]}" -gt 0 ]; then
    printf 'FAILED: %s\n' "${failed[*]}"
    exit 1
fi
echo "all passed, nothing left mounted or running"
