# make grid   run the benchmark (ARGS= passes options through)
# make test   lint, types and tests
# make gate   run the suite baseline and compare it with leaderboard/baseline.jsonl: exits with 1 where something got worse
# make site   build the documentation into build/site
# make lowest   the tests in VERSIONS, with the lowest versions that pyproject.toml admits, under PYTHON
# make newest   the same with the newest; both make an environment of their own in build/
# make baseline   recompute leaderboard/baseline.jsonl, after an intended change for the worse
PYTHON ?= python3
BIN := .venv/bin
# What each dependency is used for: commands and progress, tables, data files, statistics, tensors, drawn examples.
VERSIONS ?= tests/cli/test_main.py tests/cli/test_list.py tests/cli/test_data.py tests/data tests/datasets/test_datasets.py \
    tests/results/test_formats.py tests/results/test_statistics.py tests/server tests/plugins/test_registry.py

.PHONY: grid test lint site gate baseline lowest newest clean

grid: .venv/.installed
	@$(BIN)/agrbench grid $(ARGS)

test: lint
	$(BIN)/pytest -n auto --dist worksteal $(ARGS)

lint: .venv/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

site: .venv/.installed-test
	$(BIN)/mkdocs build

# Start from an empty folder: a change of the harness makes no record stale.
gate: .venv/.installed
	@rm -rf build/gate && mkdir -p build/gate
	@$(BIN)/agrbench grid --suite baseline --out build/gate > build/gate.txt
	@$(BIN)/agrbench compare leaderboard/baseline.jsonl build/gate $(ARGS)

baseline: .venv/.installed
	rm -rf build/baseline leaderboard/baseline.jsonl
	$(BIN)/agrbench grid --suite baseline --out build/baseline
	$(BIN)/agrbench pack build/baseline leaderboard/baseline.jsonl

# uv resolves a range to its lower end, among the versions that have a wheel for this Python.
lowest: RESOLUTION := lowest-direct
newest: RESOLUTION := highest
lowest newest:
	$(PYTHON) -m venv --clear build/$@
	build/$@/bin/python -m pip install --quiet -c constraints.txt uv
	build/$@/bin/uv pip install --quiet --python build/$@ --only-binary :all: --resolution $(RESOLUTION) \
	    -r pyproject.toml --extra parquet --extra test
	build/$@/bin/uv pip install --quiet --python build/$@ --no-deps -e .
	build/$@/bin/uv pip list --python build/$@
	build/$@/bin/python -m agrbench data get location30
	build/$@/bin/pytest $(VERSIONS) $(ARGS)

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
