"""Find a person's own table and read it into columns: CSV here, Parquet and .npz in `binary`."""

from __future__ import annotations

import csv
import gc
import multiprocessing
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain, islice
from pathlib import Path
from typing import TextIO

import numpy as np

from agrbench.data import binary
from agrbench.data.columns import Codes, Column, Numbering, Rows, Table, of_codes, quoted
from agrbench.data.files import FOLDER, is_file, kind
from agrbench.data.roles import Roles
from agrbench.errors import DataError
from agrbench.progress import Tick, progress

DELIMITERS = ",;\t|"
CHUNK = 1 << 15  # rows read at once
BLOCK = 1 << 22  # bytes from one progress report to the next
UNDECODED = re.compile("[\udc80-\udcff]")


class Unnamed(DataError):
    """Say how to name a table: the spec names none."""


def locate(path: str) -> Path:
    """Return where a table is: below the current folder, else below the data folder; the former if it is nowhere."""
    places = _places(path)
    return next((place for place in places if kind(place)), places[0])


def present(path: str) -> list[Path]:
    """List the whole path of a table, if there is one."""
    place = locate(path)
    return [place.resolve()] if path and kind(place) else []


def read(path: str, roles: Roles) -> Table:
    """Read the columns of a table that its roles need.

    Raises:
        Unnamed: the path is empty.
        DataError: the file is missing or malformed, or its columns do not fit the roles.
    """
    if not path:
        raise Unnamed("it reads your own table: write table(path='visits.csv', label='outcome')")
    place = _file(path)
    reader = READERS.get(place.suffix.lower())
    if reader is None:
        raise DataError(f"{place}: its name does not end in {' or '.join(READERS)}; save the table as one of these")
    try:
        table = reader(place, roles)
    except OSError as error:
        raise DataError(f"{place}: it cannot be read ({error.strerror or error}); check the file") from error
    if not len(table.rows):
        raise DataError(f"{place}: it names columns but has no rows; add rows of data")
    return table


def read_csv(path: Path, roles: Roles) -> Table:
    """Read a CSV file in UTF-8, separated by commas, semicolons, tabs or bars as its header is.

    Raises:
        DataError: a row cannot be read; the header is row 1.
    """
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        first = stream.readline()
        if not first.strip():
            what = "row 1, the header, is empty" if first else "the file is empty"
            raise DataError(f"{path}: {what}; write the names of the columns into row 1")
        delimiter = max(DELIMITERS, key=lambda each: len(_header(first, each)))
        records = csv.reader(_sound(chain([first], stream)), delimiter=delimiter, strict=True)
        names = [" ".join(name.split()) for name in _some(path, records, 1, 1)[0]]
        kept = roles.columns(str(path), names)
        size = path.stat().st_size
        quiet = size < BLOCK or multiprocessing.parent_process() is not None  # workers leave the terminal alone
        with progress(f"reading {path.name}", size // BLOCK + 1, quiet) as report, _uncollected():
            return _body(path, records, names, kept, _Position(stream, report))


def _body(path: Path, records: Iterator[list[str]], names: Sequence[str], kept: Sequence[str], at: _Position) -> Table:
    """Read all rows behind the header, a chunk at a time."""
    numberings = {name: Numbering() for name in kept}
    codes: dict[str, list[Codes]] = {name: [] for name in kept}
    numbers: list[Rows] = []
    start = 2
    while chunk := _some(path, records, start, CHUNK):
        places = [place for place, record in enumerate(chunk) if not _blank(record)]
        full = chunk if len(places) == len(chunk) else [chunk[place] for place in places]
        numbers.append(np.array(places, np.int64) + start)
        _even(path, full, names, numbers[-1])
        for name, texts in zip(names, zip(*full, strict=True), strict=False):
            if name in numberings:
                codes[name].append(numberings[name].codes(texts))
        start += len(chunk)
        at.tell()
    columns = {name: _joined(numberings.pop(name), codes.pop(name)) for name in kept}
    return Table(str(path), columns, np.concatenate([np.zeros(0, np.int64), *numbers]))


def _joined(numbering: Numbering, codes: list[Codes]) -> Column:
    return of_codes(numbering.texts, np.concatenate([np.zeros(0, np.int32), *codes]))


@contextmanager
def _uncollected() -> Iterator[None]:
    """Stop looking for unused cycles of objects: there are none, and among millions of texts it takes half the time."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


class _Position:
    """Report the progress of reading a stream, once a block."""

    def __init__(self, stream: TextIO, report: Tick) -> None:
        self.stream, self.report, self.blocks = stream, report, 0

    def tell(self) -> None:
        """Report each block that has been read since the last call."""
        now = self.stream.buffer.tell() // BLOCK
        for _ in range(self.blocks, now):
            self.report(self.stream.name)
        self.blocks = now


def _some(path: Path, records: Iterator[list[str]], row: int, most: int) -> list[list[str]]:
    """Read at most `most` records, of which the first is in row `row`."""
    found: list[list[str]] = []
    try:
        found.extend(islice(records, most))  # keeps those before an error
    except csv.Error as error:
        raise DataError(
            f"{path}: row {row + len(found)} cannot be read ({error}); mend the row, or save the table again as CSV in "
            "UTF-8"
        ) from error
    return found


def _sound(lines: Iterator[str]) -> Iterator[str]:
    """Pass lines on, and refuse bytes that are not text."""
    for line in lines:
        if not line.isascii() and UNDECODED.search(line):
            raise csv.Error("it has bytes that are not UTF-8")
        if "\0" in line:
            raise csv.Error("it has a NUL byte")
        yield line


def _even(path: Path, records: list[list[str]], names: Sequence[str], rows: Rows) -> None:
    """Refuse records of another length than the header."""
    if set(map(len, records)) <= {len(names)}:
        return
    row, record = next(pair for pair in zip(rows, records, strict=True) if len(pair[1]) != len(names))
    raise DataError(
        f"{path}: row {row} has {len(record)} fields, and the header {len(names)}; mend the row, and quote fields that "
        f"contain the separator (it begins with {quoted(record[0])})"
    )


def _blank(record: list[str]) -> bool:
    return not record or (len(record) == 1 and not record[0].strip())


def _header(line: str, delimiter: str) -> list[str]:
    with suppress(csv.Error):
        return next(csv.reader([line], delimiter=delimiter), [])
    return []


def _file(path: str) -> Path:
    """Return where a table is, or raise DataError if there is no such file."""
    place = locate(path)
    if not kind(place):
        named = os.environ.get(FOLDER)
        data = f"the data folder {named}" if named else "a data folder, since none is named"
        raise DataError(
            f"{path}: there is no such file in the current folder {Path.cwd()} or in {data}; write its whole path, or "
            "name the folder that holds it by --data-dir"
        )
    if place.is_dir():
        raise DataError(f"{place}: it is a folder; write the path of a file in it, such as {place / 'visits.csv'}")
    if not is_file(place):
        raise DataError(f"{place}: it is no plain file; write the path of the file itself")
    return place


def _places(path: str) -> list[Path]:
    named = os.environ.get(FOLDER)
    here = Path.home() / path[2:] if path.startswith("~/") else Path(path)
    return [here, Path(named) / path] if named and not here.is_absolute() else [here]


READERS: dict[str, Callable[[Path, Roles], Table]] = {
    ".csv": read_csv, ".parquet": binary.read_parquet, ".npz": binary.read_npz,
}  # fmt: skip
