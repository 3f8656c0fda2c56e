# `make train` and `make test` do all set-up, and do it again only when something changed.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
BIN := $(VENV)/bin
# Files of tests go to a process a core; threads that wait for others give their core away.
SIDE_BY_SIDE := OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile

.PHONY: train test full lint bench clean

train: $(READY)
	$(BIN)/kilonet train

test: $(READY) lint
	$(SIDE_BY_SIDE) -m "not full"

full: $(READY)
	$(SIDE_BY_SIDE) -m full

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/kilonet bench

KERNELS := $(wildcard src/kilonet/engines/kernels/*.[ch]*)

$(READY): pyproject.toml constraints.txt hatch_build.py $(KERNELS)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Kilonet needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $(READY)

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
