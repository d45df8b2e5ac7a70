# make grid   run the benchmark (ARGS= passes options through)
# make test   lint, types and tests
PYTHON ?= python3
BIN := .venv/bin

.PHONY: grid test lint clean

grid: .venv/.installed
	@$(BIN)/agrbench grid $(ARGS)

test: lint
	$(BIN)/pytest -n auto --dist worksteal $(ARGS)

lint: .venv/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "agrbench needs Python 3.11 or newer: install it and write make PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.installed: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	@touch $@

.venv/.installed-test: .venv/.installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test]'
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-deps byzfl
	@touch $@

clean:
	rm -rf .venv build dist *.egg-info
