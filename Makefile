# make demo   two sites in network namespaces, real traffic, an eavesdropper: a minute, as root
# make test   all that CI runs: formatting, lints, unit tests, end-to-end tests in namespaces, as root

CARGO ?= cargo
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
export PATH := $(PATH):/usr/sbin:/sbin

.PHONY: demo test build lint deps

demo: build
	$(TARGET_DIR)/release/qhaul lab demo

# The tests in `tests` measure and disturb whole labs: one at a time.
test: build lint
	$(CARGO) test --release --locked --workspace --exclude qhaul-tests
	$(CARGO) test --release --locked --package qhaul-tests -- --test-threads=1

build: deps
	$(CARGO) build --release --locked

lint: deps
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings

deps:
	@.ci/deps
