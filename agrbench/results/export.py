"""Write flat rows as files: CSV, JSON or Parquet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from agrbench.errors import AgrbenchError
from agrbench.results.record import plain
from agrbench.results.text import cell, whole
from agrbench.results.writing import write_whole, writing

Rows = list[Mapping[str, Any]]


def save(rows: Iterable[Mapping[str, Any]], form: str, path: Path) -> int:
    """Write rows into a file, whole or not at all, and count them.

    Raises:
        AgrbenchError: there are no rows, the file cannot be written, or pyarrow is not installed, which Parquet needs.
    """
    found = list(rows)
    if not found:
        raise AgrbenchError("there is no finished record; run `agrbench grid` first, or name another folder")
    content = FORMATS[form](found)
    with writing(path):
        write_whole(path, content)
    return len(found)


def as_csv(rows: Rows) -> bytes:
    """Write rows as CSV; text that a spreadsheet would take for a formula begins with an apostrophe."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: cell(value) for name, value in row.items()} for row in rows)
    return stream.getvalue().encode()


def as_json(rows: Rows) -> bytes:
    """Write rows as a JSON list of objects."""
    return json.dumps(whole(plain(rows)), indent=1).encode() + b"\n"


def as_parquet(rows: Rows) -> bytes:
    """Write rows as Parquet with pyarrow.

    Raises:
        AgrbenchError: pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise AgrbenchError(
            "pyarrow writes Parquet files and is not installed; write pip install 'agrbench[parquet]', or --format csv"
        ) from error
    stream = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(whole(list(rows))), stream)
    return stream.getvalue()


FORMATS: Mapping[str, Callable[[Rows], bytes]] = {"csv": as_csv, "json": as_json, "parquet": as_parquet}
