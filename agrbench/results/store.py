"""Where records are kept: a folder of JSON files, one a cell, or a packed file with one record a line.

Readers take both alike. A file is written whole or not at all, and its path says what the cell is. Records are data:
reading one runs nothing of what it says.
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
from agrbench.results.record import SCHEMA, Record, agree, check, plain

PACKED = ".jsonl"  # how the name of a packed file ends
HEAVIEST = 2**26  # bytes; a record of a million rounds has fewer
LONGEST = 240  # letters of a folder's name; file systems take 255 bytes
SAFE = "+=,()"  # kept as they are in a path, besides letters, digits and "_.-"
AGAIN = "delete it, and the grid will compute it again"


@dataclass(frozen=True)
class Store:
    """A folder of records."""

    folder: Path

    def path(self, cell: Cell) -> Path:
        """Return the path of a cell's record."""
        return self.folder / place(cell)

    def read(self, cell: Cell) -> Record | None:
        """Return a cell's record, or `None` if there is none.

        Raises:
            RecordError: the file there is not a record.
        """
        path = self.path(cell)
        return read(path) if path.exists() else None

    def write(self, record: Record) -> Path:
        """Write a record, whole or not at all, and return its path."""
        path = self.path(Cell.from_json(record["cell"]))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(plain(record), indent=1, allow_nan=False) + "\n")
        return path


def place(cell: Cell, protocol: int = PROTOCOL) -> Path:
    """Return where a cell's record is, relative to its folder or packed file."""
    parts = [_quoted(part) for part in (cell.dataset, cell.defense, cell.attack)]
    return Path(*parts, f"seed-{cell.seed}-{cell.key_under(protocol)}.json")


def write_whole(path: Path, text: str) -> None:
    """Write a text under a temporary name, flush it to disk and rename it."""
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


def pack(folder: Path, packed: Path) -> int:
    """Write all records of a folder into one file, a record a line, sorted by path; return their number.

    Raises:
        RecordError: a file of the folder is not a record, or the packed file holds a record that the folder lacks.
    """
    records = dict(_by_place(collect([folder])))
    known = dict(_by_place(collect([packed]))) if packed.exists() else {}
    lost = sorted(set(known) - set(records))
    if lost:
        raise RecordError(
            f"{packed} holds {len(lost)} records that {folder} lacks, for example {lost[0]}; "
            f"write another file, or `agrbench pack {packed} {folder}` first"
        )
    write_packed(packed, records.values())
    return len(records)


def unpack(packed: Path, folder: Path) -> int:
    """Write all records of a packed file into a folder, one file each; return their number.

    Raises:
        RecordError: a line is not a record, or the folder holds another result for a cell; nothing is written then.
    """
    records = [record for _, record in collect([packed, *([folder] if folder.is_dir() else [])])]
    for record in records:
        Store(folder).write(record)
    return len(records)


def write_packed(packed: Path, records: Iterable[Record]) -> None:
    """Write records into a packed file, sorted by path."""
    lines = dict(sorted(_by_place((packed, record) for record in records)))
    packed.parent.mkdir(parents=True, exist_ok=True)
    keyed = ({"key": _key(record)} | plain(record) for record in lines.values())  # which a file has in its name
    text = "".join(f"{json.dumps(each, separators=(',', ':'), allow_nan=False)}\n" for each in keyed)
    write_whole(packed, text)


def read(path: Path) -> Record:
    """Read and check one record; `FILE.jsonl/PATH` names one inside a packed file.

    Raises:
        RecordError: the file is damaged, not a record, or of a newer schema.
    """
    for packed in path.parents:
        if packed.suffix == PACKED and packed.is_file():
            return _inside(packed, path.relative_to(packed))
    record = _checked(load(path, AGAIN), str(path))
    cell = Cell.from_json(record["cell"])
    if record["protocol"] == PROTOCOL and cell.key not in path.name:
        raise RecordError(f"{path}: its name does not end in its cell's key {cell.key}; do not rename or edit records")
    return record


def load(path: Path, advice: str) -> Any:
    """Read JSON that may come from anywhere; `advice` says what to do with a file that holds none.

    Raises:
        RecordError: it is not a plain file, too large, or not JSON.
    """
    return _parsed(_text(path, advice), str(path), advice)


def collect(sources: Iterable[Path]) -> Iterator[tuple[Path, Record]]:
    """Read all records of several folders and packed files, in the order of their paths.

    Raises:
        RecordError: a file or line is not a record, or two sources hold different results for one cell.
    """
    records, refused = sift(sources)
    if refused:
        raise refused[0]
    yield from records


def sift(sources: Iterable[Path]) -> tuple[list[tuple[Path, Record]], list[RecordError]]:
    """Read all records of several folders and packed files, and keep what is wrong with other files and lines.

    Raises:
        RecordError: there is no such folder or packed file.
    """
    seen: dict[str, tuple[Path, Record]] = {}
    refused: list[RecordError] = []
    for source in sources:
        for found in _packed(source) if holds_lines(source) else _folder(source):
            if isinstance(found, RecordError):
                refused.append(found)
                continue
            path, record = found
            key = json.dumps([record["cell"], record["protocol"]], sort_keys=True)
            first, other = seen.setdefault(key, found)
            if not agree(other, record):
                refused.append(
                    RecordError(f"{first} and {path} are one cell with different results; remove one of them")
                )
    return list(seen.values()), refused


def holds_lines(path: Path) -> bool:
    """Return whether a path names a packed file."""
    return path.suffix == PACKED and path.is_file()


def _folder(folder: Path) -> Iterator[tuple[Path, Record] | RecordError]:
    if not folder.is_dir():
        raise RecordError(
            f"{folder}: no such folder; give a folder that `agrbench grid --out` wrote, or a packed file of records"
        )
    for path in sorted(folder.rglob("*.json")):
        try:
            yield path, read(path)
        except RecordError as error:
            yield error


def _packed(packed: Path) -> Iterator[tuple[Path, Record] | RecordError]:
    for number, line in enumerate(_lines(packed), 1):
        name = f"{packed} line {number}"
        try:
            record = _checked(_parsed(line, name, "delete the line"), name)
            key = record.pop("key", None)
            if record["protocol"] == PROTOCOL and key != _key(record):
                raise RecordError(f"{name}: its key is {key}, its cell's {_key(record)}; do not edit records")
            yield packed / place(Cell.from_json(record["cell"]), record["protocol"]), record
        except RecordError as error:
            yield error


def _lines(packed: Path) -> Iterator[str]:
    try:
        with packed.open(encoding="utf-8") as stream:
            while line := stream.readline(HEAVIEST):
                yield line
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{packed}: cannot be read ({error}); give a packed file of records") from error


def _inside(packed: Path, wanted: Path) -> Record:
    for found in _packed(packed):
        if not isinstance(found, RecordError) and found[0] == packed / wanted:
            return found[1]
    raise RecordError(f"{packed} holds no record {wanted}; `agrbench pack {packed} DIR` writes all of them out")


def _key(record: Record) -> str:
    return Cell.from_json(record["cell"]).key_under(record["protocol"])


def _by_place(records: Iterable[tuple[Path, Record]]) -> Iterator[tuple[str, Record]]:
    for _, record in records:
        yield place(Cell.from_json(record["cell"]), record["protocol"]).as_posix(), record


def _checked(record: Any, name: str) -> Record:
    """Check what was read as a record; `name` says where it is from."""
    if not isinstance(record, dict) or not isinstance(record.get("schema"), int) or "cell" not in record:
        raise RecordError(f"{name}: not a record of agrbench; move it elsewhere")
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
        raise RecordError(f"{name}: not a complete record ({error}); {AGAIN}") from error
    return record


def _text(path: Path, advice: str) -> str:
    try:
        if path.exists() and not path.is_dir() and not path.is_file():
            raise RecordError(f"{path}: no plain file; move it elsewhere")
        if path.stat().st_size > HEAVIEST:
            raise RecordError(f"{path}: larger than {HEAVIEST >> 20} MiB, which no record is; move it elsewhere")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror}); give the path of a record") from error
    except UnicodeDecodeError as error:
        raise RecordError(f"{path}: not JSON ({error}); {advice}") from error


def _parsed(text: str, name: str, advice: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{name}: not JSON ({error}); {advice}") from error


def _quoted(part: str) -> str:
    if set(part) == {"."}:
        return part.replace(".", "%2E")
    quoted = quote(part, safe=SAFE).replace("~", "%7E")
    if len(quoted) > LONGEST:
        raise RecordError(f"{part[:80]}... is too long for a file name; write fewer stages or hyperparameters")
    return quoted
