# Irisloop's commands. `make` alone lists them; nothing has to be installed first but Python 3.11+ and make.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-builtin-rules --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.9
UV := VIRTUAL_ENV=$(CURDIR)/$(VENV) UV_HTTP_TIMEOUT=300 $(BIN)/uv
# Progress for a person, silence for a log.
UV_INSTALL := $(UV) pip install $(if $(MAKE_TERMOUT),,--quiet)
# UV_TORCH_BACKEND=cpu (or cu126, rocm6.3, ...) takes torch from PyTorch's own index: the locked version, but another file
# than the locked one, so without its hash. Everything else comes from the lock; the CUDA libraries stay out.
TORCH_LINES := /^(torch|triton|nvidia-.*|cuda-.*)==/
OWN_TORCH = $(UV_INSTALL) --require-hashes --no-deps -r \
		<(awk '/^[a-z0-9]/ {skip = $$0 ~ $(TORCH_LINES)} !skip' requirements.lock) && \
	$(UV_INSTALL) "$$(awk '/^torch==/ {print $$1}' requirements.lock)"
LOCK := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --custom-compile-command "make lock" pyproject.toml
# Named tests only: make test TESTS=tests/unit/kit
TESTS ?= tests/unit tests/contract tests/integration tests/conformance tests/fuzz
# Passed on to the demo: make demo ARGS="--scenario noise --seed 2"
ARGS ?=
E2E_TIMEOUT_S := 900
RELEASED := proto/released.binpb

BASE_READY := $(VENV)/.ready-base
RUN_READY := $(VENV)/.ready-run
DEV_READY := $(VENV)/.ready-dev

.PHONY: help
help: ## list the commands
	@awk 'BEGIN {FS = ":.*## "} /^[a-z][a-z0-9-]*:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

## ---- set-up -------------------------------------------------------------------------------------------------------

# 3.14 is left out until every locked package has a wheel for it.
$(BASE_READY):
	@for python in "$${PYTHON:-}" python3.11 python3.12 python3.13 python3; do \
		[ -n "$$python" ] || continue; \
		"$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || continue; \
		echo "Making $(VENV) with $$("$$python" --version)."; \
		"$$python" -m venv $(VENV) || { \
			echo "That Python cannot make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv." >&2; \
			exit 1; }; \
		break; \
	done; \
	[ -x $(BIN)/python ] || { echo "Python 3.11, 3.12 or 3.13 is needed; PYTHON=/path/to/python names one." >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@touch $@

$(RUN_READY): requirements.lock pyproject.toml $(wildcard proto/gen/*/__init__.py) | $(BASE_READY)
	@echo "Installing what the loop needs (requirements.lock; the first time it fetches 3 GB, torch most of it)."
	@if [ -z "$${UV_TORCH_BACKEND:-}" ]; then $(UV_INSTALL) --require-hashes -r requirements.lock; else $(OWN_TORCH); fi
	@$(UV_INSTALL) --no-deps -e .
	@touch $@

$(DEV_READY): requirements-dev.lock $(RUN_READY)
	@echo "Installing the developers' tools (requirements-dev.lock)."
	@$(UV_INSTALL) --require-hashes -r requirements-dev.lock
	@touch $@

.PHONY: setup lock data clean
setup: $(DEV_READY) ## install everything, the developers' tools too, into .venv
	@echo "Ready: $(VENV)."

lock: $(BASE_READY) ## resolve the dependencies again (UPGRADE=--upgrade for newer ones)
	$(LOCK) $(UPGRADE) --extra all -o requirements.lock
	$(LOCK) $(UPGRADE) --extra dev -c requirements.lock -o requirements-dev.lock
	@! grep -nE 'https?://|^--?(f|i|find-links|index-url|extra-index-url)\b' requirements.lock requirements-dev.lock \
		|| { echo "A lock file names where packages come from; it may not." >&2; exit 1; }

data: $(RUN_READY) ## fetch the demo's images (Debian's dataset-fashion-mnist, or MNIST digits where there is no apt)
	@$(BIN)/python -m services.local.data

clean: ## remove .venv and what tools left; .irisloop, your data, stays
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.*
	find . -name __pycache__ -type d -not -path './.irisloop/*' -prune -exec rm -rf {} +

## ---- running ------------------------------------------------------------------------------------------------------

.PHONY: demo up bench bench-serving bench-monitor
demo: $(RUN_READY) ## watch the loop: images, model, drift, retraining, recovery (ARGS="--scenario noise --seed 2")
	@$(BIN)/irisloop demo $(ARGS)

up: $(RUN_READY) ## start Kafka and the six services; one Ctrl-C stops all (ARGS="--free-ports")
	@$(BIN)/irisloop up $(ARGS)

bench-serving: $(DEV_READY) ## measure serving beside Triton, MLServer and bare onnxruntime (ARGS="--models cnn")
	$(BIN)/python -m tests.bench.serving $(ARGS)

bench-monitor: $(DEV_READY) ## measure false alarms and delays of drift detection, beside River's (ARGS="null --quick")
	$(BIN)/python -m tests.bench.monitor $(ARGS)

bench: $(DEV_READY) ## measure throughput and latency, as docs/benchmarks.md reports them
	$(BIN)/python -m tests.bench $(ARGS)

## ---- checking -----------------------------------------------------------------------------------------------------

.PHONY: check fmt lint types contracts release proto test coverage fuzz e2e
check: ## all that CI runs: lint, types, contracts, tests, and the loop on the embedded Kafka
	@$(MAKE) lint
	@$(MAKE) types
	@$(MAKE) contracts
	@$(MAKE) test
	@$(MAKE) e2e

fmt: $(DEV_READY) ## format the code and sort its imports
	$(BIN)/ruff check --quiet --select I --fix .
	$(BIN)/ruff format .

lint: $(DEV_READY) ## ruff, and the layers that modules may import
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-logo

types: $(DEV_READY) ## mypy, strict
	$(BIN)/mypy services tests tools

contracts: $(DEV_READY) ## buf lint, and buf breaking against the contracts as they were last released
	$(BIN)/buf lint
	$(BIN)/buf breaking --against $(RELEASED)

release: $(DEV_READY) ## keep the contracts as they are now: nothing in them may break from here on
	$(BIN)/buf build --exclude-source-info -o $(RELEASED)

proto: $(DEV_READY) ## generate Python, typed topics and AsyncAPI from proto/, reference pages and dashboards from the code
	$(BIN)/python -m tools.generate_proto
	$(BIN)/python -m tools.asyncapi
	$(BIN)/python -m tools.reference
	$(BIN)/python -m tools.serving_compatibility
	$(BIN)/python -m tools.dashboards

test: $(DEV_READY) ## unit, contract and integration tests (TESTS=tests/unit/ingest for some)
	$(BIN)/python -m pytest $(TESTS)

coverage: $(DEV_READY) ## the same tests at half the speed, with the share of services/ they run, subprocesses too
	@rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest $(TESTS)
	@$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

fuzz: $(DEV_READY) ## throw damaged input at what reads from outside, ten minutes a target (ARGS="images 60")
	$(BIN)/python -m tests.fuzz $(ARGS)

e2e: $(DEV_READY) ## a short run of the whole loop on the embedded Kafka, in real processes
	$(BIN)/python -m pytest tests/e2e --timeout $(E2E_TIMEOUT_S)
