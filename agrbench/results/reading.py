"""Read one record from a file or a line, and find the files of a folder; what is read may come from anywhere."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agrbench.cells import Cell
from agrbench.data.files import kind
from agrbench.errors import AgrbenchError, RecordError
from agrbench.results.record import SCHEMA, Record, check

HEAVIEST = 2**26  # bytes; a record of a million rounds has fewer
AGAIN = "delete it, or let the grid compute it again"


class Damaged(RecordError):
    """Refuse a file or line that is no whole record; nothing is lost if it is computed again."""


def is_folder(path: Path) -> bool:
    """Return whether a path leads to a folder; false, not an error, if it cannot be followed."""
    return kind(path) == stat.S_IFDIR


def load(path: Path, advice: str) -> Any:
    """Read JSON that may come from anywhere; `advice` says what to do with a file that holds none.

    Raises:
        RecordError: it is not a plain file, too large, or not JSON.
    """
    return parsed(_text(path, advice), str(path), advice)


def files(folder: Path) -> Iterator[Path | RecordError]:
    """List the files of a folder that may be records, sorted by path, then the folders that cannot be read.

    Links to folders are followed, and a folder that several paths lead to is read once. Hidden files and folders are
    skipped: they belong to editors and systems.
    """
    refused: list[RecordError] = []
    seen = {_identity(folder)}
    found: list[Path] = []

    def refuse(error: OSError) -> None:
        refused.append(RecordError(f"{error.filename}: cannot be read ({error.strerror}); allow it, or move it away"))

    for name, folders, names in os.walk(folder, followlinks=True, onerror=refuse):
        here = Path(name)
        folders[:] = [each for each in sorted(folders) if each[0] != "." and _first(here / each, seen)]
        found += [here / each for each in names if each[0] != "." and each.endswith(".json")]
    yield from sorted(found)
    yield from refused


def _first(folder: Path, seen: set[tuple[int, int]]) -> bool:
    """Return whether a folder is met for the first time, and note it."""
    met = _identity(folder) in seen
    seen.add(_identity(folder))
    return not met


def _identity(folder: Path) -> tuple[int, int]:
    try:
        told = folder.stat()
    except OSError:
        return hash(folder), 0  # a folder that cannot be followed is refused by its path
    return told.st_dev, told.st_ino


def checked(record: Any, name: str) -> Record:
    """Check what was read as a record; `name` says where it is from.

    Raises:
        Damaged: it is not a whole record.
        RecordError: it is of a newer schema.
    """
    if not isinstance(record, dict) or not isinstance(record.get("schema"), int) or "cell" not in record:
        raise Damaged(f"{name}: not a record of agrbench; move it elsewhere")
    if record["schema"] > SCHEMA:
        raise RecordError(
            f"{name}: written in schema {record['schema']}, this version reads {SCHEMA}; upgrade agrbench"
        )
    try:
        cell = Cell.from_json(record["cell"])
        if not f"{cell.dataset}{cell.defense}{cell.attack}".isprintable():
            raise ValueError("its cell's names hold characters that cannot be printed")
        check(record)
    except (AgrbenchError, KeyError, TypeError, ValueError) as error:
        raise Damaged(f"{name}: not a complete record ({error}); {AGAIN}") from error
    return record


def _text(path: Path, advice: str) -> str:
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise RecordError(f"{path}: no plain file; move it elsewhere")
        if path.stat().st_size > HEAVIEST:
            raise RecordError(f"{path}: larger than {HEAVIEST >> 20} MiB, which no record is; move it elsewhere")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror}); give the path of a record") from error
    except UnicodeDecodeError as error:
        raise Damaged(f"{path}: not JSON ({error}); {advice}") from error


def parsed(text: str | bytes, name: str, advice: str) -> Any:
    """Read JSON; `name` says where it is from, `advice` what to do if it is none.

    Raises:
        Damaged: it is not JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{name}: not JSON ({error}); {advice}") from error
