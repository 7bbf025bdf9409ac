# SPDX-License-Identifier: GPL-2.0
# The front door. Everything is done by scripts/, each of which has --help.

.PHONY: help demo check check-deep bench shell tree series lint setup clean

help:
	@echo 'make demo       see it: build the patched kernel, boot it, measure it'
	@echo 'make check      run every test'
	@echo 'make check-deep doubt it: models, fuzzing, faults, races, bugs put back'
	@echo 'make bench      only the benchmark'
	@echo 'make shell      a prompt in the patched kernel'
	@echo 'make tree       build/linux: the series as git commits, to edit'
	@echo 'make series     are the series as they should be'
	@echo 'make lint       shellcheck and checkpatch'
	@echo 'make setup      install the packages all this needs'
	@echo 'make clean      remove build/ (unless a series there has commits not exported)'

setup:
	@scripts/setup

tree: setup
	@scripts/series open linux

demo: tree
	@scripts/build release >/dev/null
	@scripts/bench --demo
	@echo
	@scripts/tevent --bench --msecs 500

bench: tree
	@scripts/build release >/dev/null
	@scripts/bench
	@echo
	@scripts/tevent --bench

shell: tree
	@scripts/build release >/dev/null
	@scripts/boot

check:
	@scripts/check

check-deep:
	@scripts/check --deep

series: setup
	@for s in patches/*/; do scripts/series check "$$(basename "$$s")" || exit; done

lint: setup
	@scripts/lint

clean:
	@for s in patches/*/; do scripts/series remove "$$(basename "$$s")" || exit; done
	rm -rf build
