#!/usr/bin/env bash
# Install what a make target needs and is not there, say so, and do nothing the second time.
#
#   scripts/setup.sh build    Go, a C compiler, PROJ's headers, pkg-config
#   scripts/setup.sh demo     and fuse3, a Python of 3.12 or later with its packages in .venv
#   scripts/setup.sh test     and the clients the tests drive: rsync, tar, tree, getfattr, Node, and
#                             the servers they start: nginx, versitygw
#   scripts/setup.sh bench    and rclone, which make bench-remote compares with
#
# System packages come from apt, when run as root; otherwise the line to run is printed. Python
# packages go to .venv, Node's to tests/node/node_modules, versitygw to .cache/bin; nothing else is
# touched, and no service is started. A stamp under .cache/setup says which state of the requirements
# each of them was made from.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

level=${1:-test}
stamps=.cache/setup
versitygw=github.com/versity/versitygw/cmd/versitygw@v1.8.0

say() { printf 'setup: %s\n' "$*"; }
die() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}
has() { command -v "$1" >/dev/null 2>&1; }

# at_least VERSION WANTED: compares dotted versions.
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

check_go() {
    local wanted have
    wanted=$(awk '$1 == "go" { print $2; exit }' go.mod)
    has go || die "there is no go command: install Go $wanted or later from https://go.dev/dl/ and put it on the PATH"
    have=$(cd / && GOTOOLCHAIN=local go env GOVERSION)
    have=${have#go}
    have=${have%% *}
    at_least "$have" "$wanted" && return
    # Since 1.21 Go fetches the toolchain that go.mod asks for by itself, unless told not to.
    if at_least "$have" 1.21 && go env GOVERSION >/dev/null 2>&1; then
        return
    fi
    die "Go is $have, go.mod asks for $wanted: install Go $wanted or later from https://go.dev/dl/ and put it first on the PATH"
}

# The packages that are wanted and missing, told by what they bring, so that a machine without
# apt is fine as long as it has the commands.
missing_packages() {
    has gcc || has cc || echo gcc
    [ -e /usr/include/stdio.h ] || echo libc6-dev
    has pkg-config || echo pkg-config
    { has pkg-config && pkg-config --exists proj; } || echo libproj-dev
    [ "$level" = build ] && return
    has fusermount3 || echo fuse3
    [ "$level" = demo ] && return
    has rsync || echo rsync
    has tree || echo tree
    has tar || echo tar
    has getfattr || echo attr
    has node || echo nodejs
    has npm || echo npm
    has nginx || [ -x /usr/sbin/nginx ] || echo nginx-light
    [ "$level" = test ] && return
    has rclone || echo rclone
}

# keep_services_off keeps the packages that are being installed from starting services (nginx would
# serve on port 80), unless the machine has a policy of its own. See invoke-rc.d(8).
policy=/usr/sbin/policy-rc.d
keep_services_off() {
    [ ! -e "$policy" ] || return 0
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
}

install_packages() {
    local packages
    mapfile -t packages < <(missing_packages)
    [ "${#packages[@]}" -gt 0 ] || return 0
    has apt-get || die "these are missing, install them by your system's means: ${packages[*]} (names as on Debian)"
    [ "$(id -u)" = 0 ] || die "these are missing, run: sudo apt-get install -y --no-install-recommends ${packages[*]}"
    say "installing ${packages[*]} with apt-get"
    local log=$stamps/apt.log
    export DEBIAN_FRONTEND=noninteractive
    keep_services_off
    if ! { apt-get install -y --no-install-recommends "${packages[@]}" ||
        { apt-get update && apt-get install -y --no-install-recommends "${packages[@]}"; }; } >"$log" 2>&1; then
        tail -n 5 "$log" >&2
        die "apt-get could not install ${packages[*]}; the whole output is in $log"
    fi
    # Nor at the next boot: the tests start nginx themselves.
    if [[ " ${packages[*]} " == *" nginx-light "* ]] && has systemctl; then
        systemctl disable nginx >/dev/null 2>&1 || true
    fi
    mapfile -t packages < <(missing_packages)
    [ "${#packages[@]}" -eq 0 ] || die "apt-get is done, yet these are still missing: ${packages[*]}"
}

check_fuse() {
    [ -e /dev/fuse ] && return
    if [ "$(id -u)" = 0 ] && has modprobe; then
        modprobe fuse 2>/dev/null || true
    fi
    [ -e /dev/fuse ] || die "there is no /dev/fuse: run 'modprobe fuse' as root, or start the container with --device /dev/fuse --cap-add SYS_ADMIN"
}

# The first Python of 3.12 or later; the versions the pins were checked on come first. Where one was
# named, it is that or none.
find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3.13 python3.12 python3.14 python3 \
        "$HOME"/.pyenv/versions/*/bin/python3 "$HOME"/.local/share/uv/python/*/bin/python3 \
        /opt/*/bin/python3 /opt/python/*/bin/python3 /usr/local/bin/python3; do
        # A pyenv shim is a command for versions it then refuses to run: ask, do not look.
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
        [ -z "${PYTHON:-}" ] || die "PYTHON=$PYTHON is no Python of 3.12 or later with venv and ensurepip"
    done
    die "no Python of 3.12 or later with venv was found (Debian 12 has 3.11): install one, for example with 'uv python install 3.12' or 'pyenv install 3.12', or name one: make PYTHON=/path/to/python3.12"
}

install_python() {
    local python state stamp=$stamps/python
    # What the environment was made from: the requirements, and this checkout's place, for an
    # environment does not survive being moved.
    state="$(sha256sum tests/requirements.txt) $PWD"
    if [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$state" ] && .venv/bin/python -c '' 2>/dev/null; then
        return
    fi
    rm -f "$stamp"
    if ! .venv/bin/python -c 'import sys, pip; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then
        python=$(find_python) || exit 1 # it has said why
        say "making .venv with $("$python" --version) ($python)"
        rm -rf .venv
        "$python" -m venv .venv
    fi
    say "installing the packages of tests/requirements.txt into .venv (about 330 MB to fetch, once)"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement tests/requirements.txt ||
        die "pip could not install tests/requirements.txt; its message is above"
    printf '%s' "$state" >"$stamp"
}

install_node() {
    local state stamp=$stamps/node
    node -e 'process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)' ||
        die "Node is $(node --version), the tests need 18 or later: install it from https://nodejs.org or your distribution"
    state=$(sha256sum tests/node/package-lock.json)
    if [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$state" ] && [ -d tests/node/node_modules/zarrita ]; then
        return
    fi
    rm -f "$stamp"
    say "installing zarrita into tests/node/node_modules"
    (cd tests/node && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null) ||
        die "npm ci failed in tests/node; its message is above"
    printf '%s' "$state" >"$stamp"
}

# The S3 gateway that tests start.
install_versitygw() {
    local stamp=$stamps/versitygw
    if [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$versitygw" ] && [ -x .cache/bin/versitygw ]; then
        return
    fi
    rm -f "$stamp"
    say "building versitygw into .cache/bin (a minute or two, once)"
    GOBIN=$PWD/.cache/bin go install "$versitygw" >"$stamps/versitygw.log" 2>&1 || {
        tail -n 5 "$stamps/versitygw.log" >&2
        die "go install $versitygw failed; the whole output is in $stamps/versitygw.log"
    }
    printf '%s' "$versitygw" >"$stamp"
}

mkdir -p "$stamps"
# Two targets of one make, or two makes, must not install at once.
exec 9>"$stamps/lock"
has flock && flock 9

case $level in
build)
    check_go
    install_packages
    ;;
demo)
    check_go
    install_packages
    check_fuse
    install_python
    ;;
test | bench)
    check_go
    install_packages
    check_fuse
    install_python
    install_node
    install_versitygw
    ;;
*) die "unknown level '$level': build, demo, test or bench" ;;
esac
