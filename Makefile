# make demo   two sites in network namespaces, real traffic, an eavesdropper: a minute, as root
# make test   all that CI runs: formatting, lints, unit tests, end-to-end tests in namespaces, as root
# make test-vm   Debian's stock kernels, old and new, under qemu's emulation, as root
# make soak   two sites under rotations, floods, restarts and cuts for MINUTES=30, as root
# make bench  tables and plots in one page, as root, alone on the machine; bench-quick ends within 5 minutes

CARGO ?= cargo
MINUTES ?= 30
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
export PATH := $(PATH):/usr/sbin:/sbin

.PHONY: demo test test-vm soak bench bench-quick build lint deps

demo: build
	$(TARGET_DIR)/release/qhaul lab demo

# The tests in `tests` measure and disturb whole labs: one at a time.
test: build lint
	$(CARGO) test --release --locked --workspace --exclude qhaul-tests
	$(CARGO) test --release --locked --package qhaul-tests -- --test-threads=1

test-vm: build
	tests/vm/run.sh --bin $(TARGET_DIR)/release --cache $(TARGET_DIR)/vm

# Each look at memory and open files is a line of $(TARGET_DIR)/soak/samples.csv.
soak: build
	@mkdir -p $(TARGET_DIR)/soak
	$(TARGET_DIR)/release/qhaul-bench soak --minutes $(MINUTES) --csv $(TARGET_DIR)/soak/samples.csv

# Figures of a machine that does nothing else; the page is $(TARGET_DIR)/bench/report.html.
bench: build
	@bench/all $(TARGET_DIR)/release/qhaul-bench $(TARGET_DIR)/bench

bench-quick: build
	@bench/all $(TARGET_DIR)/release/qhaul-bench $(TARGET_DIR)/bench quick

build: deps
	$(CARGO) build --release --locked

lint: deps
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings

deps:
	@.ci/deps
