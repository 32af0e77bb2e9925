# The commands a person or CI types. What needs more than a line is a script or an xtask.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help quickstart quickstart-destroy build install test lint style unit builds acceptance soak bench docs \
	advisories clean

CARGO ?= cargo
XTASK := $(CARGO) run --quiet --package xtask --
# Of each of the two kinds of tests with guests, which `test` runs at the same time: a test waits as often as it computes.
THREADS ?= 3
# How many seconds each of them may take: what has not ended by then hangs, and is shown and ended.
LONGEST ?= 2400
# Per cent of the soak's rounds.
SHARE ?= 100

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

quickstart: ## build an image and boot a VM from it with tofu apply, on this machine
	@scripts/quickstart.sh apply

quickstart-destroy: ## remove what the quickstart made
	@scripts/quickstart.sh destroy

build: ## the provider, release mode
	$(CARGO) build --release --package terraform-provider-sindri

install: build ## put the provider where a development override finds it, and say how
	@scripts/install-provider.sh

# Clippy compiles what is tested, and warnings are errors: EC2's client, which takes minutes, is else compiled a second time,
# to be checked. Both variables are what `cargo clippy -- -D warnings` sets.
test: export RUSTC_WORKSPACE_WRAPPER = clippy-driver
test: export CLIPPY_ARGS = -D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__
test: ## everything: install what tests need, lint, unit tests, real builds and guests, acceptance
	scripts/install.sh test
	@# On a new machine Rust's compiler leaves a core idle for minutes: tools are built meanwhile. Whoever needs one waits
	@# for it, or builds it and tells why it cannot.
	@scripts/tools.sh tests >/dev/null &
	$(MAKE) style unit
	$(CARGO) clippy --package acceptance-tests --all-targets --all-features --quiet -- -D warnings
	@# Both wait for guests, builds and clouds as often as they compute.
	$(MAKE) --jobs=2 builds acceptance

lint: style ## formatting, clippy, licences, module edges, scripts, generated files
	$(CARGO) clippy --workspace --all-targets --all-features --quiet -- -D warnings
	$(CARGO) clippy --package terraform-provider-sindri --test builds --quiet -- -D warnings

style: ## lint without clippy
	$(CARGO) fmt --all --check
	shellcheck scripts/*.sh .ci/run
	$(XTASK) tidy
	"$$(scripts/tools.sh cargo-deny)" --log-level error check licenses bans sources
	$(XTASK) docs --check

unit: ## unit, property and in-process tests
	$(CARGO) test --workspace --exclude acceptance-tests --quiet
	$(CARGO) test --package acceptance-tests --quiet --lib --test harness

builds: ## images built and guests booted by the provider's own rooms
	scripts/watched.sh $(LONGEST) $(CARGO) test --package terraform-provider-sindri --test builds -- --test-threads=$(THREADS)

acceptance: ## scenarios under real OpenTofu and, where it is on PATH, real Terraform
	@scripts/tools.sh tofu
	@scripts/tools.sh moto
	@command -v terraform || echo "terraform is not on PATH: the scenarios run under OpenTofu only"
	scripts/watched.sh $(LONGEST) $(CARGO) test --package acceptance-tests --test scenarios -- --test-threads=$(THREADS)

soak: ## what needs long repetition: kills, cancels, races by the hundred; SHARE=10 for a tenth
	PROPTEST_CASES=$$((1000 * $(SHARE))) $(CARGO) test --package tfplugin --lib -- broken::
	PROPTEST_CASES=$$((10 * $(SHARE))) $(CARGO) test --package terraform-provider-sindri --lib -- store::tests::what_is_corrupt
	SINDRI_SOAK_SHARE=$(SHARE) $(CARGO) test --package acceptance-tests --features soak --test soak -- \
		--test-threads=1 --nocapture

bench: build ## figures, each as a ratio measured in this run; FIGURE=name for one
	scripts/install.sh test
	$(XTASK) bench $(if $(FIGURE),--only $(FIGURE))

docs: ## write docs/ from the provider's schema and examples/
	$(XTASK) docs

advisories: ## known vulnerabilities in dependencies; fetches the advisory database
	"$$(scripts/tools.sh cargo-deny)" check advisories

clean: ## remove build output; images and VMs stay
	$(CARGO) clean
