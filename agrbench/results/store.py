"""One JSON record a cell, written whole or not at all; the path says what the cell is.

Records are data: reading one runs nothing of what it says.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from agrbench.cells import PROTOCOL, Cell
from agrbench.errors import AgrbenchError, RecordError
from agrbench.results.record import SCHEMA, Record, check, curves, plain

HEAVIEST = 2**26  # bytes; a record of a million rounds has fewer
LONGEST = 240  # letters of a folder's name; file systems take 255 bytes
SAFE = "+=,()"  # kept as they are in a path, besides letters, digits and "_.-"


@dataclass(frozen=True)
class Store:
    """A folder of records."""

    folder: Path

    def path(self, cell: Cell) -> Path:
        """Say where a cell's record lies."""
        parts = [_quoted(part) for part in (cell.dataset, cell.defense, cell.attack)]
        return self.folder.joinpath(*parts, f"seed-{cell.seed}-{cell.key}.json")

    def read(self, cell: Cell) -> Record | None:
        """Read a cell's record, `None` where there is none.

        Raises:
            RecordError: the file there is no record.
        """
        path = self.path(cell)
        return read(path) if path.exists() else None

    def write(self, record: Record) -> Path:
        """Write a record under a temporary name, flush it to disk and rename it."""
        path = self.path(Cell.from_json(record["cell"]))
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(plain(record), indent=1, allow_nan=False) + "\n"
        temporary = path.with_name(f"{path.stem}-{os.getpid()}.part")
        try:
            with temporary.open("w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return path


def read(path: Path) -> Record:
    """Read and check one record.

    Raises:
        RecordError: the file is damaged, no record, or of a newer schema.
    """
    record = load(path, "delete it, and the grid will compute it again")
    if not isinstance(record, dict) or not isinstance(record.get("schema"), int) or "cell" not in record:
        raise RecordError(f"{path}: not a record of agrbench; move it elsewhere")
    if record["schema"] > SCHEMA:
        raise RecordError(
            f"{path}: written in schema {record['schema']}, this version reads {SCHEMA}; upgrade agrbench"
        )
    try:
        cell = Cell.from_json(record["cell"])
        if not f"{cell.dataset}{cell.defense}{cell.attack}".isprintable():
            raise ValueError("its cell's names hold characters that cannot be printed")
        check(record)
    except (AgrbenchError, KeyError, TypeError, ValueError) as error:
        raise RecordError(
            f"{path}: not a complete record ({error}); delete it, and the grid will compute it again"
        ) from error
    if record["protocol"] == PROTOCOL and cell.key not in path.name:
        raise RecordError(f"{path}: its name does not end in its cell's key {cell.key}; do not rename or edit records")
    return record


def load(path: Path, advice: str) -> Any:
    """Read JSON that may come from anywhere; `advice` says what to do with a file that holds none.

    Raises:
        RecordError: it is no plain file, too large, or no JSON.
    """
    try:
        if path.exists() and not path.is_dir() and not path.is_file():
            raise RecordError(f"{path}: no plain file; move it elsewhere")
        if path.stat().st_size > HEAVIEST:
            raise RecordError(f"{path}: larger than {HEAVIEST >> 20} MiB, which no record is; move it elsewhere")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror}); give the path of a record") from error
    except UnicodeDecodeError as error:
        raise RecordError(f"{path}: not JSON ({error}); {advice}") from error
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path}: not JSON ({error}); {advice}") from error


def collect(folders: Iterable[Path]) -> Iterator[tuple[Path, Record]]:
    """Read all records of several folders, in the order of their paths.

    Raises:
        RecordError: a file is no record, or two folders hold different results for one cell.
    """
    records, refused = sift(folders)
    if refused:
        raise refused[0]
    yield from records


def sift(folders: Iterable[Path]) -> tuple[list[tuple[Path, Record]], list[RecordError]]:
    """Read all records of several folders, in the order of their paths, and keep what is wrong with other files.

    Raises:
        RecordError: there is no such folder.
    """
    seen: dict[str, tuple[Path, Record]] = {}
    refused: list[RecordError] = []
    for folder in folders:
        if not folder.is_dir():
            raise RecordError(f"{folder}: no such folder; give a folder that `agrbench grid --out` wrote")
        for path in sorted(folder.rglob("*.json")):
            try:
                record = read(path)
                key = json.dumps([record["cell"], record["protocol"]], sort_keys=True)
                first, other = seen.setdefault(key, (path, record))
                if curves(other) != curves(record):
                    raise RecordError(f"{first} and {path} are one cell with different results; remove one of them")
            except RecordError as error:
                refused.append(error)
    return list(seen.values()), refused


def _quoted(part: str) -> str:
    if set(part) == {"."}:
        return part.replace(".", "%2E")
    quoted = quote(part, safe=SAFE).replace("~", "%7E")
    if len(quoted) > LONGEST:
        raise RecordError(f"{part[:80]}... is too long for a file name; write fewer stages or hyperparameters")
    return quoted
