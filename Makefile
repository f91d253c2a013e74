# Everything a developer or a first-time user runs. `make venv` is a no-op once pyproject.toml's dependencies are installed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: venv check test proto serve

venv: $(STAMP)

$(STAMP): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "ossia needs Python 3.11 or newer: make PYTHON=python3.11"; exit 2; }
	@echo "installing ossia and its dependencies into $(VENV) (minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'torch==2.13.*'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

serve: venv
	@exec $(BIN)/ossia serve $(ARGS)

check: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m tests.imports

test: venv
	$(BIN)/python -m pytest $(ARGS)

proto: venv
	$(BIN)/python proto/generate.py
