# `make run` on a fresh machine sets everything up and starts the bot; `make test` does the same for the tests.
# Both are safe to repeat and quick the second time.

PYTHON ?= python3
CONSTRAINTS ?= constraints.txt
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run setup test lint types bench train clean

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

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS)
	$(call install,.)

$(VENV)/.installed-test: pyproject.toml $(CONSTRAINTS)
	$(call install,.[test])
	@touch $(VENV)/.installed

$(VENV)/.installed-bench: pyproject.toml $(CONSTRAINTS)
	$(call install,.[bench])
	@touch $(VENV)/.installed

$(VENV)/.installed-train: pyproject.toml $(CONSTRAINTS)
	$(call install,.[train])

define install
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "Installing into $(VENV) (a few minutes the first time) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) --editable "$(1)"
	@touch $@
endef
