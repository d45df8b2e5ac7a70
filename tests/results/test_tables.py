"""Tables: numbers worked out by hand, the same in every format."""

from __future__ import annotations

import csv
import io
import json
import math
import random
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from agrbench.cells import Cell
from agrbench.cli import main
from agrbench.plugins.registry import Registry
from agrbench.results import formats, metrics
from agrbench.results.formats import Entry, Table
from agrbench.results.record import Record, failed, skipped
from agrbench.results.store import Store
from agrbench.results.tables import tables
from agrbench.results.tables.matrix import METRICS
from tests.helpers.records import REGISTRY, finished
from tests.helpers.tables import headers, row
from tests.helpers.triad import ATTACKS, DEFENSES, SEEDS, cell, everything, made, without


def table(records: list[Record], metric: str = "triad") -> Table:
    (made,) = tables(metrics.groups(records), metric)
    return made


def text(records: list[Record], metric: str, form: str) -> str:
    return formats.write(tables(metrics.groups(records), metric), form)


# The triad by hand


def test_the_triad_is_what_one_works_out_by_hand() -> None:
    """fedavg without attack reaches 90 on the mean of both rounds; losses are against that."""
    data = {each["defense"]: each for each in table(everything()).data}
    assert list(data) == ["fedavg", "krum", "amp+krum"]
    wanted = {
        # (worst loss, its attack, mean loss, fidelity loss, server milliseconds, ratio to fedavg)
        "fedavg": (60.0, "gradient_ascent", 40.0, 0.0, 1.0, 1.0),
        "krum": (10.0, "gradient_ascent", 8.0, 4.0, 5.0, 5.0),
        # Under gradient ascent it loses 4, 5 and 6 points with its seeds, under label flips always 7.
        "amp+krum": (7.0, "label_flip", 6.0, 2.0, 3.0, 3.0),
    }
    names = ("worst_loss", "worst_attack", "mean_loss", "fidelity_loss", "server_ms", "server_ratio")
    for defense, values in wanted.items():
        for name, value in zip(names, values, strict=True):
            # Hundreds are differences of two-digit decimals: exact but for roundings of some 1e-14.
            assert data[defense][name] == (value if isinstance(value, str) else pytest.approx(value, abs=1e-11)), name
        assert data[defense]["seeds"] == [0, 1, 2]
        assert data[defense]["worst_success"] is None
        assert data[defense]["collapsed"] is False
    # As above.
    assert data["amp+krum"]["mean_loss_by_seed"] == pytest.approx([5.5, 6.0, 6.5], abs=1e-11)


def test_what_amplification_gains_is_what_one_works_out_by_hand() -> None:
    data = {each["defense"]: each for each in table(everything()).data}
    amplified = data["amp+krum"]
    # Mean losses by seed are 5.5, 6, 6.5 against 8, 8, 8: the mean is -2, its standard error 0.5 / sqrt(3), and
    # t(0.975, 2 df) = 4.3026527 (table of eight digits); p = 1 - |t| / sqrt(t^2 + 2) in closed form.
    assert amplified["gain"] == pytest.approx(-2, abs=1e-11)
    assert amplified["gain_low"] == pytest.approx(-2 - 4.3026527 * 0.5 / math.sqrt(3), abs=1e-6)
    assert amplified["gain_high"] == pytest.approx(-2 + 4.3026527 * 0.5 / math.sqrt(3), abs=1e-6)
    t = 2 / (0.5 / math.sqrt(3))
    assert amplified["gain_p"] == pytest.approx(1 - t / math.sqrt(t * t + 2), rel=1e-6)
    assert amplified["gain_interval"] == "Student's t, 2 df"
    assert all(data[base]["gain"] is data[base]["gain_p"] is None for base in ("fedavg", "krum"))


def test_the_triad_is_shown_as_it_was_worked_out() -> None:
    found = {
        line[0].lines[0]: [entry.lines for entry in line[1:]]
        for line in table(everything()).rows
    }  # fmt: skip
    assert found == {
        "fedavg": [("60.0 gradient_ascent",), ("40.0",), ("-",), ("0.0",), ("1.00",), ("1.0",), ("-",)],
        "krum": [("10.0 gradient_ascent",), ("8.0",), ("-",), ("4.0",), ("5.00",), ("5.0",), ("-",)],
        "amp+krum": [
            ("7.0 label_flip",), ("6.0",), ("-",), ("2.0",), ("3.00",), ("3.0",), ("-2.0 [-3.2, -0.8] p=0.02",),
        ],
    }  # fmt: skip


def test_the_p_values_of_a_table_are_adjusted_for_their_number() -> None:
    """A second amplified form, of fedavg's twin, with the same differences: two claims of one p-value."""
    once = {each["defense"]: each for each in table(everything()).data}
    records = everything()
    for record in everything():
        if record["cell"]["defense"] != "fedavg":
            twin = record["cell"]["defense"].replace("krum", "median")
            records.append(record | {"cell": record["cell"] | {"defense": twin}})
    twice = {each["defense"]: each for each in table(records).data}
    # The same p-value, doubled.
    assert twice["amp+krum"]["gain_p"] == pytest.approx(2 * once["amp+krum"]["gain_p"], rel=1e-12)
    assert twice["amp+median"]["gain_p"] == twice["amp+krum"]["gain_p"]


def test_a_matrix_has_attacks_as_rows_and_defenses_as_columns() -> None:
    losses = table(everything(), "loss")
    assert losses.headers == ("attack", "fedavg", "krum", "amp+krum")
    assert [line[0].lines[0] for line in losses.rows] == ["gradient_ascent", "label_flip"]
    ascent = row(losses, "gradient_ascent")
    assert ascent["krum"].lines[0] == "10.0"
    assert ascent["krum"].lines[-1] == "4.0 + 6.0"
    assert ascent["amp+krum"].lines[0] == "5.0"
    assert ascent["amp+krum"].lines[-1] == "2.0 + 3.0"


@pytest.mark.parametrize(
    ("metric", "attack", "wanted"),
    [
        ("fidelity", "none", {"fedavg": 0.0, "krum": 0.04, "amp+krum": 0.02}),
        ("final", "label_flip", {"fedavg": 0.70, "krum": 0.84, "amp+krum": 0.84}),
        ("final", "none", {"fedavg": 0.92, "krum": 0.87, "amp+krum": 0.88}),
        ("time", "none", {"fedavg": 0.001, "krum": 0.005, "amp+krum": 0.003}),
        ("trust", "label_flip", {"fedavg": 0.3, "krum": 0.3, "amp+krum": 0.3}),
    ],
)
def test_every_matrix_shows_its_own_metric(metric: str, attack: str, wanted: dict[str, float]) -> None:
    data = [each for each in table(everything(), metric).data if each["attack"] == attack]
    # Means of three equal two-digit decimals.
    assert {each["defense"]: each["mean"] for each in data} == pytest.approx(wanted, abs=1e-12)


def test_success_is_shown_for_targeted_attacks_only() -> None:
    records = everything()
    for record in records:
        if record["cell"]["attack"] == "label_flip":
            share = {"fedavg": 1.0, "krum": 0.5, "amp+krum": 0.25}[record["cell"]["defense"]]
            record |= {"success": [None, share, share], "success_untriggered": [None, 0.0, 0.125]}
    shown = table(records, "success")
    assert [line[0].lines[0] for line in shown.rows] == ["label_flip"]
    flip = row(shown, "label_flip")
    assert flip["amp+krum"].lines[0] == "25.0"
    assert flip["amp+krum"].lines[-1] == "6.2 untriggered"
    assert [flip[defense].best for defense in DEFENSES] == [False, False, True]
    triad = {each["defense"]: each["worst_success"] for each in table(records).data}
    assert triad == {"fedavg": 100.0, "krum": 50.0, "amp+krum": 25.0}


# What is marked


def test_the_best_of_every_column_of_the_triad_is_marked_and_never_fedavg() -> None:
    made = table(everything())
    best = {line[0].lines[0]: [h for h, e in zip(headers(made), line, strict=True) if e.best] for line in made.rows}
    assert best == {
        "fedavg": [],
        "krum": [],
        "amp+krum": ["worst loss", "mean loss", "fidelity loss", "server ms"],
    }


def test_fedavg_is_not_marked_where_a_defense_is_as_good() -> None:
    same = {"time": {"server_s": 0.001, "round_s": 0.5, "alone": True}, "accuracy": [0.1, 0.88, 0.92]}
    records = [r | same if r["cell"]["defense"] == "krum" else r for r in everything()]
    made = table(records)
    for column in ("fidelity loss", "server ms"):
        assert row(made, "krum")[column].best
        assert not row(made, "fedavg")[column].best
        assert row(made, "krum")[column].lines == row(made, "fedavg")[column].lines


@pytest.mark.parametrize("metric", sorted(METRICS))
def test_fedavg_is_never_marked_best(metric: str) -> None:
    made = table(everything(), metric)
    place = made.headers.index("fedavg")
    assert not any(line[place].best for line in made.rows)


@pytest.mark.parametrize(
    ("metric", "attack", "best"),
    [("loss", "gradient_ascent", "amp+krum"), ("loss", "label_flip", "krum"), ("final", "none", "amp+krum")],
)
def test_the_best_of_every_row_of_a_matrix_is_marked(metric: str, attack: str, best: str) -> None:
    line = row(table(everything(), metric), attack)
    assert [name for name, entry in line.items() if entry.best] == [best]


@pytest.mark.parametrize(
    ("form", "marked", "plain"),
    [
        ("plain", "7.0 label_flip *", "10.0 gradient_ascent *"),
        ("github", "**7.0 label_flip**", "**10.0 gradient_ascent**"),
        ("latex", r"\textbf{7.0 label\_flip}", r"\textbf{10.0"),
    ],
)
def test_every_format_marks_the_best_in_its_own_way(form: str, marked: str, plain: str) -> None:
    written = text(everything(), "triad", form)
    assert marked in written
    assert plain not in written
    assert "60.0 gradient" in written


def test_a_collapsed_model_is_marked_and_the_mark_explained() -> None:
    records = without(everything(), "krum", "label_flip", 1)
    records.append(made("krum", "label_flip", 1, accuracy=[0.1, 0.84, 0.19]))
    shown = table(records)
    assert row(shown, "krum†")["worst loss"].lines
    assert any("† collapsed" in note for note in shown.notes)
    assert row(table(records, "loss"), "label_flip")["krum"].lines[0].endswith("†")
    assert "†" not in str(table(everything()))


def test_a_loss_between_two_unstable_runs_is_marked_and_the_mark_explained() -> None:
    """The run without attack or defense of seed 1 loses 2.5 points between evaluations, and krum's loses 3."""
    shaken = [each for each in everything() if (each["cell"]["defense"], each["cell"]["attack"]) != ("fedavg", "none")]
    shaken += [made("fedavg", "none", seed, accuracy=[0.1, 0.9, 0.9 - 0.025 * seed]) for seed in range(2)]
    records = without(shaken, "krum", "label_flip", 1)
    records.append(made("krum", "label_flip", 1, accuracy=[0.1, 0.87, 0.84]))
    losses = table(records, "loss")
    marked = {(each["defense"], each["attack"]) for each in losses.data if each["unstable"]}
    assert ("krum", "label_flip") in marked
    assert row(losses, "label_flip")["krum"].lines[0].endswith("‡")
    assert any("‡ unstable" in note for note in losses.notes)
    assert row(table(records), "krum‡")["worst loss"].lines
    assert not any(each["unstable"] for each in table(records, "final").data)
    assert not any(each["unstable"] for each in table(everything(), "loss").data)


# What is incomplete


@pytest.mark.parametrize("kind", ["failed", "skipped", "absent"])
def test_a_row_without_an_attack_is_not_ranked(kind: str) -> None:
    where = ("amp+krum", "gradient_ascent")
    records = [r for r in everything() if (r["cell"]["defense"], r["cell"]["attack"]) != where]
    begin: Callable[[Cell, Registry, str], Record] | None = {"failed": failed, "skipped": skipped}.get(kind)
    if begin is not None:
        records += [begin(cell(*where, seed), REGISTRY, "out of memory") for seed in SEEDS]
    made = table(records)
    amplified = row(made, "amp+krum")
    assert amplified["worst loss"].lines == amplified["mean loss"].lines == ("-",)
    assert amplified["amplified - base"].lines == ("not both complete",)
    assert row(made, "krum")["worst loss"].best
    if begin is not None:
        said = f"Not ranked: amp+krum under gradient_ascent: {kind}: out of memory."
        assert said in made.notes
        assert all(said in text(records, "triad", form) for form in ("plain", "github", "latex"))


def test_an_incomplete_row_is_not_ranked_by_what_is_left_of_it() -> None:
    """Of amp+krum's unattacked runs only the luckiest seed is there: no fidelity loss can be compared with it."""
    records = [r for r in everything() if (r["cell"]["defense"], r["cell"]["attack"]) != ("amp+krum", "none")]
    records.append(made("amp+krum", "none", 0))
    records += [failed(cell("amp+krum", "none", seed), REGISTRY, "out of memory") for seed in (1, 2)]
    assert not row(table(records), "amp+krum")["fidelity loss"].best
    assert not row(table(records, "fidelity"), "none")["amp+krum"].best
    assert not row(table(records, "final"), "none")["amp+krum"].best


def test_rows_are_ranked_on_the_seeds_that_all_have_and_it_is_said_who_has_more() -> None:
    """Without its worst seed amp+krum loses 4 and 5 points under gradient ascent; krum keeps two seeds as well."""
    records = without(everything(), "amp+krum", "gradient_ascent", 2)
    records.append(failed(cell("amp+krum", "gradient_ascent", 2), REGISTRY, "out of memory"))
    made = table(records)
    data = {each["defense"]: each for each in made.data}
    assert all(each["seeds"] == [0, 1] for each in made.data)
    assert data["amp+krum"]["mean_loss"] == pytest.approx((4.5 + 7) / 2, abs=1e-11)
    assert row(made, "amp+krum")["worst loss"].best
    said = "Ranked on seeds 0, 1, which all ranked defenses have (not counted: seed 2 of fedavg, krum)"
    assert any(note.startswith(said) for note in made.notes)
    assert "Missing: amp+krum under gradient_ascent: failed: out of memory." in made.notes
    losses = table(records, "loss")
    assert [each["seeds"] for each in losses.data] == [[0, 1]] * 3 + [[0, 1, 2]] * 3
    assert f"Under gradient_ascent: {said}." in losses.notes
    assert "Under label_flip: 3 seeds." in losses.notes
    for each in losses.data:
        assert each["fidelity"] + each["damage"] == pytest.approx(each["mean"], abs=1e-12)


def test_a_row_of_one_seed_is_shown_and_neither_ranked_nor_marked() -> None:
    records = [r for r in everything() if r["cell"]["defense"] != "amp+krum" or r["cell"]["seed"] == 0]
    made = table(records)
    assert row(made, "amp+krum")["worst loss"].lines == ("7.0 label_flip",)
    assert not any(entry.best for entry in row(made, "amp+krum").values())
    assert row(made, "krum")["worst loss"].best
    assert "Not ranked: amp+krum: it has only seed 0." in made.notes
    assert "Not ranked: amp+krum: it has only seed 0." in table(records, "loss").notes
    assert row(made, "amp+krum")["amplified - base"].lines == ("-2.5 (one seed: no interval)",)


@pytest.mark.parametrize(
    ("metric", "marked"), [("loss", False), ("final", False), ("trust", True), ("time", True), ("fidelity", True)]
)
def test_nothing_is_marked_under_an_attack_that_costs_most_with_a_defense(metric: str, marked: bool) -> None:
    """Under label flips fedavg keeps 87 percent, more than krum's 84 and the 83 of its amplified form."""
    harmless = {"accuracy": [0.1, 0.87, 0.87]}
    records = [
        record | harmless
        if (record["cell"]["defense"], record["cell"]["attack"]) == ("fedavg", "label_flip")
        else record
        for record in everything()
    ]
    made = table(records, metric)
    line = row(made, "none" if metric == "fidelity" else "label_flip")
    assert any(entry.best for entry in line.values()) == marked
    said = "No defense is marked under label_flip: each does worse there than fedavg, which defends nothing."
    assert (said in made.notes) == (not marked)
    if metric == "loss":
        assert any(entry.best for entry in row(made, "gradient_ascent").values())


def test_a_defense_as_good_as_fedavg_is_marked_and_one_that_is_worse_is_not() -> None:
    for percent, marked in ((0.84, True), (0.8400001, False)):
        records = [
            record | {"accuracy": [0.1, percent, percent]}
            if (record["cell"]["defense"], record["cell"]["attack"]) == ("fedavg", "label_flip") else record
            for record in everything()
        ]  # fmt: skip
        assert row(table(records, "loss"), "label_flip")["krum"].best == marked


def test_a_column_of_the_triad_in_which_fedavg_is_best_has_no_mark_and_is_named() -> None:
    harmless = {"accuracy": [0.1, 0.89, 0.89]}
    attacked = ("gradient_ascent", "label_flip")
    records = [
        record | harmless if record["cell"]["defense"] == "fedavg" and record["cell"]["attack"] in attacked else record
        for record in everything()
    ]
    made = table(records)
    assert [name for name, entry in row(made, "amp+krum").items() if entry.best] == ["fidelity loss", "server ms"]
    said = "No defense is marked in worst loss, mean loss: each does worse there than fedavg, which defends nothing."
    assert said in made.notes


def test_reasons_are_named_once_however_many_cells_they_hit() -> None:
    records = [r for r in everything() if r["cell"]["defense"] != "krum"]
    records += [skipped(cell("krum", a, s), REGISTRY, "2f + 2 < n fails") for a in ATTACKS for s in SEEDS]
    notes = [note for note in table(records).notes if "Not ranked" in note]
    assert notes == [
        "Not ranked: krum under none, krum under gradient_ascent, krum under label_flip: skipped: 2f + 2 < n fails."
    ]
    assert all(entry.lines == ("-",) for entry in list(row(table(records), "krum").values())[1:])


def test_a_loss_without_its_parts_is_still_json() -> None:
    """The unattacked run failed: fidelity loss and damage are unknown, and JSON has no NaN."""
    records = [r for r in everything() if (r["cell"]["defense"], r["cell"]["attack"]) != ("krum", "none")]
    for metric in ("loss", "triad"):

        def refuse(token: str) -> None:
            raise AssertionError(f"{token} is no JSON")

        json.loads(text(records, metric, "json"), parse_constant=refuse)
        assert "nan" not in text(records, metric, "plain")
        assert "nan" not in text(records, metric, "csv")


# Seeds


def test_one_seed_has_no_interval_and_says_so() -> None:
    made = table(everything([4]))
    assert "One seed (4): no interval, and nothing is ranked." in made.notes
    assert not any("marked" in note or "Not ranked" in note for note in made.notes)
    assert not any(entry.best for line in made.rows for entry in line)
    # With seed 4 it loses 8 points under gradient ascent and 7 under label flips, krum 10 and 6.
    assert row(made, "amp+krum")["amplified - base"].lines == ("-0.5 (one seed: no interval)",)
    losses = table(everything([4]), "loss")
    assert "One seed (4): no interval, and nothing is ranked." in losses.notes
    assert not any(entry.best for line in losses.rows for entry in line)
    assert row(table(everything([4]), "loss"), "label_flip")["krum"].lines == ("6.0", "4.0 + 2.0")


def test_below_six_seeds_every_value_is_shown_beside_the_t_interval() -> None:
    made = table(everything(range(5)), "loss")
    lines = row(made, "gradient_ascent")["amp+krum"].lines
    assert lines[0] == "6.0"
    # Values 4 to 8: the mean is 6, the standard error sqrt(2.5 / 5), t(0.975, 4 df) = 2.776: 6 -+ 1.96.
    assert lines[1] == "[4.0, 8.0]"
    assert lines[2] == "4.0 5.0 6.0 7.0 8.0"
    assert "5 seeds; 95% intervals: Student's t, 4 df; no variance." in made.notes


def test_from_six_seeds_on_the_bootstrap_is_shown_without_the_values() -> None:
    made = table(everything(range(6)), "loss")
    lines = row(made, "gradient_ascent")["amp+krum"].lines
    assert lines[0] == "6.5"
    assert len(lines) == 3  # the mean, the interval and the parts
    assert "6 seeds; 95% intervals: no variance; studentised bootstrap, 6 seeds." in made.notes


def test_a_gap_that_repeats_on_every_seed_has_a_point_for_an_interval() -> None:
    assert row(table(everything(), "loss"), "label_flip")["krum"].lines[:3] == ("6.0", "[6.0, 6.0]", "6.0 6.0 6.0")


# Formats


@pytest.mark.parametrize("metric", ["triad", *sorted(METRICS)])
def test_json_holds_every_number_at_full_precision(metric: str) -> None:
    records = everything()
    (made,) = tables(metrics.groups(records), metric)
    assert json.loads(text(records, metric, "json")) == [dict(each) for each in made.data]


@pytest.mark.parametrize("metric", ["triad", *sorted(METRICS)])
def test_csv_holds_every_number_at_full_precision(metric: str) -> None:
    records = everything()
    (made,) = tables(metrics.groups(records), metric)
    lines = list(csv.DictReader(io.StringIO(text(records, metric, "csv"))))
    assert len(lines) == len(made.data)
    for line, data in zip(lines, made.data, strict=True):
        assert list(line) == list(data)
        for name, value in data.items():
            if value is None:
                assert line[name] == ""
            elif isinstance(value, (list, dict)):
                assert json.loads(line[name]) == value
            elif isinstance(value, float):
                assert float(line[name]) == value
            else:
                assert line[name] == str(value)


def test_two_groups_make_two_tables_in_one_file() -> None:
    records = everything() + [
        record | {"cell": record["cell"] | {"dataset": "location30"}} for record in everything()
    ]  # fmt: skip
    assert {line["dataset"] for line in csv.DictReader(io.StringIO(text(records, "loss", "csv")))} == {
        "digits", "location30",
    }  # fmt: skip
    assert len(json.loads(text(records, "triad", "json"))) == 6
    assert text(records, "triad", "plain").count("The triad:") == 2


def many(count: int) -> list[Record]:
    """Make a wide table: many defenses of long names."""
    return everything() + [
        record | {"cell": record["cell"] | {"defense": f"amp(kernel={place})+krum"}}
        for place in range(3, 3 + count)
        for record in everything()
        if record["cell"]["defense"] == "amp+krum"
    ]


@pytest.mark.parametrize("columns", [80, 100, 133])
@pytest.mark.parametrize("metric", ["loss", "final"])
def test_a_table_with_many_columns_and_few_rows_is_turned(
    columns: int, metric: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    records = many(8)
    _, block, _ = text(records, metric, "plain").split("\n\n")
    first, *lines = block.splitlines()
    assert max(map(len, block.splitlines())) <= columns
    whole = table(records, metric)
    assert first.split() == ["defense", *(row[0].lines[0] for row in whole.rows)]
    names = [line.split()[0] for line in lines if line[:1].strip() and not line.startswith("-")]
    assert names == list(whole.headers[1:])
    for place, name in enumerate(whole.headers[1:], 1):
        shown = next(line for line in lines if line.split()[:1] == [name])
        assert shown.split()[1:] == [
            word for row in whole.rows for word in (row[place].lines[0] + " *" * row[place].best).split()
        ]


@pytest.mark.parametrize("columns", [80, 100])
def test_a_table_that_is_wide_either_way_is_cut_and_repeats_its_first_column(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    names = [f"attack_of_a_long_name_{place}" for place in range(12)]
    wide = Table(
        "wide", ("attack", *names), tuple(tuple(Entry((name,)) for _ in range(13)) for name in names), ("",), ()
    )
    _, *blocks, _ = formats.write([wide], "plain").split("\n\n")
    assert len(blocks) > 1
    for block in blocks:
        assert max(map(len, block.splitlines())) <= columns
        assert block.startswith("attack")
        assert all(re.search(rf"^{name}", block, re.MULTILINE) for name in names)
    assert [name for block in blocks for name in block.splitlines()[0].split()[1:]] == names


@pytest.mark.parametrize("columns", [80, 100, 133])
def test_a_wide_triad_is_cut_to_the_terminal_and_names_its_defenses_in_every_part(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    _, *blocks, _ = text(many(2), "triad", "plain").split("\n\n")
    for block in blocks:
        assert max(map(len, block.splitlines())) <= columns
        assert all(re.search(rf"^{re.escape(name)} ", block, re.MULTILINE) for name in DEFENSES)


def test_a_table_that_fits_is_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    assert len(text(many(8), "loss", "plain").split("\n\n")) == 3


def test_other_formats_are_never_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    forms: tuple[str, ...] = ("github", "latex", "csv", "json")
    monkeypatch.setenv("COLUMNS", "80")
    narrow = [text(many(8), "loss", form) for form in forms]
    monkeypatch.setenv("COLUMNS", "400")
    assert narrow == [text(many(8), "loss", form) for form in forms]


def named(defense: str, attack: str) -> list[Record]:
    """Make records whose specs hold what LaTeX and Markdown take for their own."""
    renamed = {"krum": defense, "label_flip": attack}

    def rename(cell: dict[str, Any]) -> dict[str, Any]:
        return cell | {part: renamed.get(cell[part], cell[part]) for part in ("defense", "attack")}

    return [record | {"cell": rename(record["cell"])} for record in everything()]


def test_latex_escapes_what_it_takes_for_its_own() -> None:
    written = text(named("a_b(c='50%&#')", "x_y(z='1%')"), "loss", "latex")
    body = "\n".join(line for line in written.splitlines() if not line.startswith("%"))
    assert r"a\_b(c='50\%\&\#')" in body
    assert r"x\_y(z='1\%')" in body
    assert not re.search(r"(?<!\\)[_%#]", body)


@pytest.mark.parametrize(
    ("letter", "written"),
    [("{", r"\{"), ("}", r"\}"), ("$", r"\$"), ("~", "textasciitilde"), ("^", "textasciicircum"), ("\\", "backslash")],
)
def test_latex_escapes_brackets_and_signs_of_literals(letter: str, written: str) -> None:
    body = text(named(f"rule(x='{letter}')", "label_flip"), "loss", "latex")
    header = next(line for line in body.splitlines() if "rule(x=" in line)
    assert written in header
    assert f"'{letter}'" not in header


def test_no_line_of_a_latex_entry_is_taken_for_the_length_of_a_line_break() -> None:
    r"""LaTeX reads `\\ [1.0, 2.0]` as a line break followed by a skip of that length, and stops."""
    written = text(everything(), "loss", "latex")
    assert "[3.6, 6.4]" not in written or r"\shortstack" in written
    assert not re.search(r"\\\\\s*[\[*]", written)


@pytest.mark.parametrize("form", ["plain", "github", "latex"])
def test_a_reason_of_several_lines_does_not_break_the_notes(form: str) -> None:
    records = without(everything(), "krum", "none", 2)
    records.append(failed(cell("krum", "none", 2), REGISTRY, "RuntimeError: first line\nsecond_line"))
    written = text(records, "triad", form)
    (said,) = [line for line in written.splitlines() if "first line" in line]
    assert "second_line" in said
    if form == "latex":
        assert said.startswith("%")


def test_a_github_table_has_one_line_a_row_and_as_many_bars_in_each() -> None:
    written = text(named("rule(x='a|b')", "other(y='|')"), "loss", "github")
    lines = [line for line in written.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 2
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1


def test_the_title_says_what_was_run() -> None:
    title = table(everything()).title
    for said in ("digits", "20 clients", "6 malicious", "server assumes 6", "20 rounds", "attack from 10"):
        assert said in title


def title(spelled: Callable[[str], str] = str, dataset: str = "digits", **settings: Any) -> str:
    """Return the title of a table of one record under some settings."""
    made = finished(Cell("digits", "fedavg", "none", 0, **{"clients": 20, "rounds": 20} | settings), [0.1, 0.5, 0.75])
    renamed = made | {"cell": made["cell"] | {"dataset": dataset}}
    (shown,) = tables(metrics.groups([renamed], spelled), "triad")
    return shown.title


@pytest.mark.parametrize(
    ("setting", "typed", "said"),
    [
        ("partition", "dirichlet", "partition dirichlet(alpha=0.1)"),
        ("partition", "dirichlet(alpha=0.1)", "partition dirichlet(alpha=0.1)"),
        ("partition", "dirichlet(alpha=0.5)", "partition dirichlet(alpha=0.5)"),
        ("partition", "shards", "partition shards(labels=2)"),
        ("malicious", "bernoulli(share=0.3)", "bernoulli(share=0.3) malicious"),
        ("sample", "sample(6,by='size')", "sample sample(6,by='size')"),
        ("sample", "sample(6,quantile=0.9)", "sample sample(6,by='uniform',quantile=0.9)"),
        ("schedule", "adam", "schedule adam(batches=1,epochs=1,poisoned='anew',root='batches'), rate 0.001"),
        ("schedule", "adam(epochs=2,rate=0.5)", "rate 0.5"),
        (
            "schedule",
            "sgd(momentum=0.9)",
            "schedule sgd(batches=1,epochs=1,momentum=0.9,poisoned='anew',root='batches')",
        ),
        ("model", "mlp(512)", "model mlp(512)"),
        ("rate", 0.25, "rate 0.25"),
    ],
)
def test_a_title_has_every_hyperparameter_of_its_specs(setting: str, typed: object, said: str) -> None:
    given: dict[str, Any] = {setting: typed}
    assert said in title(**given)


def test_a_title_has_every_hyperparameter_of_the_dataset_and_takes_one_out_of_reach_as_it_is() -> None:
    spelled = partial(REGISTRY.spelled, "dataset")
    wanted = "synthetic(classes=10,rows=900,shape=(20,),spread=1.0,test=500)"
    assert f"The triad: {wanted}, 20 clients" in title(spelled, "synthetic(rows=900)")
    assert "The triad: mine(x=1), 20 clients" in title(spelled, "mine(x=1)")
    assert REGISTRY.canonical("dataset", wanted) == "synthetic(rows=900)"
    assert REGISTRY.spelled("defense", "amp(kernel=3)+krum").startswith("amp(by='value',")


def test_two_protocols_never_have_one_title() -> None:
    choices: dict[str, list[Any]] = {
        "clients": [20, 50], "malicious": [0.3, 2, "bernoulli", "bernoulli(share=0.2)"], "byzantine": [None, 1],
        "rounds": [20, 60], "start": [None, 20], "rate": [None, 0.5, 0.001], "root": ["train", "test"],
        "schedule": ["sgd", "adam", "adam(epochs=2)", "sgd(momentum=0.9)"], "model": [None, "mlp", "mlp(512)", "cnn"],
        "partition": ["iid", "dirichlet", "dirichlet(alpha=0.5)", "shards", "quantity"], "threads": [1, 2],
        "sample": [None, 5, "sample(5,by='size')", "sample(5,quantile=0.9)"], "device": ["cpu", "cuda"],
    }  # fmt: skip
    draw = random.Random(0)
    found: dict[str, dict[str, Any]] = {}
    for _ in range(600):
        cell = Cell("digits", "fedavg", "none", 0, **{name: draw.choice(each) for name, each in choices.items()})
        (made,) = tables(metrics.groups([finished(cell, [0.1] * (1 + cell.rounds // 10))]), "triad")
        assert found.setdefault(made.title, cell.settings) == cell.settings
    assert len(found) > 500


# One record for a person


def shown(record: Record, folder: Path) -> str:
    done = CliRunner().invoke(main, ["show", str(Store(folder).write(record))])
    assert done.exit_code == 0, done.output
    return done.output
