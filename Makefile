# `make help` explains the targets.
PREFIX  ?= /usr/local
DESTDIR ?=
PYTEST_ARGS ?=
SOAK_SECONDS ?= 3600
SECONDS ?= 600
FUZZ_STORES ?= 300
RELEASE ?= trixie

PY = .venv/bin/python
ENV = env -u PYTHONPATH

.DEFAULT_GOAL := help
.PHONY: help demo test test-lowest test-release check bench docs soak systemd conformance fuzz install uninstall clean

help:            ## this list
	@sed -n 's/^\([a-z-]*\): .*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

demo:            ## mount a Zarr and an N5 volume and read them with TIFF and HDF5 tools
	@scripts/debian-packages fuse3 tree libtiff-tools hdf5-tools
	@scripts/venv
	@$(ENV) $(PY) -m demo

test:            ## run the tests (PYTEST_ARGS="tests/test_meta.py -x" for some)
	@scripts/debian-packages -f tests/debian-packages.txt
	@scripts/venv test
	@scripts/optional-readers
	@$(ENV) $(PY) -m pytest -n auto --maxprocesses 4 --dist loadfile $(PYTEST_ARGS)

test-lowest:     ## the tests on Python 3.11 with the oldest dependencies that pyproject.toml allows
	@PYTHON=$${PYTHON:-python3.11} VENV=build/lowest LOWEST=1 scripts/venv test
	@$(ENV) build/lowest/bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(PYTEST_ARGS)

test-release:    ## demo and tests in a RELEASE (trixie) of Debian or Ubuntu of their own (needs root)
	@scripts/test-release $(RELEASE)

check:           ## ruff, mypy --strict and the layers of the imports
	@scripts/venv test dev
	@$(ENV) .venv/bin/ruff check znfs demo tests benchmarks
	@$(ENV) .venv/bin/mypy
	@$(ENV) .venv/bin/lint-imports

bench:           ## measure against the libraries; writes benchmarks/RESULTS.md
	@scripts/venv bench
	@$(ENV) $(PY) -m benchmarks

soak:            ## SOAK_SECONDS (3600) of readers and random faults, every byte checked; 500 mounts
	@scripts/venv test
	@$(ENV) ZNFS_SOAK_SECONDS=$(SOAK_SECONDS) $(PY) -m pytest -s -m soak --timeout=0 tests/faults tests/mounts tests/test_mount.py

systemd:         ## the units and fstab under a systemd in namespaces of its own (needs root)
	@scripts/debian-packages systemd fuse3
	@scripts/venv test
	@$(ENV) ZNFS_SYSTEMD=1 $(PY) -m pytest -s tests/systemd

conformance:     ## read what every writer writes; writes docs/CONFORMANCE.md
	@scripts/venv test images
	@$(ENV) ZNFS_CONFORMANCE=docs/CONFORMANCE.md $(PY) -m pytest tests/conformance

fuzz:            ## SECONDS (600) of hostile inputs, then FUZZ_STORES (300) hostile stores through a mount
	@scripts/venv test
	@$(PY) -m pip install --quiet --only-binary=:all: atheris || echo "no atheris for this Python: mutations are not guided"
	@$(ENV) $(PY) -m tests.fuzz $(SECONDS)
	@$(ENV) ZNFS_FUZZ_STORES=$(FUZZ_STORES) ZNFS_FUZZ_SEED=$$(date +%s) $(PY) -m pytest --timeout=0 tests/fuzz

docs:            ## build the manual into build/docs
	@scripts/venv docs
	@$(ENV) .venv/bin/sphinx-build -q -W -b html docs build/docs
	@echo "build/docs/index.html"

install:         ## into PREFIX (/usr/local) with mount helpers in /sbin; DESTDIR stages
	@scripts/install "$(DESTDIR)" "$(PREFIX)"

uninstall:       ## remove what `make install` put there
	@scripts/install --remove "$(DESTDIR)" "$(PREFIX)"

clean:           ## remove .venv, caches and what was built
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
