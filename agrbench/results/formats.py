"""What a table is, and how tables are written: as text, Markdown, LaTeX, CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tabulate import tabulate

from agrbench.results.record import plain

NONE = "-"


@dataclass(frozen=True)
class Entry:
    """One entry of a table: its lines, and whether it is the best of its row or column."""

    lines: tuple[str, ...] = (NONE,)
    best: bool = False


@dataclass(frozen=True)
class Table:
    """A titled table with notes below it; `data` holds the same values at full precision, in flat rows."""

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[Entry, ...], ...]
    notes: tuple[str, ...]
    data: tuple[Mapping[str, Any], ...]


def with_interval(value: float, low: float | None, high: float | None, form: str = ".1f") -> str:
    """Write a number followed by its interval, if there is one: `1.2 [0.8, 1.6]`."""
    return f"{value:{form}} {bracketed(low, high, form)}".rstrip()


def bracketed(low: float | None, high: float | None, form: str = ".1f") -> str:
    """Write an interval as `[low, high]`, each bound in the format `form`; empty if there is no interval."""
    return "" if low is None or high is None else f"[{low:{form}}, {high:{form}}]"


def write(made: Sequence[Table], form: str) -> str:
    """Write tables in one of the `FORMATS`."""
    return FORMATS[form](made)


def _plain(table: Table) -> str:
    """Write a table as text, cut into parts that fit the terminal and repeat the first column."""
    width = max(shutil.get_terminal_size((120, 24)).columns, 80)
    columns = [
        [header, *("\n".join(_starred(row[place])) for row in table.rows)] for place, header in enumerate(table.headers)
    ]
    wide = [2 + max([_width(header) + 2, *map(_width, column)]) for header, *column in columns]
    parts: list[list[int]] = [[0]]
    for place in range(1, len(columns)):
        if len(parts[-1]) > 1 and sum(wide[kept] for kept in parts[-1]) + wide[place] > width:
            parts.append([0])
        parts[-1].append(place)
    blocks = []
    for part in parts:
        lines = list(zip(*(columns[place] for place in part), strict=True))
        blocks.append(tabulate(lines[1:], headers=list(lines[0]), tablefmt="simple", disable_numparse=True))
    return "\n\n".join([table.title, *blocks, "\n".join(table.notes)])


def _width(text: str) -> int:
    return max(map(len, text.split("\n")))


def _starred(entry: Entry) -> list[str]:
    return [entry.lines[0] + (" *" if entry.best else ""), *entry.lines[1:]]


def _github(table: Table) -> str:
    def text(entry: Entry) -> str:
        lines = [line.replace("|", r"\|") for line in entry.lines]
        return "<br>".join([f"**{lines[0]}**" if entry.best else lines[0], *lines[1:]])

    rows = [[text(entry) for entry in row] for row in table.rows]
    headers = [header.replace("\n", " ").replace("|", r"\|") for header in table.headers]
    body = tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)
    return "\n\n".join([f"**{table.title}**", body, "  \n".join(table.notes)])


def _latex(table: Table) -> str:
    def text(entry: Entry) -> str:
        lines = ["{}" * line.startswith(("[", "*")) + _escaped(line) for line in entry.lines]
        first = rf"\textbf{{{lines[0]}}}" if entry.best else lines[0]
        stacked = r" \\ ".join([first, *lines[1:]])
        return first if len(lines) == 1 else rf"\shortstack{{{stacked}}}"

    rows = [[text(entry) for entry in row] for row in table.rows]
    headers = [_escaped(header.replace("\n", " ")) for header in table.headers]
    body = tabulate(rows, headers=headers, tablefmt="latex_raw", disable_numparse=True)
    return "\n".join([f"% {table.title}", body, *(f"% {note}" for note in table.notes)])


LATEX = str.maketrans(
    {letter: rf"\{letter}" for letter in "_%&#{}$"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"†": r"$\dagger$", "±": r"$\pm$"}
)


def _escaped(text: str) -> str:
    return text.translate(LATEX)


def _json(made: Sequence[Table]) -> str:
    return json.dumps(_data(made), indent=1)


def _csv(made: Sequence[Table]) -> str:
    rows = _data(made)
    names = list(dict.fromkeys(name for row in rows for name in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, names, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {name: json.dumps(value) if isinstance(value, (dict, list)) else value for name, value in row.items()}
        )
    return stream.getvalue().rstrip("\n")


def _data(made: Sequence[Table]) -> list[Any]:
    """Return the full-precision rows of all tables, with non-finite numbers as `None`."""
    return [plain(row) for table in made for row in table.data]


def _each(write_one: Callable[[Table], str]) -> Callable[[Sequence[Table]], str]:
    return lambda made: "\n\n".join(map(write_one, made))


FORMATS: Mapping[str, Callable[[Sequence[Table]], str]] = {
    "plain": _each(_plain), "github": _each(_github), "csv": _csv, "latex": _each(_latex), "json": _json,
}  # fmt: skip
"""How tables can be written; add a format here."""
