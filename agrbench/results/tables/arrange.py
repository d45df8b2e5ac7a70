"""Arrange a table for its reader: rows in the order of a column, and only some of the columns."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any

from agrbench import specs
from agrbench.errors import AgrbenchError
from agrbench.results.formats import NONE, Entry, Table

NUMBER = re.compile(r"[+x>]? ?(-?\d+(?:\.\d+)?)")
BETWEEN = re.compile(r",(?![^(]*\))")  # commas, but those in brackets


def split(columns: str) -> list[str]:
    """Split names of columns at commas; those inside a spec's brackets separate nothing."""
    return [name for each in BETWEEN.split(columns) if (name := each.strip())]


def arranged(tables: Sequence[Table], sort: str | None, reverse: bool, columns: Iterable[str]) -> list[Table]:
    """Sort the rows of tables by a column, and keep the first column and the named ones, in the order of their names.

    A table that lacks a column which another one has does without it. Numbers come first, by value, and missing ones
    last.

    Raises:
        AgrbenchError: no table has a column of that name.
    """
    names = list(columns)
    for name in [*([] if sort is None else [sort]), *names]:
        _check(name, tables)
    made = [_sorted(table, sort, reverse) for table in tables] if sort is not None else list(tables)
    return [_only(table, names) for table in made] if names else made


def _check(name: str, tables: Sequence[Table]) -> None:
    known = list(dict.fromkeys(heading for table in tables for heading in _headings(table)))
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        raise AgrbenchError(f"no column is named {name!r}; write {near[0] if near else ', '.join(known)}")


def _headings(table: Table) -> list[str]:
    return [header.replace("\n", " ") for header in table.headers]


def _sorted(table: Table, name: str, reverse: bool) -> Table:
    if name not in _headings(table):
        return table
    place = _headings(table).index(name)
    known = [row for row in table.rows if row[place].lines[0] != NONE]
    ordered = sorted(known, key=lambda row: _rank(row[place]), reverse=reverse)
    return dataclasses.replace(table, rows=(*ordered, *(row for row in table.rows if row not in known)))


def _rank(entry: Entry) -> tuple[Any, ...]:
    number = NUMBER.match(entry.lines[0])
    return (0, float(number[1])) if number else (1, specs.natural(entry.lines[0]))


def _only(table: Table, names: Sequence[str]) -> Table:
    headings = _headings(table)
    places = list(dict.fromkeys([0, *(headings.index(name) for name in names if name in headings)]))
    return dataclasses.replace(
        table,
        headers=tuple(table.headers[place] for place in places),
        rows=tuple(tuple(row[place] for place in places) for row in table.rows),
    )
