# modelward. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
UV := .venv/bin/uv
PY := .venv/bin/python
EXTRAS := controller admission sidecar jobs he
COMPILE = $(UV) pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header --custom-compile-command "make lock"
export CMAKE_TOOLCHAIN_FILE := $(CURDIR)/requirements/seal.cmake

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-18s %s\n", $$1, $$2}'

.venv/bin/uv:
	python3 -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check uv==0.13.9

setup: .venv/.ready ## Make .venv with every extra and the development tools, from the hashed locks

.venv/.ready: .venv/bin/uv pyproject.toml requirements/dev.txt
	$(UV) pip install --quiet --python $(PY) --require-hashes -r requirements/dev.txt
	$(UV) pip install --quiet --python $(PY) --no-deps -e .
	@touch $@

lock: .venv/bin/uv ## Compile requirements/*.txt from pyproject.toml (versions and hashes, no addresses)
	for extra in $(EXTRAS); do $(COMPILE) --extra $$extra -o requirements/$$extra.txt; done
	$(COMPILE) $(addprefix --extra ,$(EXTRAS)) --group dev -o requirements/dev.txt

.PHONY: help setup lock
