"""Formats: whatever text a record holds is shown in every format and obeyed in none; units, protocols, no time."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from agrbench import machine
from agrbench.cells import Cell
from agrbench.cli import main
from agrbench.results import formats, metrics
from agrbench.results import text as texts
from agrbench.results.formats import Entry, Table
from agrbench.results.record import Record, failed
from agrbench.results.store import Store
from agrbench.results.tables import tables
from tests.helpers.commands import AGRBENCH
from tests.helpers.records import REGISTRY, fill, finished
from tests.helpers.tables import row
from tests.helpers.triad import cell, everything, without

EVIL = (
    "\x1b[31mred", "a\nb", "\r\x1b[2J", "\x9b31m", "\u202eevil", "\u2066x", "\ud800", "\u2028x", "\x85x", "\x07", "\0",
    "<img src=x onerror=y>", "![x](http://x)", "[x](javascript:y)", "a|b", "a\\|b", "`rm -rf`", r"\input{x}", "50%",
    "$x^2_3~{}&#", "=1+1", "+1", "-1", "@SUM(A1)", "\t=1",
)  # fmt: skip
FORMS = tuple(formats.FORMATS)


def holding(said: str) -> Table:
    """Make a table that has a text everywhere."""
    entry = Entry((said, said), True)
    data = {"name": said, "settings": {said: said}, "values": [said], "number": -1.5}
    return Table(said, ("name", said), ((entry, entry), (Entry(("x",)), Entry(("-1",)))), (said, "note"), (data,))


# Any text in any format


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("said", EVIL, ids=ascii)
def test_no_format_lets_through_what_cannot_be_printed(said: str, form: str) -> None:
    written = formats.write([holding(said)], form)
    assert all(each.isprintable() or each == "\n" or (each == "\t" and form == "csv") for each in written)
    written.encode("utf-8")


@given(said=st.text(st.characters(), max_size=40))
def test_text_that_is_made_printable_is_printable(said: str) -> None:
    shown = texts.one_line(said)
    assert all(each.isprintable() or each in "\u00a0\u1680\u202f\u205f\u3000" or each.isspace() for each in shown)
    assert len(shown.splitlines()) <= 1
    shown.encode("utf-8")
    assert not said.isprintable() or shown == said


@pytest.mark.parametrize("said", EVIL, ids=ascii)
def test_a_github_table_keeps_its_shape_and_no_markup_begins(said: str) -> None:
    written = formats.write([holding(said)], "github")
    bars = [line for line in written.splitlines() if line.startswith("|")]
    assert len(bars) == 2 + 2
    assert {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in bars} == {3}
    assert not re.search(r"<(?!br>)[A-Za-z/!?]", written)
    assert "](" not in written
    assert "![" not in written.replace(r"!\[", "")
    assert not re.search(r"(?<!\\)`", "".join(bars))


@pytest.mark.parametrize("said", EVIL, ids=ascii)
def test_a_latex_table_holds_nothing_of_others_but_text(said: str) -> None:
    written = formats.write([holding(said)], "latex")
    lines = written.splitlines()
    assert [line for line in lines if line.startswith("%")][1:] == lines[lines.index(r"\end{table}") + 1 :]
    assert r"\input{" not in re.sub(r"^%.*$", "", written, flags=re.MULTILINE)
    body = "\n".join(line for line in lines if not line.startswith("%"))
    assert not re.search(r"(?<!\\)[_%#]", body)
    assert len(lines) == 14 + 2 + (1 if "\n" in said else 0)


@pytest.mark.parametrize("said", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\n=1", "=cmd|'/c calc'!A1"], ids=ascii)
def test_a_spreadsheet_computes_nothing_from_csv(said: str) -> None:
    (line,) = csv.DictReader(io.StringIO(formats.write([holding(said)], "csv")))
    assert line["name"].startswith("'")
    assert line["number"] == "-1.5"
    assert json.loads(line["settings"]) == {said: said}


@pytest.mark.parametrize("said", EVIL, ids=ascii)
def test_json_is_valid_whatever_the_text(said: str) -> None:
    (data,) = json.loads(formats.write([holding(said)], "json"))
    wanted = said.replace("\ud800", "\ufffd")
    assert data == {"name": wanted, "settings": {wanted: wanted}, "values": [wanted], "number": -1.5}


def test_latex_can_be_pasted() -> None:
    written = formats.write(tables(metrics.groups(everything()), "triad"), "latex")
    lines = written.splitlines()
    assert lines[0] == r"% \usepackage{booktabs}"
    for said in (r"\begin{table}", r"\toprule", r"\midrule", r"\bottomrule", r"\end{tabular}", r"\end{table}"):
        assert lines.count(said) == 1
    assert any(line.startswith(r"\caption{The triad: digits, 20 clients") for line in lines)
    assert any(re.fullmatch(r"\\label\{tab:the-triad-digits-[a-z0-9-]+\}", line) for line in lines)
    assert r"\begin{tabular}{lrrrrrrr}" in lines  # numbers to the right
    rows = [line for line in lines if line.endswith(r"\\")]
    assert len({tuple(match.start() for match in re.finditer("&", line)) for line in rows}) == 1


def test_two_tables_have_two_labels() -> None:
    written = formats.write(tables(metrics.groups(two_protocols()), "triad"), "latex")
    labels = re.findall(r"\\label\{(.*)\}", written)
    assert len(labels) == len(set(labels)) == 2


# Notes on a terminal


def on_a_terminal(words: Sequence[str], columns: int, **environment: str) -> str:
    """Return what a command writes to a terminal of some width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    clean = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    with subprocess.Popen(words, env=clean | environment, stdout=theirs, stderr=subprocess.PIPE) as running:
        os.close(theirs)
        found = b""
        with contextlib.suppress(OSError):  # the other end is closed
            while read := os.read(ours, 1 << 16):
                found += read
        os.close(ours)
    assert running.returncode == 0
    return found.decode().replace("\r\n", "\n")


@pytest.mark.parametrize(("columns", "environment"), [(60, {}), (90, {}), (200, {"COLUMNS": "70"})], ids=str)
def test_notes_are_cut_to_the_width_of_a_terminal(columns: int, environment: dict[str, str], tmp_path: Path) -> None:
    folder = fill(tmp_path / "records", everything())
    shown = on_a_terminal([AGRBENCH, "table", str(folder)], columns, **environment)
    width = int(environment.get("COLUMNS", columns))
    cut = shown.rstrip("\n").split("\n\n")[-1].split("\n")
    (made,) = tables(metrics.groups(everything()), "triad")
    assert max(map(len, cut)) <= width
    assert len(cut) > len(made.notes)
    assert " ".join(cut) == " ".join(made.notes)


@pytest.mark.parametrize("said", EVIL, ids=ascii)
def test_a_browser_shows_text_and_obeys_none(said: str) -> None:
    """The cells of a table in HTML hold the same text as the table, and no element but those that we write."""
    written = formats.write([holding(said)], "html")
    reader = Elements()
    reader.feed(written)
    assert set(reader.tags) <= {"p", "strong", "br", "table", "thead", "tbody", "tr", "th", "td"}
    assert texts.one_line(said).strip() in "".join(reader.said)
    assert holding(said)._repr_html_() == written


class Elements(HTMLParser):
    """Collect the tags and the text of a document."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.said: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.said.append(data)


@pytest.mark.parametrize("form", ["github", "html", "latex", "csv", "json"])
def test_other_formats_are_the_same_on_a_terminal_and_in_a_file(form: str, tmp_path: Path) -> None:
    words = [AGRBENCH, "table", str(fill(tmp_path / "records", everything())), "--format", form]
    written = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert on_a_terminal(words, 60) == written


def test_a_note_of_several_lines_keeps_them_and_their_indentation(monkeypatch: pytest.MonkeyPatch) -> None:
    note = "a licence\n    read from a folder of a long name"
    monkeypatch.setenv("COLUMNS", "20")
    assert formats.wrapped(note) == note
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert formats.wrapped(note) == "a licence\n    read from a\n    folder of a long\n    name"


# Records that others wrote, on a terminal


def evil_record(said: str) -> Record:
    odd = Cell("digits", "krum", "none", 0, clients=20, rounds=20, device=f"cuda{said}")
    record = finished(odd, [0.1, 0.5, 0.75])
    record |= {"environment": {"device": said, said: 1}, "classes": 10}
    return record | {"groups": {"classes": {"rows": [1, 1], "hits": [0, 1], "names": [said, "b"]}}}


@pytest.mark.parametrize("said", EVIL[:11], ids=ascii)
def test_show_prints_no_control_character(said: str, tmp_path: Path) -> None:
    records = [evil_record(said), failed(cell("krum", "none", 0), REGISTRY, said, f"Traceback\n{said}\n")]
    for place, record in enumerate(records):
        path = tmp_path / f"record-{Cell.from_json(record['cell']).key}-{place}.json"
        path.write_text(json.dumps(record))
        done = CliRunner().invoke(main, ["show", str(path)])
        assert done.exit_code == 0, done.output
        assert all(each.isprintable() or each in "\n" for each in done.output)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("said", EVIL[:11], ids=ascii)
def test_a_device_starts_no_line_of_its_own(said: str, form: str, tmp_path: Path) -> None:
    path = tmp_path / "records" / f"record-{Cell.from_json(evil_record(said)['cell']).key}.json"
    path.parent.mkdir()
    path.write_text(json.dumps(evil_record(said)))
    done = CliRunner().invoke(main, ["table", str(path.parent), "--format", form])
    assert done.exit_code == 0, done.output
    assert all(each.isprintable() or each == "\n" for each in done.output)
    plain = CliRunner().invoke(main, ["table", str(fill(tmp_path / "o", [evil_record("")])), "--format", form]).output
    assert done.output.count("\n") == plain.count("\n")


def test_a_file_s_name_is_printed_without_its_control_characters(tmp_path: Path) -> None:
    name = "\x1b[31m\u202e.json"
    (tmp_path / name).write_text("{")
    done = CliRunner().invoke(main, ["show", str(tmp_path / name)])
    assert done.exit_code == 2
    assert r"\x1b[31m\u202e.json: not JSON" in done.stderr
    assert "\x1b" not in done.output


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "ascii", "gbk", "utf-8"])
def test_every_encoding_of_the_terminal_can_be_printed_to(encoding: str, tmp_path: Path) -> None:
    fallen = finished(Cell("digits", "krum", "label_flip", 0, clients=20, rounds=20), [0.1, 0.5, 0.05])
    fill(tmp_path / "r", [*without(everything([0]), "krum", "label_flip", 0), fallen])
    path = Store(tmp_path / "r").path(Cell.from_json(fallen["cell"]))
    for words in (["show", str(path)], ["table", str(tmp_path / "r")], ["--help"]):
        done = subprocess.run(
            [sys.executable, "-c", "from agrbench.cli import main; main()", *words],
            capture_output=True, check=False, env=os.environ | {"PYTHONIOENCODING": encoding},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()
        shown = done.stdout.decode("utf-8" if encoding == "ascii" else encoding)  # click writes UTF-8 where it is ASCII
        if words[0] == "show":
            assert re.search(r"accuracy +\S{3}  0\.0500 to 0\.5000", shown)


# Units, protocols, and times that were not measured


@pytest.mark.parametrize(
    ("metric", "unit"),
    [("triad", "points"), ("worst", "points"), ("loss", "share"), ("fidelity", "share"), ("final", "share"),
     ("trust", "share"), ("time", "seconds")],
)  # fmt: skip
def test_a_flat_row_says_its_unit(metric: str, unit: str) -> None:
    (made,) = tables(metrics.groups(everything()), metric)
    assert {each["unit"] for each in made.data} == {unit}


def test_one_quantity_is_the_same_in_two_tables_once_its_unit_is_read() -> None:
    of: dict[str, float] = {"points": 1, "share": 100}
    found: dict[str, list[float]] = {}
    for metric, column in (("triad", "fidelity_loss"), ("fidelity", "mean")):
        (made,) = tables(metrics.groups(everything()), metric)
        for each in made.data:
            found.setdefault(each["defense"], []).append(of[each["unit"]] * each[column])
    assert all(one == pytest.approx(other, abs=1e-9) for one, other in found.values())


def two_protocols() -> list[Record]:
    return [*everything(), *(record | {"protocol": 0} for record in everything())]


@pytest.mark.parametrize("metric", ["triad", "loss", "worst", "final"])
def test_two_protocols_make_two_titles_and_two_kinds_of_rows(metric: str) -> None:
    made = tables(metrics.groups(two_protocols()), metric)
    assert len({table.title for table in made}) == 2
    assert [table.title.endswith(", protocol 0") for table in made].count(True) == 1
    assert {each.get("protocol") for table in made for each in table.data} == {0, None}


def retimed(seconds: Callable[[Record], float]) -> list[Record]:
    return [record | {"time": record["time"] | {"server_s": seconds(record)}} for record in everything()]


UNTIMED: dict[str, list[Record]] = {
    "nobody": retimed(lambda record: 0.0),
    "all but fedavg": retimed(lambda record: 0.0 if record["cell"]["defense"] == "fedavg" else 0.001),
    "only fedavg": retimed(lambda record: 0.001 if record["cell"]["defense"] == "fedavg" else 0.0),
    "no fedavg": [record for record in everything() if record["cell"]["defense"] != "fedavg"],
}


@pytest.mark.parametrize("kind", UNTIMED)
@pytest.mark.parametrize("metric", ["triad", "time", "loss", "worst"])
def test_a_time_that_is_unknown_is_no_number_and_no_best(kind: str, metric: str) -> None:
    groups = metrics.groups(UNTIMED[kind])
    (made,) = tables(groups, metric)
    for form in FORMS:
        assert not re.search(r"\bnan\b|\binf\b|xnan|NaN", formats.write([made], form))
    if kind in ("nobody", "only fedavg") and metric in ("triad", "time"):
        names = ("server ms", "x fedavg") if metric == "triad" else ("krum", "amp+krum")
        firsts = ("krum", "amp+krum") if metric == "triad" else ("none", "label_flip")
        assert not any(row(made, first)[name].best for first in firsts for name in names)


def test_the_ratio_to_fedavg_needs_both_times() -> None:
    def ratios(records: list[Record]) -> set[Any]:
        (made,) = tables(metrics.groups(records), "triad")
        return {each["server_ratio"] for each in made.data}

    assert all(ratios(UNTIMED[kind]) <= {None, 1.0} for kind in UNTIMED)


# The machine


def test_the_environment_says_which_path_through_the_processor_was_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ATEN_CPU_CAPABILITY", "MKL_CBWR"):
        monkeypatch.delenv(name, raising=False)
    told = machine.environment("cpu", 1)
    assert told["cpu_capability"]
    assert not {"ATEN_CPU_CAPABILITY", "MKL_CBWR"} & set(told)
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    assert machine.environment("cpu", 1)["MKL_CBWR"] == "COMPATIBLE"
