# SigmaTune. `make` alone lists the targets; every target makes the virtual environment that it needs.

SHELL := bash
VENV ?= .venv
LOWEST ?= .venv-lowest
PYTHON ?= python3
# One more than two cores, because some tests wait for processes that they have started.
JOBS ?= 3
ARGS ?=
MARKS ?= not documents and not slow
KERNELS ?= default
PIP_ARGS ?=
CONSTRAINTS ?= constraints.txt

BIN := $(VENV)/bin
RUN := $(VENV)/.installed
DEV := $(VENV)/.installed-dev
PIP := PIP_CONSTRAINT=$(CONSTRAINTS) PIP_BUILD_CONSTRAINT=$(CONSTRAINTS) \
       $(BIN)/python -m pip --disable-pip-version-check install --progress-bar off
# pip compiles what it installs on one core, which takes half of its time. Some packages hold files that are no Python.
COMPILE = $(BIN)/python -m compileall -q -j 0 $(VENV)/lib/python3*/site-packages >/dev/null 2>&1 || true

# The passive policy matters wherever another process is busy: spinning OpenMP threads can slow torch tenfold.
export OMP_WAIT_POLICY = PASSIVE
# Tests start hundreds of processes, which need not compile our modules again.
export PYTHONDONTWRITEBYTECODE =

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test test-all documents test-numerical lowest check lint types floors docs dist format clean

help:  ## List the targets
	@echo "Targets:"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "Variables:"
	@echo "  VENV     the virtual environment ($(VENV))"
	@echo "  PYTHON   the Python that makes it ($(PYTHON))"
	@echo "  JOBS     test processes ($(JOBS))"
	@echo "  ARGS     more arguments for the demo or for pytest"
	@echo "  MARKS    which tests ($(MARKS))"
	@echo "  KERNELS  torch's kernels for test-numerical ($(KERNELS))"
	@echo "  PIP_ARGS more arguments for pip, such as an index of CPU-only torch wheels"
	@echo "  CONSTRAINTS the exact versions to install ($(CONSTRAINTS)); /dev/null for the newest"

demo: $(RUN)  ## Install SigmaTune and run the main job on the bundled model
	$(BIN)/sigmatune demo $(ARGS)

PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

test: $(DEV)  ## Install SigmaTune with its development tools and run the tests
	$(PYTEST) -m "$(MARKS)" $(ARGS)

test-all: MARKS = not documents
test-all: test  ## The same with the slow tests

documents: $(DEV)  ## Check that the documents say what the code does and what the benchmarks measured; every block runs
	$(PYTEST) -m documents tests/test_docs.py tests/test_documents.py tests/test_papers.py $(ARGS)

# The tests whose numbers come out of kernels; a test of the list in tests/numerical.txt is one.
test-numerical: $(DEV)  ## Run the tests whose numbers depend on the processor, KERNELS=default, avx2 or avx512
	ATEN_CPU_CAPABILITY=$(KERNELS) $(PYTEST) -m "$(MARKS)" $$(grep -v '^\#' tests/numerical.txt) $(ARGS)

lowest: $(LOWEST)/bin/pip  ## Install the lowest versions that are allowed, in an environment of their own, and try them
	PIP_CONSTRAINT=constraints-lowest.txt $(LOWEST)/bin/python -m pip --disable-pip-version-check install \
	  --progress-bar off $(PIP_ARGS) -e ".[spectra,eval,train,lora,ray,search]"
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python tools/smoke.py

check: lint types floors docs  ## Lint, format, types, floors, documentation (`make -k check` shows everything that fails)

lint: $(DEV)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python tools/check_names.py
	$(BIN)/python tools/check_users.py

types: $(DEV)
	$(BIN)/python -m mypy

floors: $(DEV)
	$(BIN)/lint-imports

docs: $(DEV)  ## Build the documentation into docs/_build/html, offline and with warnings as errors
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -q -E -W --keep-going -b html docs docs/_build/html

# The tests that run from the unpacked archive are those that read its files; DIST_TESTS=tests runs all.
DIST_TESTS ?= tests/test_packaging.py tests/test_documents.py tests/test_papers.py tests/test_docs.py tests/test_conformance.py tests/test_comfyui.py \
              tests/test_training_input.py tests/test_bundled.py

dist: $(DEV)  ## Build the wheel and the source archive into dist/, check both, run tests from the unpacked archive
	$(PIP) -q build
	rm -rf dist && $(BIN)/python -m build --outdir dist .
	$(BIN)/python tools/check_dist.py dist
	rm -rf dist/unpacked && mkdir dist/unpacked && tar -xzf dist/*.tar.gz --strip-components 1 -C dist/unpacked
	cd dist/unpacked && PYTHONPATH=src OMP_NUM_THREADS=1 $(abspath $(BIN))/python -m pytest -q $(DIST_TESTS) $(ARGS)
	rm -rf dist/unpacked

format: $(DEV)  ## Rewrite the code in the project's format
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

clean:  ## Remove build products and caches; the virtual environment stays
	rm -rf build dist docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests tools benchmarks examples -type d -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

# pip is the last thing that venv installs, so an interrupted venv is made again.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "SigmaTune needs Python 3.11 or newer and '$(PYTHON)' is not; run make with PYTHON=/path/to/python3.11." >&2; \
	  exit 2; }
	@echo "Making $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(LOWEST)/bin/pip:
	@$(PYTHON) -m venv $(LOWEST)

# Stamps: an environment is brought up to date when the packaging files have changed since, and left alone otherwise.
$(RUN): pyproject.toml constraints.txt | $(BIN)/pip
	$(PIP) --no-compile $(PIP_ARGS) -e .
	@$(COMPILE)
	@touch $@

$(DEV): pyproject.toml constraints.txt | $(BIN)/pip
	$(PIP) --no-compile $(PIP_ARGS) -e ".[dev,docs]"
	@$(COMPILE)
	@touch $(RUN) $@
