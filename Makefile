# Two commands do everything on a fresh machine with Python 3.11+ and git:
#   make demo    set-up, then a real search on the default task, ending in a table and a picture
#   make test    the fast test suite
# Agents need OpenCode as well: `make opencode` installs it into tools/ with npm; `make test-agents` tests with it.
# `make test-pages` opens the report in Chromium, which is installed from the system's packages.
# `make test-hub` tests papers, jobs, data and publishing against a Hub that runs in the tests; `make test-ray` tests a
# cluster, a Ray on this machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_TRIALS ?= 12

.PHONY: demo test test-pages test-hub test-ray test-agents test-slow lint setup system opencode bench clean

demo: setup
	$(BIN)/autolab run --new --trials $(DEMO_TRIALS)
	$(BIN)/autolab figures
	$(BIN)/autolab report
	@echo "research_results.tsv, research_live_master.json and results/*/ (report.html first) are yours to look at."

test: setup
	$(BIN)/python -m pytest -n 2 -m "not slow and not opencode and not hub and not ray and not browser"

test-pages: setup chromium
	$(BIN)/python -m pytest -m browser

test-hub: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile -m hub

test-ray: setup
	$(BIN)/python -m pytest -m ray

test-agents: setup opencode
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m opencode

test-slow: setup
	$(BIN)/python -m pytest -n 2 -m "slow and not browser and not hub and not ray and not opencode"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m autolab.pack.lint

bench: setup opencode
	$(BIN)/python benchmarks/all.py

setup: $(VENV)/installed system

# The stamp holds the hash of the requirements, so that a changed pin is installed on the next run.
$(VENV)/installed: requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("autolab: Python %d.%d is too old; 3.11 or newer is needed (set PYTHON=)" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

# The sandbox. Without it trials still run, in a weaker mode that every record names.
system:
	@command -v bwrap >/dev/null || sh scripts/install_system.sh

.PHONY: chromium
chromium:
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || sh scripts/install_system.sh chromium

opencode: tools/node_modules/installed

tools/node_modules/installed: tools/package.json tools/package-lock.json tools/install.sh
	sh tools/install.sh
	touch $@

clean:
	rm -rf tools/node_modules $(VENV) build src/*.egg-info
