"""Packed files: one file with a record a line, sorted by the paths that the records have in a folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from agrbench.cells import PROTOCOL, Cell
from agrbench.data.files import is_file
from agrbench.errors import RecordError
from agrbench.results.places import place
from agrbench.results.reading import HEAVIEST, checked, parsed
from agrbench.results.record import Record, plain
from agrbench.results.writing import write_whole, writing

PACKED = ".jsonl"  # how the name of a packed file ends

Found = tuple[Path, Record] | RecordError


def holds_lines(path: Path) -> bool:
    """Return whether a path names a packed file."""
    return path.suffix == PACKED and is_file(path)


def write_packed(packed: Path, records: Iterable[Record]) -> None:
    """Write records into a packed file, sorted by path.

    Raises:
        Unwritable: the system refused to write; the file is as it was before.
    """
    lines = dict(sorted((place_of(record), record) for record in records))
    keyed = ({"key": _key(record)} | plain(record) for record in lines.values())  # which a file has in its name
    text = "".join(f"{json.dumps(each, separators=(',', ':'), allow_nan=False)}\n" for each in keyed)
    with writing(packed):
        packed.parent.mkdir(parents=True, exist_ok=True)
        write_whole(packed, text)


def lines(packed: Path) -> Iterator[Found]:
    """Read the records of a packed file, each with the path that names it; a line that is none becomes an error."""
    for number, line in enumerate(_texts(packed), 1):
        name = f"{packed} line {number}"
        try:
            record = checked(parsed(line, name, "delete the line"), name)
            key = record.pop("key", None)
            if record["protocol"] == PROTOCOL and key != _key(record):
                raise RecordError(f"{name}: its key is {key}, its cell's {_key(record)}; do not edit records")
            yield packed / place_of(record), record
        except RecordError as error:
            yield error


def line(packed: Path, wanted: Path) -> Record:
    """Read one record of a packed file.

    Raises:
        RecordError: it is not there.
    """
    for found in lines(packed):
        if not isinstance(found, RecordError) and found[0] == packed / wanted:
            return found[1]
    raise RecordError(f"{packed} holds no record {wanted}; `agrbench pack {packed} DIR` writes all of them out")


def place_of(record: Record) -> str:
    """Return where a record is, relative to its folder or packed file."""
    return place(Cell.from_json(record["cell"]), record["protocol"]).as_posix()


def _texts(packed: Path) -> Iterator[bytes]:
    try:
        with packed.open("rb") as stream:
            while text := stream.readline(HEAVIEST):
                yield text
    except OSError as error:
        raise RecordError(f"{packed}: cannot be read ({error}); give a packed file of records") from error


def _key(record: Record) -> str:
    return Cell.from_json(record["cell"]).key_under(record["protocol"])
