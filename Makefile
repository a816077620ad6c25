# tesserafs: what can be made. `make` alone lists it.

PREFIX ?= /usr/local
FUZZTIME ?= 30s
SOAK ?= 10m
BENCH_DIR ?= .cache/bench
BENCH_ROUNDS ?= 5
PYTHON ?=

export FUZZTIME BENCH_DIR BENCH_ROUNDS PYTHON

.DEFAULT_GOAL := help
.PHONY: help setup build demo test fuzz soak bench bench-points bench-consolidated bench-remote install clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what demo, test and bench need; says so, and does nothing twice
	@scripts/setup.sh test

build: ## bin/tesserafs
	@scripts/setup.sh build
	go build -o bin/tesserafs ./cmd/tesserafs

demo: ## write a small archive, mount it, open it with xarray, save a picture in demo-out/, unmount
	@scripts/setup.sh demo
	@$(MAKE) --no-print-directory build
	@scripts/demo.sh

test: setup build ## every check and test there is; FUSE mounts are real
	@scripts/test.sh

fuzz: ## each fuzz target for FUZZTIME (30s)
	@scripts/setup.sh build
	@scripts/fuzz.sh

soak: setup ## random reads of a mount for SOAK (10m) while network, server and cache fail
	@TESSERAFS_SOAK="$(SOAK)" go test -count=1 -timeout 0 -v -run '^TestSoak$$' ./tests/faults

bench: setup build ## the same reads on a mount and on a copy, BENCH_ROUNDS (5) times, kept in BENCH_DIR
	@.venv/bin/python bench/bench.py --dir "$(BENCH_DIR)" --rounds "$(BENCH_ROUNDS)"

bench-points: setup build ## 100,000 points against NumPy by hand and geotessera's sampler, in BENCH_DIR
	@.venv/bin/python bench/points.py --dir "$(BENCH_DIR)" --rounds "$(BENCH_ROUNDS)"

bench-consolidated: setup build ## the consolidated store against the one geotessera builds, and a copy in memory
	@.venv/bin/python bench/consolidated.py --dir "$(BENCH_DIR)" --rounds "$(BENCH_ROUNDS)"

bench-remote: build ## an S3 gateway on loopback, as it is and with 30 ms a request; and 14 million tiles
	@scripts/setup.sh bench
	@.venv/bin/python bench/remote.py --dir "$(BENCH_DIR)" --rounds "$(BENCH_ROUNDS)"

install: build ## PREFIX/bin/tesserafs (PREFIX is /usr/local)
	install -D -m 0755 bin/tesserafs "$(DESTDIR)$(PREFIX)/bin/tesserafs"

clean: ## remove everything made here, the environments too
	@scripts/leftovers.sh --quiet
	rm -rf --one-file-system bin demo-out .venv .cache tests/node/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
