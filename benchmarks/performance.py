"""Measure everything in docs/performance.md, and write that page: `python benchmarks/performance.py`.

Every script of this folder with a function `rows`, tests aside, yields rows `(what, measured, goal, remark)`. Each runs
in a separate process, unaffected by another's threads and memory. Run this on a quiet machine: the page says how busy
it was.
"""

from __future__ import annotations

import datetime
import importlib
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tabulate import tabulate

from agrbench import machine

HERE = Path(__file__).parent
TARGET = HERE.parent / "docs" / "performance.md"
PAGE = """\
# How fast is it?

Written by `python benchmarks/performance.py`; nothing here is typed by hand. What `agrbench bench` measures, and how to
read it, is in [bench.md](bench.md).

* {day}, {cpu}, {threads} cores; agrbench {agrbench}, torch {torch}, numpy {numpy}, Python {python}
* {minutes:.0f} minutes in all. {noise}

## Goals

Ratios are medians of paired repetitions of one run, with the least and the largest. What the machine allows, where it
is known, stands in the last column or in a row of its own.

{tables}
"""
TABLE = """\
Printed by `python benchmarks/{name}.py`, row by row:

{rows}"""

Row = tuple[str, str, str, str]


def main() -> None:
    """Measure, and write the page."""
    noise, began = machine.noise(), time.monotonic()
    tables = [TABLE.format(name=name, rows=written(measured(name))) for name in scripts()]
    text = PAGE.format(
        **machine.environment("cpu", machine.cores()), day=datetime.datetime.now(datetime.UTC).date(),
        noise=f"**{noise}**" if noise else "The machine was quiet.",
        minutes=(time.monotonic() - began) / 60, tables="\n\n".join(tables),
    )  # fmt: skip
    TARGET.write_text(text)
    print(TARGET)


def scripts() -> list[str]:
    """List the names of the scripts that yield rows."""
    paths = sorted(path for path in HERE.glob("*.py") if not path.stem.startswith("test_"))
    return [path.stem for path in paths if "\ndef rows(" in path.read_text()]


def measured(name: str) -> list[Row]:
    """Measure a script's rows in a separate process."""
    print(f"{name} ...", file=sys.stderr, flush=True)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(rows_of, name).result()


def rows_of(name: str) -> list[Row]:
    """Return a script's rows."""
    module: Any = importlib.import_module(name)
    return list(module.rows())


def written(rows: list[Row]) -> str:
    """Write rows as a table."""
    cells = [[cell.replace("|", r"\|") for cell in row] for row in rows]
    return tabulate(cells, headers=("what", "measured", "goal", "remark"), tablefmt="github", disable_numparse=True)


if __name__ == "__main__":
    main()
