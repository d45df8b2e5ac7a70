"""What a table is, and how tables are written: as text, Markdown, HTML, LaTeX, CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tabulate import tabulate

from agrbench.results import text
from agrbench.results.record import plain

NONE = "-"


@dataclass(frozen=True)
class Entry:
    """One entry of a table: its lines, and whether it is the best of its row or column."""

    lines: tuple[str, ...] = (NONE,)
    best: bool = False


@dataclass(frozen=True)
class Table:
    """A titled table with notes below it; `data` holds the same values at full precision, in flat rows.

    `across` says what the columns beside the first are, if they are all of one kind.
    """

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[Entry, ...], ...]
    notes: tuple[str, ...]
    data: tuple[Mapping[str, Any], ...]
    across: str = ""

    @property
    def turned(self) -> Table:
        """Return the table with its rows as columns; a heading that was a first entry has none of its other lines."""
        headers = (self.across, *(row[0].lines[0] for row in self.rows))
        columns = list(zip(*self.rows, strict=True))[1:]
        named = zip(self.headers[1:], columns, strict=True)
        rows = tuple((Entry((header.replace("\n", " "),)), *column) for header, column in named)
        return replace(self, headers=headers, rows=rows, across=self.headers[0])

    def _repr_html_(self) -> str:
        """Show the table in a notebook."""
        return _html(self)


def with_interval(value: float, low: float | None, high: float | None, form: str = ".1f") -> str:
    """Write a number followed by its interval, if there is one: `1.2 [0.8, 1.6]`."""
    return f"{value:{form}} {bracketed(low, high, form)}".rstrip()


def bracketed(low: float | None, high: float | None, form: str = ".1f") -> str:
    """Write an interval as `[low, high]`, each bound in the format `form`; empty if there is no interval."""
    return "" if low is None or high is None else f"[{low:{form}}, {high:{form}}]"


def write(made: Sequence[Table], form: str) -> str:
    """Write tables in one of the `FORMATS`; whatever text they hold is shown and never obeyed."""
    return FORMATS[form](made)


def _plain(table: Table) -> str:
    """Write a table as text, in parts that fit the terminal and repeat the first column; turned, if that has fewer."""
    blocks = min(map(_blocks, (table, table.turned) if table.rows else (table,)), key=len)
    notes = "\n".join(text.printable(note, keep="\n") for note in table.notes)
    return "\n\n".join([text.one_line(table.title), *blocks, wrapped(notes)])


def _blocks(table: Table) -> list[str]:
    width = max(shutil.get_terminal_size((120, 24)).columns, 80)
    columns = [
        [text.printable(header, keep="\n"), *("\n".join(_starred(row[place])) for row in table.rows)]
        for place, header in enumerate(table.headers)
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
    return blocks


def wrapped(notes: str) -> str:
    """Cut lines to the terminal's width, each keeping its indentation; unchanged unless a terminal is written to."""
    if not sys.stdout.isatty():
        return notes
    width = shutil.get_terminal_size().columns
    return "\n".join(_cut(line, width) for line in notes.split("\n"))


def _cut(line: str, width: int) -> str:
    indent = " " * (len(line) - len(line.lstrip()))
    return textwrap.fill(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _width(written: str) -> int:
    return max(map(len, written.split("\n")))


def _starred(entry: Entry) -> list[str]:
    first, *more = map(text.one_line, entry.lines)
    return [first + (" *" if entry.best else ""), *more]


def _github(table: Table) -> str:
    def write_entry(entry: Entry) -> str:
        first, *more = map(text.markdown, entry.lines)
        return "<br>".join([f"**{first}**" if entry.best else first, *more])

    rows = [[write_entry(entry) for entry in row] for row in table.rows]
    notes = ["\n".join(map(_note, note.split("\n"))) for note in table.notes]
    return markdown_table(text.markdown(table.title), list(map(text.markdown, table.headers)), rows, notes)


def _note(line: str) -> str:
    """Write a line of a note as Markdown; in notes a name may be marked as code."""
    return text.markdown(line).replace(r"\`", "`")


def markdown_table(title: str, headers: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str]) -> str:
    """Write a table in GitHub's Markdown from parts that are Markdown already."""
    body = tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)
    return "\n\n".join([f"**{title}**", body, "  \n".join(notes)])


def _html(table: Table) -> str:
    """Write a table as a fragment of HTML."""

    def write_entry(entry: Entry) -> str:
        written = "<br>".join(map(text.html, entry.lines))
        return f"<strong>{written}</strong>" if entry.best else written

    rows = [[write_entry(entry) for entry in row] for row in table.rows]
    headers = ["<br>".join(map(text.html, header.split("\n"))) for header in table.headers]
    body = tabulate(rows, headers=headers, tablefmt="unsafehtml", disable_numparse=True)
    notes = "<br>\n".join(text.html(line) for note in table.notes for line in note.split("\n"))
    return f"<p><strong>{text.html(table.title)}</strong></p>\n{body}\n<p>{notes}</p>"


def _latex(table: Table) -> str:
    """Write a table for the package booktabs, with a caption and a label; its notes follow as comments."""
    headers = [text.latex(header) for header in table.headers]
    rows = [[_latex_entry(entry) for entry in row] for row in table.rows]
    widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
    lines = [
        r"% \usepackage{booktabs}", r"\begin{table}", r"\centering", rf"\caption{{{text.latex(table.title)}}}",
        rf"\label{{tab:{_slug(table.title)}}}", rf"\begin{{tabular}}{{{_alignment(table)}}}", r"\toprule",
        _latex_row(headers, widths), r"\midrule", *(_latex_row(row, widths) for row in rows), r"\bottomrule",
        r"\end{tabular}", r"\end{table}",
    ]  # fmt: skip
    notes = [f"% {text.one_line(line)}" for note in table.notes for line in note.split("\n")]
    return "\n".join([*lines, *notes])


def _latex_row(entries: Sequence[str], widths: Sequence[int]) -> str:
    return " & ".join(entry.ljust(width) for entry, width in zip(entries, widths, strict=True)) + r" \\"


def _latex_entry(entry: Entry) -> str:
    r"""Write an entry; `\\` before a bracket or an asterisk would take it for an option, so both get empty braces."""
    first, *more = ("{}" * line.startswith(("[", "*")) + text.latex(line) for line in entry.lines)
    first = rf"\textbf{{{first}}}" if entry.best else first
    stacked = r" \\ ".join([first, *more])
    return rf"\shortstack{{{stacked}}}" if more else first


def _alignment(table: Table) -> str:
    """Align columns of numbers to the right and others, and the first, to the left."""
    columns = [[row[place].lines[0] for row in table.rows] for place in range(len(table.headers))]
    return "l" + "".join("r" if all(map(_NUMBER.match, column)) else "l" for column in columns[1:])


def _slug(title: str) -> str:
    """Name a table by its title, in letters that a label may have."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


_NUMBER = re.compile(r"[-+x>]? ?\d|-$")


def _json(made: Sequence[Table]) -> str:
    return json.dumps(text.whole(_data(made)), indent=1)


def _csv(made: Sequence[Table]) -> str:
    rows = _data(made)
    names = list(dict.fromkeys(name for row in rows for name in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, names, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: text.cell(_flat(value)) for name, value in row.items()})
    return stream.getvalue().rstrip("\n")


def _flat(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (dict, list)) else value


def _data(made: Sequence[Table]) -> list[Any]:
    """Return the full-precision rows of all tables, with non-finite numbers as `None`."""
    return [plain(row) for table in made for row in table.data]


def _each(write_one: Callable[[Table], str]) -> Callable[[Sequence[Table]], str]:
    return lambda made: "\n\n".join(map(write_one, made))


FORMATS: Mapping[str, Callable[[Sequence[Table]], str]] = {
    "plain": _each(_plain), "github": _each(_github), "html": _each(_html), "csv": _csv, "latex": _each(_latex),
    "json": _json,
}  # fmt: skip
"""How tables can be written; add a format here."""
DATA = ("csv", "json")  # formats that have the full-precision rows instead of what is shown
