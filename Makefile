# Sendpool: `make run` starts it, `make test` proves it. `make` alone lists everything.

PYTHON ?= python3
PORT ?= 8080
DATA ?= ./data
CYCLES ?= 30
COUNT ?= 100000
AWAY ?= 60
SCENARIO ?= single
MODE ?= single
SECONDS ?= 15

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup-done
LOAD_VENV := .venv-load
LOAD_STAMP := $(LOAD_VENV)/.setup-done
NODE_VENV := .venv-node
NODE_TESTS := tests/acceptance/node
NODE_STAMP := build/node/.setup-done
UV ?= $(BIN)/uv
# The tests that follow `make check` run against what is compiled, which tests/compiled.py sees to.
COMPILED_PYTEST := $(BIN)/python -m pytest -p tests.compiled
# On two cores, whichever is free: most of these tests wait for processes and for time to pass.
SPREAD := -q -n 2 --dist worksteal
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
INSTALL := $(PIP) install --quiet --no-build-isolation --use-pep517
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header $(UPGRADE)

# What mypy checks: strictly the three packages, lightly the rest, once there is something.
TYPED := gateway resolver storage tests \
	$(patsubst %/,%,$(sort $(dir $(wildcard benchmarks/*.py examples/*.py loadtests/*.py))))
STRUCTURE_TESTS := $(wildcard tests/test_*.py)

# $(call stage,name,command): say which stage this is, run it, say how it ended and how long it took.
define stage
@printf '\n==> %s: %s\n' "$$(date +%H:%M:%S)" '$(1)'; began=$$(date +%s); $(2); code=$$?; \
	if [ $$code -eq 0 ]; then word=ok; else word=FAILED; fi; \
	printf '==> %s: %s %s, %d s\n' "$$(date +%H:%M:%S)" '$(1)' $$word $$(($$(date +%s) - began)); exit $$code
endef

.DEFAULT_GOAL := help
.PHONY: help setup compile node-sdk run check test kill-test drain-test fault-test fuzz contract-fuzz bench load open-loop coverage lock clean

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo '  PORT=$(PORT) DATA=$(DATA) (run)   CYCLES=$(CYCLES) (kill-test, drain-test)   AWAY=$(AWAY) (fault-test)   COUNT=$(COUNT) (fuzz)   PYTHON=$(PYTHON) (setup)   UPGRADE=--upgrade (lock)'
	@echo '  SCENARIO=$(SCENARIO) (load)   MODE=$(MODE) (open-loop)   for both and contract-fuzz SECONDS=$(SECONDS) RATE= USERS= LINES= TARGET=demo.json SECRET='

setup: compile ## make the environment in .venv, hash-locked, and compile; quick the second time

# The build tools first, so that what comes only as source is built with a locked tool too.
# The stamp goes last: an interrupted set-up is done again.
$(STAMP): pyproject.toml requirements-build.lock requirements-dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'Sendpool needs Python 3.11 or later; PYTHON=... names another one.' >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	@echo 'Installing into $(VENV), every file checked against its hash; the first time takes a minute or two.'
	@$(PIP) install --quiet --require-hashes --only-binary :all: -r requirements-build.lock
	@$(INSTALL) --require-hashes -r requirements-dev.lock
	@PYTHONWARNINGS='ignore:Editable installation' $(INSTALL) --no-deps --editable .
	@touch $@

# What was compiled from other sources never runs: they are told by their fingerprint. See gateway/compiled.py.
compile: $(STAMP) ## compile the message path of these sources, where there is a C compiler
	@$(BIN)/python setup.py --quiet compile

# npm takes what the lock file names from the registry it is set to. The machine's own Node is good, too.
$(NODE_STAMP): requirements-node.lock $(NODE_TESTS)/package-lock.json
	@rm -rf $(@D) && mkdir -p $(@D) && cp $(NODE_TESTS)/package.json $(NODE_TESTS)/package-lock.json $(@D)
	@{ command -v node && command -v npm; } >/dev/null || { $(PYTHON) -m venv $(NODE_VENV) && \
		$(NODE_VENV)/bin/python -m pip --disable-pip-version-check --no-input install --quiet --require-hashes \
			--only-binary :all: -r requirements-node.lock; }
	@cd $(@D) && PATH="$$PATH:$(CURDIR)/$(NODE_VENV)/bin" npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

node-sdk: $(NODE_STAMP) ## bring Plivo's Node SDK into build/node, and Node if there is none, for its tests

run: compile ## start the gateway with demo data; Ctrl-C drains and stops it
	@exec $(BIN)/sendpool serve --demo --port $(PORT) --data '$(DATA)'

check: $(STAMP) ## ruff, mypy strict, architecture, unit tests: under a minute
	$(call stage,ruff check,$(BIN)/ruff check .)
	$(call stage,ruff format,$(BIN)/ruff format --check .)
	$(call stage,mypy,$(BIN)/mypy $(TYPED))
	$(call stage,architecture,$(BIN)/pytest -q $(STRUCTURE_TESTS))
	$(call stage,unit tests,$(BIN)/pytest -q -n 2 tests/unit)

# Of the load scenarios bulk comes last: what it leaves waiting takes the lane most of a minute.
test: check ## set-up, check, then everything else, compiled: real PostgreSQL, whole processes, kill test
	$(call stage,compile,$(BIN)/python setup.py --quiet compile --strict)
	$(call stage,unit tests compiled,$(COMPILED_PYTEST) -q -n 2 tests/unit)
	$(call stage,contract and integration tests,$(COMPILED_PYTEST) $(SPREAD) -m 'not kill and not alone' tests \
		--ignore=tests/unit --ignore=tests/acceptance $(addprefix --ignore=,$(STRUCTURE_TESTS)))
	$(call stage,acceptance tests,$(COMPILED_PYTEST) $(SPREAD) -m 'not kill and not faults and not alone' tests/acceptance)
	$(call stage,tests that want the machine alone,$(COMPILED_PYTEST) -m alone tests)
	$(call stage,kill and fault tests,SENDPOOL_TEST_CYCLES=$(CYCLES) $(COMPILED_PYTEST) $(SPREAD) --durations=20 \
		-m '(kill or faults) and not alone' tests/acceptance)
	$(call stage,load scenarios,$(MAKE) --no-print-directory load SCENARIO='single reports bulk' SECONDS=8)

kill-test: compile ## kill -9 under load, CYCLES times, and look for what was lost
	$(call stage,kill test,SENDPOOL_TEST_CYCLES=$(CYCLES) $(BIN)/pytest -m kill)

fault-test: compile ## take PostgreSQL away for AWAY seconds, slow it, fill its disk, crowd it, and look for what was lost
	$(call stage,fault tests,SENDPOOL_TEST_AWAY_S=$(AWAY) $(BIN)/pytest -m faults tests/acceptance/faults)

drain-test: compile ## SIGTERM under load, CYCLES times, then cut short or paused, and look for what was lost or left open
	$(call stage,drain test,SENDPOOL_TEST_DRAINS=$(CYCLES) $(BIN)/pytest -m kill -k drain)

fuzz: compile ## fire odd and hostile requests at a gateway of its own, COUNT of them; what finds something is in build/fuzz
	@$(BIN)/python -m tests.fuzz --count $(COUNT) $(if $(SEED),--seed $(SEED))

contract-fuzz: $(STAMP) ## fire requests made from openapi.yaml at a gateway of its own for SECONDS; reports in build/contract
	@$(BIN)/python -m tests.fuzz.described --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

bench: compile ## measure, each figure beside its ceiling in the same run
	@$(BIN)/python -m benchmarks

# What Locust needs goes into an environment of its own: it replaces the I/O of the process it runs in.
$(LOAD_STAMP): requirements-build.lock requirements-load.lock
	@$(LOAD_VENV)/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(LOAD_VENV)
	@echo 'Installing Locust into $(LOAD_VENV), every file checked against its hash; the first time takes a minute.'
	@$(subst $(BIN),$(LOAD_VENV)/bin,$(PIP)) install --quiet --require-hashes --only-binary :all: -r requirements-build.lock
	@$(subst $(BIN),$(LOAD_VENV)/bin,$(INSTALL)) --require-hashes -r requirements-load.lock
	@touch $@

GIVEN = --seconds $(SECONDS) $(if $(RATE),--rate $(RATE)) $(if $(LINES),--lines $(LINES)) \
	$(if $(TARGET),--target '$(TARGET)') $(if $(SECRET),--secret '$(SECRET)')

load: compile $(LOAD_STAMP) ## load test by Locust: SCENARIO=single, bulk or reports; report in build/load
	@$(BIN)/python -m loadtests.locusts $(SCENARIO) $(GIVEN) $(if $(USERS),--users $(USERS))

open-loop: compile ## load test at a fixed rate: MODE=single, hundred, bulk or reports; report in build/load
	@$(BIN)/python -m loadtests.open_loop --mode $(MODE) $(GIVEN)

coverage: $(STAMP) ## which lines and branches the unit tests reach
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest -q tests/unit
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

# The versions of requirements-dev.lock hold for the others, so that what is tested is what runs.
lock: ## write the lock files again (UPGRADE=--upgrade takes newer versions)
	@command -v $(UV) >/dev/null || $(MAKE) setup
	$(COMPILE) pyproject.toml --extra dev -o requirements-dev.lock
	$(COMPILE) --group build -c requirements-dev.lock -o requirements-build.lock
	$(COMPILE) pyproject.toml -c requirements-dev.lock -o requirements.lock
	$(COMPILE) pyproject.toml --extra load -c requirements-dev.lock -o requirements-load.lock
	$(COMPILE) --group node -o requirements-node.lock
	@command -v npm >/dev/null || { echo 'no npm: $(NODE_TESTS)/package-lock.json stays as it is' >&2; exit 0; }; \
		npm install --prefix $(NODE_TESTS) --package-lock-only --omit-lockfile-registry-resolved --ignore-scripts \
			--no-audit --no-fund --loglevel=error && $(BIN)/python $(NODE_TESTS)/lock.py

clean: ## remove caches and build products; .venv and the data folder stay
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .schemathesis .hypothesis .coverage .coverage.* htmlcov
	find gateway resolver storage tests benchmarks examples loadtests -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
