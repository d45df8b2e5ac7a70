# make grid   run the benchmark (ARGS= passes options through)
# make test   lint, types and tests
# make gate   run the suite baseline and compare it with leaderboard/baseline.jsonl: exits with 1 where something got worse
# make baseline   recompute leaderboard/baseline.jsonl, after an intended change for the worse
PYTHON ?= python3
BIN := .venv/bin

.PHONY: grid test lint gate baseline clean

grid: .venv/.installed
	@$(BIN)/agrbench grid $(ARGS)

test: lint
	$(BIN)/pytest -n auto --dist worksteal $(ARGS)

lint: .venv/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

# Start from an empty folder: a change of the harness makes no record stale.
gate: .venv/.installed
	@rm -rf build/gate && mkdir -p build/gate
	@$(BIN)/agrbench grid --suite baseline --out build/gate > build/gate.txt
	@$(BIN)/agrbench compare leaderboard/baseline.jsonl build/gate $(ARGS)

baseline: .venv/.installed
	rm -rf build/baseline leaderboard/baseline.jsonl
	$(BIN)/agrbench grid --suite baseline --out build/baseline
	$(BIN)/agrbench pack build/baseline leaderboard/baseline.jsonl

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
