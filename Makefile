# fl-app: installation, demonstration and checks. Needs Python 3.11 or newer, git and make.
#   make PYTHON=python3.12 demo      another interpreter

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RUNS ?= $(HOME)/fl-app/runs

export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1

# without bytecode every process compiles torch anew
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo install test test-faults docker-check check audit docs clean

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST)

demo: install ## Train on five simulated hospitals with the data that comes along, and show where the pictures are
	@$(BIN)/fl-app run demo --nodes 5 --out "$(RUNS)"

install: $(STAMP) ## Make .venv and install everything into it

# On a busy machine two threads are several times slower than one.
test test-faults docker-check check: export OMP_NUM_THREADS := 1

# Files of tests run side by side, one on a core, but those that start Ray one after the other: see tests/conftest.py.
# A process that dies ends it all, with the test's name: xdist's restarts wait for ever where the last tests are given out already.
test: install ## Run the tests
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --max-worker-restart 0

test-faults: install ## Break a federation of real processes in a dozen ways
	$(BIN)/python -m pytest tests/faults --numprocesses 2 --max-worker-restart 0 --durations=0

# With FL_APP_IMAGE_ROOT, an unpacked image (docker/build-without-engine.sh), also from that image's own files.
docker-check: install ## Check docker/, and bring its services up as processes on loopback
	$(BIN)/python -m pytest tests/docker
	$(BIN)/python -m pytest tests/docker/processes --durations=5 -rs

check: install ## Formatting, lint, types, floors, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(MAKE) test

# Tools in an environment of their own, so that the SBOM does not list them.
audit: install ## A CycloneDX SBOM of .venv, build/sbom.json, and its known vulnerabilities: status 0 none, 1 some, 3 not all looked up
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python build/audit
	$(BIN)/uv pip install --quiet --python build/audit/bin/python --group audit -c constraints.txt
	$(BIN)/python -m tools.audit $(VENV) --tools build/audit/bin --out build/sbom.json

docs: install ## The pages of the Python interface, from its docstrings: build/api/index.html
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs/api build/api

clean: ## Remove what the targets above made, but no run folder
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -type d -name __pycache__ -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "fl-app needs Python 3.11 or newer, but '$(PYTHON)' is $$($(PYTHON) -V 2>&1 || echo missing)." >&2; \
	  echo "Install a newer one and name it: make PYTHON=python3.12 $(or $(MAKECMDGOALS),demo)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "'$(PYTHON)' cannot make virtual environments: its modules venv and ensurepip are missing." >&2; \
	  echo "On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv -c constraints.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python -e ".[dev]" -c constraints.txt
	@touch $(STAMP)
