"""Columns of a person's own table: numbers, or texts by code; which values are missing, numeric or categories."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agrbench.errors import DataError

MISSING = frozenset({"", "na", "n/a", "nan", "-nan", "null", "none", "?"})
LONGEST = max(map(len, MISSING))
MOST = 1000  # categories of a column, or classes
FEW = 20  # rows below which nothing is concluded from how often values repeat
NEARLY = 0.9  # of the rows: more different texts than this are names, not categories
LARGEST = 1e30  # a larger number is refused as infinite, since its square overflows
SHOWN = 40  # characters of a value in messages
COMMA = re.compile(r"[+-]?\d+(,\d+)+(\.\d+)?$")

Numbers = NDArray[np.floating[Any]]
Rows = NDArray[np.int64]
Flags = NDArray[np.bool_]
Codes = NDArray[np.int32]


class Column(NamedTuple):
    """One column: numbers `(rows, *shape)`; or, if there are `codes` `(rows,)`, the texts that they select.

    `absent` `(rows,)` marks the rows without a value.
    """

    values: NDArray[Any]
    absent: Flags
    codes: Codes | None = None

    def take(self, rows: NDArray[Any]) -> Column:
        """Select rows, by number or by flag."""
        if self.codes is None:
            return Column(self.values[rows], self.absent[rows])
        return Column(self.values, self.absent[rows], self.codes[rows])


class Table(NamedTuple):
    """A file's columns by name, and the number `(rows,)` by which a person finds each row in the file."""

    file: str
    columns: Mapping[str, Column]
    rows: Rows

    def take(self, rows: NDArray[Any]) -> Table:
        """Select rows, by number or by flag."""
        return Table(self.file, {name: each.take(rows) for name, each in self.columns.items()}, self.rows[rows])

    def at(self, name: str, bad: Flags) -> str:
        """Name the file, the first row that is `bad` `(rows,)`, and a column."""
        return f"{self.file}: row {self.rows[int(bad.argmax())]}, column {name!r}"


class Numbering(dict[str, int]):
    """Number texts from 0 in the order of their first appearance.

    If over half of the first texts differ, all that follow get numbers of their own, which takes less time and memory.
    """

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.wide = False

    def __missing__(self, text: str) -> int:
        number = self[text] = len(self.texts)
        self.texts.append(text)
        return number

    def codes(self, texts: Sequence[str]) -> Codes:
        """Return the number of each text, `(texts,)`."""
        start = len(self.texts)
        if self.wide:
            self.texts.extend(texts)
            return np.arange(start, len(self.texts), dtype=np.int32)
        codes = np.fromiter(map(self.__getitem__, texts), np.int32, len(texts))
        self.wide = not start and 2 * len(self.texts) > len(texts)
        return codes


class Categories(NamedTuple):
    """The different values of a column, sorted, and which of them each row has, `(rows,)`; -1 if none."""

    codes: Rows
    keys: list[Any]

    @property
    def names(self) -> tuple[str, ...]:
        """Write each value as text; whole numbers without a decimal point."""
        return tuple(map(str, self.keys))


def of_texts(texts: Sequence[str]) -> Column:
    """Make a column of one text a row."""
    numbering = Numbering()
    codes = numbering.codes(texts)
    return of_codes(numbering.texts, codes)


def of_codes(texts: Iterable[str], codes: Codes) -> Column:
    """Make a column of texts, stripped of spaces, and the code of each row's text `(rows,)`."""
    stripped = list(map(str.strip, texts))
    missing = np.array([len(text) <= LONGEST and text.lower() in MISSING for text in stripped], dtype=bool)
    return Column(np.array(stripped, dtype=object), missing[codes] if len(codes) else np.zeros(0, bool), codes)


def of_numbers(values: NDArray[Any]) -> Column:
    """Make a column of numbers `(rows, *shape)`; a row that holds a NaN is absent."""
    return Column(values, _by_row(np.isnan(values)) if values.dtype.kind == "f" else np.zeros(len(values), bool))


def of_flags(values: Flags) -> Column:
    """Make a column of the texts `false` and `true`."""
    return of_codes(["false", "true"], values.astype(np.int32))


def numbers(table: Table, name: str) -> Numbers | None:
    """Return a column's numbers `(rows, *shape)`, NaN if absent; `None` if it holds texts.

    Raises:
        DataError: most values are numbers but not all, or one is infinite; the message names the first row.
    """
    column = table.columns[name]
    found = _native(column) if column.codes is None else _parsed(column)[column.codes]
    odd = _by_row(np.isnan(found)) & ~column.absent
    if odd.any():
        _refuse_mixed(table, name, odd)
        return None
    _refuse_infinite(table, name, found)
    return found


def number(text: str) -> float:
    """Read a number with a decimal point; NaN if the text is none."""
    try:
        return float("nan") if "_" in text else float(text)
    except ValueError:
        return float("nan")


def categories(column: Column) -> Categories:
    """Return the different values of a column, sorted by number if all are numbers, else by text."""
    codes = np.full(len(column.absent), -1, np.int64)
    there = ~column.absent
    if column.codes is None:
        different, codes[there] = np.unique(column.values[there], return_inverse=True)
        return Categories(codes, [_plain(value) for value in different.tolist()])
    used = np.unique(column.codes[there])
    texts = column.values[used].tolist()
    keys = list(map(_exact, texts)) if np.isfinite([number(text) for text in texts]).all() else texts
    ordered = sorted(set(keys))
    places = {key: place for place, key in enumerate(ordered)}
    lookup = np.full(len(column.values), -1, np.int64)
    lookup[used] = [places[key] for key in keys]
    codes[there] = lookup[column.codes[there]]
    return Categories(codes, ordered)


def few_categories(table: Table, name: str) -> Categories:
    """Return a feature's categories.

    Raises:
        DataError: nearly every row has a value of its own, as ids and names do, or there are over `MOST` values.
    """
    found = categories(table.columns[name])
    rows = int((found.codes >= 0).sum())
    if len(found.keys) > MOST or (rows >= FEW and len(found.keys) > NEARLY * rows):
        raise DataError(
            f"{table.at(name, found.codes >= 0)} has {quoted(found.names[found.codes[found.codes >= 0][0]])}, one of "
            f"{len(found.keys):,} different values in {rows:,} rows, which are too many for categories; "
            f"write drop=({name!r},) to leave the column out"
        )
    return found


def quoted(value: object) -> str:
    """Write a value for a message, cut if it is long."""
    text = str(value)
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "...")


def listed(texts: Sequence[str], most: int = 20) -> str:
    """Join texts by commas, at most `most` of them."""
    more = len(texts) - most
    return ", ".join(texts[:most]) + (f" and {more:,} more" if more > 0 else "")


def _by_row(flags: Any) -> Flags:
    """Mark the rows `(rows,)` that have any flag `(rows, *shape)`."""
    marked: Flags = flags.any(axis=tuple(range(1, flags.ndim)))
    return marked


def _native(column: Column) -> Numbers:
    kind = np.float64 if column.values.ndim == 1 else np.float32
    with np.errstate(over="ignore"):  # infinity is refused later
        found: Numbers = column.values.astype(kind)
    if found.ndim == 1:
        found[column.absent] = np.nan
    return found


def _parsed(column: Column) -> Numbers:
    """Read each different text as a number."""
    texts: list[str] = column.values.tolist()
    with suppress(ValueError):
        if "_" not in "".join(texts):
            return np.array(list(map(float, texts)), dtype=np.float64)  # four times as fast
    return np.array([number(text) for text in texts], dtype=np.float64)


def _refuse_mixed(table: Table, name: str, odd: Flags) -> None:
    """Refuse a column of texts if most of its values are numbers, or would be with a decimal point."""
    column = table.columns[name]
    assert column.codes is not None
    commas = np.array([COMMA.match(text) is not None for text in column.values])[column.codes] & odd
    if 2 * np.count_nonzero(odd & ~commas) >= np.count_nonzero(~column.absent):
        return
    first = commas if commas.any() else odd
    given = quoted(column.values[column.codes[int(first.argmax())]])
    what = "where a number has a point: write 3.5, not 3,5" if commas.any() else "which is not a number: correct it"
    raise DataError(
        f"{table.at(name, first)} has {given}, {what}, or write categorical=({name!r},) if the values are categories"
    )


def _refuse_infinite(table: Table, name: str, found: Numbers) -> None:
    wild = _by_row(np.abs(found) > LARGEST)
    if wild.any():
        value = np.nanmax(np.abs(found[int(wild.argmax())]))
        raise DataError(
            f"{table.at(name, wild)} has the number {value:g}, which is infinite or beyond {LARGEST:g}; write a "
            "smaller one, or nothing and missing='fill'"
        )


def _exact(text: str) -> int | float:
    """Read a number without rounding whole ones."""
    try:
        return int(text)
    except ValueError:
        return _plain(float(text))


def _plain(value: int | float) -> int | float:
    """Return whole numbers as integers: 1 and 1.0 are one value."""
    return int(value) if float(value).is_integer() else value
