"""Where records are kept: a folder of JSON files, one a cell, or a packed file with one record a line.

Readers take both alike. A file is written whole or not at all, and its path says what the cell is. Records are data:
reading one runs nothing of what it says.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from agrbench.cells import PROTOCOL, Cell
from agrbench.errors import RecordError
from agrbench.results import packed as packing
from agrbench.results import writing
from agrbench.results.packed import PACKED, holds_lines, place_of, write_packed
from agrbench.results.places import place
from agrbench.results.reading import AGAIN, Damaged, checked, files, is_folder, load
from agrbench.results.record import Record, agree, plain

__all__ = [
    "PACKED", "Conflict", "Store", "collect", "holds_lines", "load", "pack", "place", "read", "readable", "sift",
    "unpack", "write_packed",
]  # fmt: skip

Refused = list[RecordError]


class Conflict(RecordError):
    """Refuse two different results for one cell: nobody can say which of them is right."""


@dataclass(frozen=True)
class Store:
    """A folder of records."""

    folder: Path

    def prepare(self) -> None:
        """Create the folder, check that it can be written, and remove what processes that died left in it.

        Raises:
            Unwritable: the system refused to write.
        """
        writing.prepare(self.folder)

    def path(self, cell: Cell) -> Path:
        """Return the path of a cell's record."""
        return self.folder / place(cell)

    def read(self, cell: Cell) -> Record | None:
        """Return a cell's record, or `None` if there is none, with a warning if there is a damaged one.

        Raises:
            RecordError: the file there is of a newer schema, or cannot be read.
        """
        path = self.path(cell)
        if not os.path.lexists(path):
            return None
        try:
            return read(path)
        except Damaged as error:
            warnings.warn(str(error), stacklevel=2)
            return None

    def write(self, record: Record, create: bool = True) -> Path:
        """Write a record, whole or not at all, and return its path; without `create` the folder must be there.

        Raises:
            Unwritable: the system refused to write, or the folder is gone.
        """
        path = self.folder / place_of(record)
        with writing.writing(path):
            if not create:
                writing.still_there(self.folder)
            path.parent.mkdir(parents=True, exist_ok=True)
            writing.write_whole(path, json.dumps(plain(record), indent=1, allow_nan=False) + "\n")
        return path


def pack(folder: Path, packed: Path) -> tuple[int, Refused]:
    """Write the records of a folder into one file, a record a line, sorted by path.

    Return how many there are, and what is wrong with the other files.

    Raises:
        RecordError: two files are one cell with different results, or the packed file holds a record that the folder
            lacks or a line that this version cannot read.
    """
    found, refused = _sound([folder])
    records = {place_of(record): record for _, record in found}
    known = {place_of(record) for _, record in collect([packed])} if os.path.lexists(packed) else set()
    lost = sorted(known - set(records))
    if lost:
        raise RecordError(
            f"{packed} holds {len(lost)} records that {folder} lacks, for example {lost[0]}; "
            f"write another file, or `agrbench pack {packed} {folder}` first"
        )
    write_packed(packed, records.values())
    return len(records), refused


def unpack(packed: Path, folder: Path) -> tuple[int, Refused]:
    """Write the records of a packed file that a folder lacks into it, one file each.

    Return how many records the file has, and what is wrong with its other lines.

    Raises:
        RecordError: the folder holds another result for a cell; nothing is written then.
    """
    found, refused = _sound([packed])
    if is_folder(folder):
        _sound([packed, folder])  # raises a conflict
    store = Store(folder)
    absent = [record for _, record in found if _absent(folder / place_of(record))]
    for record in absent:
        store.write(record)
    return len(found), refused


def _absent(path: Path) -> bool:
    """Return whether a path holds no record; a damaged one counts as none.

    Raises:
        RecordError: the file there is of a newer schema, or cannot be read.
    """
    try:
        return not os.path.lexists(path) or not read(path)
    except Damaged:
        return True


def read(path: Path) -> Record:
    """Read and check one record; `FILE.jsonl/PATH` names one inside a packed file.

    Raises:
        RecordError: the file is damaged, not a record, or of a newer schema.
    """
    for packed in path.parents:
        if holds_lines(packed):
            return packing.line(packed, path.relative_to(packed))
    record = checked(load(path, AGAIN), str(path))
    cell = Cell.from_json(record["cell"])
    if record["protocol"] == PROTOCOL and cell.key not in path.name:
        raise Damaged(f"{path}: its name does not end in its cell's key {cell.key}; do not rename or edit records")
    return record


def collect(sources: Iterable[Path]) -> Iterator[tuple[Path, Record]]:
    """Read all records of several folders and packed files, in the order of their paths; all files must be records.

    Raises:
        RecordError: a file or line is not a record, or two sources hold different results for one cell.
    """
    records, refused = sift(sources)
    if refused:
        raise refused[0]
    yield from records


def readable(sources: Iterable[Path]) -> list[tuple[Path, Record]]:
    """Read all records of several folders and packed files, with a warning for each file or line that is none.

    Raises:
        RecordError: there is no such source, or two hold different results for one cell.
    """
    records, refused = _sound(sources)
    for error in refused:
        warnings.warn(f"left out: {error}", stacklevel=2)
    return records


def sift(sources: Iterable[Path]) -> tuple[list[tuple[Path, Record]], Refused]:
    """Read all records of several folders and packed files, and keep what is wrong with other files and lines.

    Raises:
        RecordError: there is no such folder or packed file.
    """
    seen: dict[str, tuple[Path, Record]] = {}
    refused: Refused = []
    for source in sources:
        for found in packing.lines(source) if holds_lines(source) else _folder(source):
            if isinstance(found, RecordError):
                refused.append(found)
                continue
            path, record = found
            key = json.dumps([record["cell"], record["protocol"]], sort_keys=True)
            first, other = seen.setdefault(key, found)
            if other["status"] == "failed" != record["status"]:
                seen[key] = found  # a failure is no result: a grid computes it again
            elif record["status"] != "failed" and not agree(other, record):
                refused.append(Conflict(f"{first} and {path} are one cell with different results; remove one of them"))
    return list(seen.values()), refused


def _sound(sources: Iterable[Path]) -> tuple[list[tuple[Path, Record]], Refused]:
    """Read records as `sift` does, and raise the first conflict."""
    records, refused = sift(sources)
    for error in refused:
        if isinstance(error, Conflict):
            raise error
    return records, refused


def _folder(folder: Path) -> Iterator[packing.Found]:
    if not is_folder(folder):
        raise RecordError(
            f"{folder}: no such folder; give a folder that `agrbench grid --out` wrote, or a packed file of records"
        )
    for path in files(folder):
        try:
            yield path if isinstance(path, RecordError) else (path, read(path))
        except RecordError as error:
            yield error
