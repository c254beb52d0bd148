# What people and CI call. `make run` needs nothing but Python 3.11 and make, and says so if Python lacks a part.

PYTHON ?= python3
BIN := .venv/bin
RUN := .venv/ready-to-run
TEST := .venv/ready-to-test
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
FAILED := { echo "The packages cannot be installed; pip says why above. Mend that, and call make again." >&2; exit 1; }
DEPLOY := deploy/.venv/ready

.PHONY: run test test-deploy test-workspaces deploy-tools lint client bench bench-reload bench-deploy soak clean own-venv

run: $(RUN)
	@exec $(BIN)/sandbox run

# CI chooses a few of the slow ones besides.
test: CHOICE ?= not slow
test: lint $(DEPLOY)
	@command -v curl >/dev/null || { echo "The tests need curl: apt-get install curl" >&2; exit 1; }
	@exec $(BIN)/python -m pytest -p tests.no_skips -n 3 --dist worksteal -m "$(CHOICE)"

# The deploys that take minutes: a kill in every phase, a link that is cut, deploys under load.
test-deploy: $(TEST) $(DEPLOY)
	@exec $(BIN)/python -m pytest -p tests.no_skips -n 4 --dist worksteal --durations 10 -m slow tests/deploy

# Workspaces of a real project: kills, updates, rebuilds, sleep.
test-workspaces: $(TEST)
	@exec $(BIN)/python -m pytest -p tests.no_skips -n 3 --dist worksteal --durations 10 tests/workspaces

# fab, for deploys: docs/deploy.md
deploy-tools: $(DEPLOY)
	@echo "Deploy with: deploy/.venv/bin/fab -r deploy STAGE deploy"

lint: $(TEST)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

client: $(TEST)  # its half without async is made of the other one
	@$(BIN)/python client/make_sync.py

bench: $(RUN)
	@exec $(BIN)/python bench/run.py

bench-reload: $(RUN)
	@exec $(BIN)/python bench/reload.py

bench-deploy: $(TEST) $(DEPLOY)
	@exec $(BIN)/python -m pytest -q -s -n 0 tests/deploy/speed.py

soak: $(TEST)
	@exec $(BIN)/python -m tests.faults.soak $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED))

clean:
	rm -rf .venv deploy/.venv deploy/.build build dist *.egg-info client/build client/*.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis bench/.venv
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A virtualenv that was copied runs the code of the folder that it was made in, and installs there.
own-venv:
	@made=$$(sed -n 's/^command = .* -m venv \(--[a-z-]* \)*//p' .venv/pyvenv.cfg 2>/dev/null); \
	[ "$${made:-$(CURDIR)/.venv}" = "$(CURDIR)/.venv" ] || \
	    { echo ".venv was made for $$made, and would run the code there: make clean, and call make again." >&2; exit 1; }

$(RUN): requirements.txt requirements-fast.txt pyproject.toml setup.py | own-venv
	@command -v $(PYTHON) >/dev/null || \
	    { echo "sandbox needs Python: apt-get install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "sandbox needs Python 3.11 or newer; name it: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	    { echo "Python cannot make a virtualenv here: apt-get install python3-venv" >&2; exit 1; }
	@echo "Setting up .venv; this happens once, and may take a minute or two."
	@echo "  1/4  a virtualenv"
	@$(PYTHON) -m venv .venv
	@echo "  2/4  the packages that requirements.txt names"
	@$(PIP) -r requirements.txt || $(FAILED)
	@echo "  3/4  gunicorn's HTTP parser in C"
	@$(PIP) -r requirements-fast.txt >/dev/null 2>&1 || \
	    echo "       It cannot be built; the one in Python does the same. (It wants: apt-get install gcc python3-dev)"
	@echo "  4/4  sandbox itself"
	@$(PIP) --no-deps --editable . || $(FAILED)
	@touch $@

$(DEPLOY): deploy/requirements.txt
	@echo "Setting up fab for deploys; this happens once."
	@$(PYTHON) -m venv deploy/.venv
	@deploy/.venv/bin/pip install --quiet --disable-pip-version-check -r deploy/requirements.txt || $(FAILED)
	@touch $@

$(TEST): $(RUN) requirements-test.txt client/pyproject.toml
	@echo "Installing what the tests need; this happens once."
	@$(PIP) -r requirements-test.txt || $(FAILED)
	@$(BIN)/python -m compileall -q service  # the tests start a thousand processes, which may be told to keep no bytecode
	@touch $@
