"""Tables in the order and with the columns that a reader asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agrbench.errors import AgrbenchError
from agrbench.results.formats import NONE, Entry, Table
from agrbench.results.tables.arrange import arranged, split
from tests.helpers.commands import ask, invoke
from tests.helpers.records import fill
from tests.helpers.triad import everything

SHOWN = st.one_of(st.just(NONE), st.integers(-99, 99).map(lambda tenths: f"{tenths / 10:.1f} [0.0, 1.0]"))


def table(values: list[str]) -> Table:
    rows = tuple((Entry((f"row{place}",)), Entry((value,)), Entry(("x",))) for place, value in enumerate(values))
    return Table("a table", ("name", "worst\nloss", "other"), rows, (), ())


@given(st.lists(SHOWN, max_size=8), st.booleans())
def test_rows_are_in_the_order_of_their_numbers_and_missing_ones_last(values: list[str], reverse: bool) -> None:
    (made,) = arranged([table(values)], "worst loss", reverse, [])
    shown = [row[1].lines[0] for row in made.rows]
    known = [float(value.split()[0]) for value in shown if value != NONE]
    assert known == sorted(known, reverse=reverse)
    assert shown[len(known) :] == [NONE] * (len(values) - len(known))
    assert sorted(row[0].lines[0] for row in made.rows) == [f"row{place}" for place in range(len(values))]
    for row in made.rows:
        assert values[int(row[0].lines[0][3:])] == row[1].lines[0]


def test_equal_rows_keep_their_order_and_names_sort_by_their_numbers() -> None:
    (made,) = arranged([table(["1.0", "1.0", "0.5"])], "worst loss", False, [])
    assert [row[0].lines[0] for row in made.rows] == ["row2", "row0", "row1"]
    rows = tuple((Entry((name,)),) for name in ("krum(m=10)", "krum(m=2)", "amp+krum"))
    (made,) = arranged([Table("", ("defense",), rows, (), ())], "defense", False, [])
    assert [row[0].lines[0] for row in made.rows] == ["amp+krum", "krum(m=2)", "krum(m=10)"]


def test_columns_are_kept_in_the_order_of_their_names_after_the_first() -> None:
    (made,) = arranged([table(["1.0"])], None, False, ["other", "worst loss", "other"])
    assert made.headers == ("name", "other", "worst\nloss")
    assert [entry.lines[0] for entry in made.rows[0]] == ["row0", "x", "1.0"]


def test_commas_inside_a_spec_separate_nothing() -> None:
    assert split("krum, amp(by='max',kernel=3)+krum,median") == ["krum", "amp(by='max',kernel=3)+krum", "median"]


def test_a_column_that_no_table_has_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(AgrbenchError, match="no column is named 'wrst loss'; write worst loss"):
        arranged([table(["1.0"])], "wrst loss", False, [])
    with pytest.raises(AgrbenchError, match="no column is named 'wrst loss'; write worst loss"):
        arranged([table(["1.0"])], None, False, ["wrst loss"])


def test_the_command_sorts_and_selects(tmp_path: Path) -> None:
    folder = fill(tmp_path / "records", everything())
    done = invoke("table", folder, "--sort", "server ms", "--reverse", "--columns", "server ms")
    lines = done.output.split("\n\n")[1].splitlines()
    assert [line.split()[0] for line in lines if "." in line] == ["krum", "amp+krum", "fedavg"]
    assert lines[0].split() == ["defense", "server"]
    for words, told in (
        (["--reverse"], "write --sort COLUMN with it"),
        (["--format", "csv", "--sort", "defense"], "--format csv has all fields"),
    ):
        done = ask("table", folder, *words)
        assert done.exit_code == 2
        assert told in done.output
