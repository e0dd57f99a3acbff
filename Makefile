# `make run` shows a real search on generated scenes; `make test` is what CI runs.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# the first Python from 3.11 to 3.13 on the PATH; override with `make PYTHON=...`
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
READY := .venv/.ready
RESULTS ?= results
PARITY ?= ../shared/parity
# what the environment takes on disk
ROOM := 2.5 GB; 6.5 GB with torch's CUDA build

# libgomp's spinning barriers cost 10-80x when two processes share two cores; no library may report home
export OMP_WAIT_POLICY := PASSIVE
export RAY_USAGE_STATS_ENABLED := 0
export MLFLOW_DISABLE_TELEMETRY := true
export ORT_DISABLE_TELEMETRY := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# every worker of a search would compile torch and Ray again, which takes longer than to import them
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup run test test-scale lint format schemas bench parity dashboard clean check

help:  ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): setup.cfg pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11, 3.12 or 3.13 found"; echo; echo "hint: install one, or name it: make PYTHON=/path/to/python3.12"; exit 2; }
	@echo "Installing into .venv ($$($(PYTHON) --version); 1-3 minutes, $(ROOM)) ..."
	@# what an interrupted or failed attempt left behind has a python and no pip
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv .venv || { echo "error: $(PYTHON) -m venv failed"; echo; echo "hint: on Debian/Ubuntu: apt-get install python3-venv (python3.12-venv for a python3.12 beside the system's own)"; exit 2; }
	@# the resolver of pip 23 needs five minutes for this set, the current one half a minute
	@$(BIN)/python -m pip install --quiet --upgrade pip setuptools wheel && $(BIN)/python -m pip install --quiet --no-compile -e '.[dev]' || { \
		echo "error: pip did not install everything; it says why above"; echo; \
		echo "hint: the packages take $(ROOM), and pip a GB meanwhile in $${TMPDIR:-/tmp}; free are $$(df -h --output=avail . | tail -1 | xargs) here and $$(df -h --output=avail $${TMPDIR:-/tmp} | tail -1 | xargs) there"; exit 1; }
	@$(BIN)/python -m pip check
	@# compiles what is used and nothing else
	@$(BIN)/python -c 'import trials.run, automl.ray_engine, automl.carry, deploy.promotion, mlflow.store.tracking.sqlalchemy_store, onnx, onnxruntime'
	@touch $@

setup: $(READY)  ## make .venv and install everything

run: $(READY)  ## a real search on generated stereo scenes, ending in a promoted ONNX model
	@# sed: what sample says to type next is what follows here
	@if [ -e $(RESULTS)/demo/study.yaml ]; then \
		$(BIN)/automl resume $(RESULTS)/demo; \
	else \
		$(BIN)/depth_net sample --out $(RESULTS)/sample --scenes 24 --seed 7 | sed '/^next: /d' && \
		$(BIN)/automl run --skill depth_net_stereo -e $(RESULTS)/sample/stereo.yaml --results $(RESULTS)/demo --trials 6 --epochs 4 --parallel 2 --yes; \
	fi

lint: $(READY)  ## ruff, mypy --strict, layer contracts, duplicate code
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/pylint --disable=all --enable=duplicate-code --min-similarity-lines=8 --ignore-imports=y search_spaces models trials deploy automl

test: lint  ## lint, types, layers and all tests
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m 'not scale' tests

test-scale: $(READY)  ## several ranks, a Ray cluster, PostgreSQL, tracking services (7 minutes, more on a busy machine; nightly)
	@$(BIN)/python -m pip install --quiet --no-compile -e '.[scale]'
	@$(BIN)/python -m pytest -m scale --session-timeout=1800 tests/scale

check: test  ## the same as test

format: $(READY)  ## rewrite the code in the one format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

schemas: $(READY)  ## regenerate the skills' schemas and docs/spec.md from the typed spec
	@$(BIN)/python -m search_spaces.schema
	@$(BIN)/python -m search_spaces.spec_page > docs/spec.md

bench: $(READY)  ## benchmarks with small settings; figures in docs/benchmarks.md
	@for script in parts stereo_step controller_share; do echo "== bench/$$script.py"; $(BIN)/python bench/$$script.py; done

parity: $(READY)  ## networks against oracles: make parity PARITY=folder
	@$(BIN)/python -m models.parity $(PARITY)

dashboard: $(READY)  ## MLflow on 127.0.0.1 for the studies in results/
	@$(BIN)/automl dashboard $(RESULTS)/demo

clean:  ## remove .venv and caches; results/ is yours and stays
	@rm -rf .venv *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -not -path './results/*' -exec rm -rf {} +
