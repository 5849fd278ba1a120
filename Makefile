# `make help` lists what there is.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# The first of these that is new enough; `make PYTHON=/path/to/python train` chooses.
PYTHONS := python3 python3.13 python3.12 python3.11
RECENT := -c 'import sys; sys.exit(sys.version_info < (3, 11))'
PYTHON ?= $(shell for p in $(PYTHONS); do \
	$$p $(RECENT) 2>/dev/null && echo $$p && break; done)
ARGS ?=

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help train test test-slow test-signals lint format types setup clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

train: $(VENV)/.base ## set up .venv and train the main job (ARGS="seeds=5" is passed on)
	$(BIN)/rl-grads train $(ARGS)

test: $(VENV)/.dev ## set up .venv and run the fast tests
	$(BIN)/pytest -n 2 --dist worksteal --timeout 300 --durations 10 -m "not slow and not gpu"

test-slow: $(VENV)/.dev ## the tests that take longer
	$(BIN)/pytest -n 2 --dist worksteal --timeout 1800 -m "slow and not gpu"

test-signals: $(VENV)/.dev ## forty random moments for each signal that stops a run
	RL_GRADS_SIGNALS=40 $(BIN)/pytest -n 2 --timeout 300 tests/cli/test_signals.py

lint: $(VENV)/.dev ## style: ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.dev ## rewrite the code in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.dev ## types: pyright
	$(BIN)/pyright --pythonpath $(BIN)/python

setup: $(VENV)/.dev ## set up .venv for development

clean: ## remove .venv and the caches
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis dist

$(BIN)/python:
	@$(or $(PYTHON),false) $(RECENT) 2>/dev/null || { \
	  echo "rl_grads needs Python >= 3.11, not $$($(or $(PYTHON),python3) --version 2>&1)" >&2; \
	  exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.base: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing rl_grads into $(VENV) (a minute or two)"
	@$(PIP) install -qq -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing rl_grads and its test tools into $(VENV) (a minute or two)"
	@$(PIP) install -qq -c constraints.txt -e ".[dev]"
	@touch $(VENV)/.base $@
