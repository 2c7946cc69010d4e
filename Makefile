# `make run` on a fresh machine sets everything up and starts the bot; `make test` does the same for the tests.
# Both are safe to repeat and quick the second time.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Your own constraints stay in use until others are named; otherwise the next installation would replace this machine's
# build of torch with the one from PyPI.
CONSTRAINTS ?= $(or $(shell cat $(VENV)/.constraints 2>/dev/null),constraints.txt)

.PHONY: run setup test lint types bench train clean FORCE

run: setup
	@$(BIN)/python -m bot

setup: $(VENV)/.installed

test: $(VENV)/.installed-test lint types
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-test
	$(BIN)/mypy

bench: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks

train: $(VENV)/.installed-train
	$(BIN)/python -m training all

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS) $(VENV)/.constraints
	$(call install,.)

$(VENV)/.installed-test: pyproject.toml $(CONSTRAINTS) $(VENV)/.constraints
	$(call install,.[test])
	@touch $(VENV)/.installed

$(VENV)/.installed-bench: pyproject.toml $(CONSTRAINTS) $(VENV)/.constraints
	$(call install,.[bench])
	@touch $(VENV)/.installed

$(VENV)/.installed-train: pyproject.toml $(CONSTRAINTS) $(VENV)/.constraints
	$(call install,.[train])

# Written only when other constraints are named, so that nothing is reinstalled otherwise.
$(VENV)/.constraints: FORCE
	@mkdir -p $(VENV)
	@test "$$(cat $@ 2>/dev/null)" = "$(CONSTRAINTS)" || echo "$(CONSTRAINTS)" > $@

define install
	@$(PYTHON) -c 'import sys; (3, 11) <= sys.version_info < (3, 15) or sys.exit("Python 3.11 to 3.14 is needed, and this is " + sys.version.split()[0] + ". Name another one: make $(or $(MAKECMDGOALS),run) PYTHON=python3.14")'
	@$(BIN)/python -c '' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip
	@echo "Installing into $(VENV) (a few minutes the first time) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) --editable "$(1)"
	@test -e $(VENV)/.constraints || echo "$(CONSTRAINTS)" > $(VENV)/.constraints
	@touch $@
endef
