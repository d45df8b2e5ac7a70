"""The worst-case table: numbers worked by hand, and the same from plain arithmetic on made-up curves."""

from __future__ import annotations

import csv
import io
import json
import math
import random
import statistics
import tomllib
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import scipy.stats
from click.testing import CliRunner
from hypothesis import assume, given
from hypothesis import strategies as st

from agrbench.cells import Cell
from agrbench.cli import main
from agrbench.plugins.registry import Registry
from agrbench.results import formats, metrics
from agrbench.results.formats import Table
from agrbench.results.record import Record, failed, skipped
from agrbench.results.tables import tables
from agrbench.simulation import suites
from tests.helpers.oracles_statistics import flips
from tests.helpers.records import fill
from tests.helpers.records import measured as made
from tests.helpers.tables import headers, row
from tests.helpers.triad import without

REGISTRY = Registry()
KEYS = [
    "dataset", "settings", "unit", "defense", "rank", "attack", "loss", "low", "high", "interval", "seeds", "values",
    "regret", "regret_low", "regret_high", "regret_p", "on_fedavg", "collapsed", "unstable",
]  # fmt: skip
REFERENCE = (80, 90, 70)  # accuracy in percent of the unattacked, undefended run, a number a seed
POINTS = {  # what is lost against it, a number a seed
    ("fedavg", "lie"): (50, 50, 50),
    ("fedavg", "min_max"): (5, 6, 7),
    ("krum", "none"): (1, 1, 1),
    ("krum", "lie"): (10, 20, 30),
    ("krum", "min_max"): (40, 0, 5),
    ("median", "none"): (0, 0, 3),
    ("median", "lie"): (1, 2, 3),
    ("median", "min_max"): (13, 21, 35),
    ("cosden", "none"): (2, 2, 2),
    ("cosden", "lie"): (24, 30, 48),
    ("cosden", "min_max"): (0, 0, 0),
}
T2 = 4.3026527  # t(0.975, 2 df), from a printed table of eight digits


def flat(defense: str, attack: str, seed: int, percent: float, **change: Any) -> Record:
    return made(defense, attack, seed, [0.1] + [percent / 100] * 4, **change)


def made_of(
    points: Mapping[tuple[str, str], Sequence[float]] = POINTS, reference: Sequence[float] = REFERENCE
) -> list[Record]:
    whole = {("fedavg", "none"): [0] * len(reference), **points}
    return [
        flat(defense, attack, seed, reference[seed] - lost)
        for (defense, attack), losses in whole.items()
        for seed, lost in enumerate(losses)
    ]


def worst(records: Sequence[Record]) -> Table:
    (found,) = tables(metrics.groups(records), "worst", suites.demanded(Registry()))
    return found


def data_of(records: Sequence[Record]) -> dict[str, Mapping[str, Any]]:
    return {each["defense"]: each for each in worst(records).data}


def shown(table: Table) -> list[str]:
    return [line[0].lines[0].removesuffix("†") for line in table.rows]


def unranked(table: Table) -> str:
    return " ".join(note for note in table.notes if note.startswith("Not ranked: "))


def p_of_three(values: Sequence[float]) -> float:
    """Give Student's p with 2 degrees of freedom in closed form."""
    t = abs(statistics.fmean(values)) / (statistics.stdev(values) / math.sqrt(3))
    return 1 - t / math.sqrt(t * t + 2)


# By hand


def test_every_defense_has_the_attack_of_its_largest_mean_and_rows_go_by_it_with_fedavg_last() -> None:
    found = data_of(made_of())
    assert list(found) == shown(worst(made_of())) == ["krum", "median", "cosden", "fedavg"]
    assert {name: each["attack"] for name, each in found.items()} == {
        "krum": "lie", "median": "min_max", "cosden": "lie", "fedavg": "lie",
    }  # fmt: skip
    wanted = {"krum": 20, "median": 23, "cosden": 34, "fedavg": 50}
    # Two-digit decimals, averaged and multiplied by 100: exact but for roundings of some 1e-14.
    assert {name: each["loss"] for name, each in found.items()} == pytest.approx(wanted, abs=1e-11)
    assert found["median"]["values"] == pytest.approx([13, 21, 35], abs=1e-11)
    assert all(each["seeds"] == [0, 1, 2] for each in found.values())


def test_a_loss_has_the_interval_of_its_seeds() -> None:
    found = data_of(made_of())
    # Losses 10, 20, 30: the standard error is 10 / sqrt(3); the printed t has eight digits.
    assert found["krum"]["low"] == pytest.approx(20 - T2 * 10 / math.sqrt(3), abs=1e-5)
    assert found["krum"]["high"] == pytest.approx(20 + T2 * 10 / math.sqrt(3), abs=1e-5)
    assert found["krum"]["interval"] == "Student's t, 2 df"
    # All seeds lose 50: a point, to rounding.
    assert [found["fedavg"][end] for end in ("low", "high")] == pytest.approx([50, 50], abs=1e-11)


def test_regret_is_the_difference_from_the_best_paired_by_seed_and_adjusted_over_the_others() -> None:
    found = data_of(made_of())
    best, second, third = (found[name] for name in ("krum", "median", "cosden"))
    assert best["regret"] == 0
    assert best["regret_p"] is None
    # By seed 13 - 10, 21 - 20, 35 - 30 and 24 - 10, 30 - 20, 48 - 30.
    second_gaps, third_gaps = (3, 1, 5), (14, 10, 18)
    for each, gaps in ((second, second_gaps), (third, third_gaps)):
        mean, reach = statistics.fmean(gaps), T2 * statistics.stdev(gaps) / math.sqrt(3)
        assert each["regret"] == pytest.approx(mean, abs=1e-11)
        # As above: eight digits of t.
        assert each["regret_low"] == pytest.approx(mean - reach, abs=1e-6)
        assert each["regret_high"] == pytest.approx(mean + reach, abs=1e-6)
    # Two claims: the smaller p doubled, the larger as it is unless the smaller is above it. Roundings of some 1e-13.
    assert third["regret_p"] == pytest.approx(2 * p_of_three(third_gaps), rel=1e-9)
    wanted = max(p_of_three(second_gaps), 2 * p_of_three(third_gaps))
    assert second["regret_p"] == pytest.approx(wanted, rel=1e-9)


def test_what_the_same_attack_costs_on_fedavg_is_beside_it() -> None:
    found = data_of(made_of())
    wanted = {"krum": 50, "median": 6, "cosden": 50, "fedavg": 50}
    # Means of two-digit decimals.
    assert {name: each["on_fedavg"] for name, each in found.items()} == pytest.approx(wanted, abs=1e-11)
    assert row(worst(made_of()), "median")["on fedavg"].lines[0] == "6.0"


def test_the_table_shows_what_the_data_hold() -> None:
    table = worst(made_of())
    second, best = row(table, "median"), row(table, "krum")
    assert second["worst attack"].lines == ("min_max",)
    for said in ("23.0", "[-4.7, 50.7]"):  # 11.136 / sqrt(3) * 4.303 = 27.66
        assert said in " ".join(second["loss"].lines)
    for said in ("3.0", "-2.0", "8.0", "p="):  # 2 / sqrt(3) * 4.303 = 4.97
        assert said in " ".join(second["regret"].lines)
    assert "0.0" in best["regret"].lines[0]
    assert "p=" not in " ".join(best["regret"].lines)
    assert row(table, "fedavg")["regret"].lines == ("-",)


def test_the_best_defense_is_marked_and_no_other() -> None:
    table = worst(made_of())
    assert {name for name in shown(table) if any(entry.best for entry in row(table, name).values())} == {"krum"}


def test_where_fedavg_loses_least_it_is_last_all_the_same_and_nothing_is_marked() -> None:
    harmless = POINTS | {("fedavg", "lie"): (0, 0, 0), ("fedavg", "min_max"): (1, 1, 1)}
    table = worst(made_of(harmless))
    assert shown(table) == ["krum", "median", "cosden", "fedavg"]
    assert not any(entry.best for line in table.rows for entry in line)
    said = "No defense is marked in the worst case: each does worse there than fedavg, which defends nothing."
    assert said in table.notes
    assert not any(note.startswith("Best defense") for note in table.notes)
    last = table.data[-1]
    assert [last[name] for name in KEYS if name.startswith("regret")] == [None] * 4
    assert table.data[0]["regret"] == 0


def test_a_loss_is_regretted_under_each_defense_s_own_worst_attack() -> None:
    """Both attacks cost each defense something, the other one more: regret is no difference under one attack."""
    points = {("fedavg", a): (9, 9, 9) for a in ("lie", "min_max")} | {
        ("krum", "lie"): (8, 8, 8), ("krum", "min_max"): (1, 1, 1),
        ("median", "lie"): (2, 2, 2), ("median", "min_max"): (12, 12, 12),
    }  # fmt: skip
    # Differences of two-digit decimals, on every seed the same: no variance, and not 0.
    assert data_of(made_of(points))["median"]["regret"] == pytest.approx(4, abs=1e-11)
    assert data_of(made_of(points))["median"]["regret_p"] == 0


def test_a_gain_under_attack_is_a_loss_below_0() -> None:
    points = {("fedavg", "lie"): (1, 1), ("krum", "lie"): (-2, -4), ("median", "lie"): (-1, 1)}
    found = data_of(made_of(points, (50, 60)))
    assert list(found) == ["krum", "median", "fedavg"]
    assert [found[name]["loss"] for name in found] == pytest.approx([-3, 0, 1], abs=1e-11)
    assert found["median"]["regret"] == pytest.approx(3, abs=1e-11)


# Against plain arithmetic

NAMES, UNDER = ("fedavg", "krum", "median", "cosden"), ("gaussian", "lie", "min_max")
CURVE = st.lists(st.integers(0, 100), min_size=4, max_size=4)


def holm(raw: Mapping[str, float]) -> dict[str, float]:
    """Step up: an adjusted p is the largest of (number of p-values from there on) x p up to it, at most 1."""
    order = sorted(raw, key=lambda name: raw[name])
    steps = [min(1.0, (len(order) - place) * raw[name]) for place, name in enumerate(order)]
    return {name: max(steps[: place + 1]) for place, name in enumerate(order)}


def p_of(values: Sequence[Fraction]) -> float:
    if len(set(values)) == 1:
        return 1.0 if values[0] == 0 else 0.0
    return float(scipy.stats.ttest_1samp([float(value) for value in values], 0.0).pvalue)


@given(data=st.data(), seeds=st.integers(2, 5), attacks=st.integers(1, 3), defenses=st.integers(2, 4))
def test_every_number_is_the_one_that_plain_arithmetic_gives(
    data: st.DataObject, seeds: int, attacks: int, defenses: int
) -> None:
    names, under = NAMES[:defenses], UNDER[:attacks]
    curves = {
        (name, attack, seed): data.draw(CURVE)
        for name in names for attack in ("none", *under) for seed in range(seeds)
    }  # fmt: skip
    lost = {
        (name, attack): [
            sum((Fraction(a - b) for a, b in zip(curves["fedavg", "none", seed], curves[name, attack, seed],
                                                 strict=True)), Fraction()) / 4
            for seed in range(seeds)
        ]
        for name in names for attack in under
    }  # fmt: skip
    means = {key: sum(values) / seeds for key, values in lost.items()}
    hardest = {name: max(under, key=lambda attack, name=name: means[name, attack]) for name in names}  # type: ignore[misc]
    heights = [means[name, hardest[name]] for name in names]
    assume(len(set(heights)) == len(names))
    assume(all(len({means[name, attack] for attack in under}) == attacks for name in names))
    ranked = sorted((name for name in names if name != "fedavg"), key=lambda name: means[name, hardest[name]])
    gaps = {
        name: [a - b for a, b in zip(lost[name, hardest[name]], lost[ranked[0], hardest[ranked[0]]], strict=True)]
        for name in ranked
    }
    p = holm({name: p_of(gaps[name]) for name in ranked[1:]})

    records = [made(*key, [0.1, *(percent / 100 for percent in curve)]) for key, curve in curves.items()]
    data.draw(st.randoms(use_true_random=False)).shuffle(records)
    found = worst(records).data
    assert [each["defense"] for each in found] == [*ranked, "fedavg"]
    for each in found:
        name = each["defense"]
        assert list(each) == KEYS
        assert each["attack"] == hardest[name]
        assert (each["rank"] is None, each["rank"] == 1) == (
            name == "fedavg",
            name != "fedavg" and p.get(name, 1) >= 0.05,
        )
        values = [float(value) for value in lost[name, hardest[name]]]
        # Percents divided by 100, averaged and multiplied again: a few roundings of numbers up to 100, here and below.
        assert each["values"] == pytest.approx(values, rel=1e-9, abs=1e-9)
        assert each["loss"] == pytest.approx(float(means[name, hardest[name]]), rel=1e-9, abs=1e-9)
        assert each["on_fedavg"] == pytest.approx(float(means["fedavg", hardest[name]]), rel=1e-9, abs=1e-9)
        reach = float(scipy.stats.t.ppf(0.975, seeds - 1)) * statistics.stdev(values) / math.sqrt(seeds)
        assert [each["low"], each["high"]] == pytest.approx(
            [each["loss"] - reach, each["loss"] + reach], rel=1e-9, abs=1e-9
        )
        if name != "fedavg":
            differences = [float(gap) for gap in gaps[name]]
            assert each["regret"] == pytest.approx(statistics.fmean(differences), rel=1e-9, abs=1e-9)
        if name in ranked[1:]:
            reach = float(scipy.stats.t.ppf(0.975, seeds - 1)) * statistics.stdev(differences) / math.sqrt(seeds)
            ends = [each["regret"] - reach, each["regret"] + reach]
            assert [each["regret_low"], each["regret_high"]] == pytest.approx(ends, rel=1e-9, abs=1e-9)
            # p moves with t as 1 / t: gaps of some points lose up to six digits to the roundings above.
            assert each["regret_p"] == pytest.approx(p[name], rel=1e-6, abs=1e-6)


def test_from_six_seeds_on_p_is_of_sign_flips_and_the_interval_of_the_bootstrap() -> None:
    krum, gaps = (10, 12, 14, 11, 13, 10), (3, 5, -1, 4, 2, 6)
    points = {
        ("fedavg", "lie"): (40,) * 6, ("krum", "lie"): krum,
        ("median", "lie"): tuple(a + b for a, b in zip(krum, gaps, strict=True)),
    }  # fmt: skip
    each = data_of(made_of(points, (90,) * 6))["median"]
    assert each["regret_p"] == flips(gaps)
    assert each["interval"] == "studentised bootstrap, 6 seeds"
    assert each["low"] < each["loss"] < each["high"]
    assert each["regret_low"] < each["regret"] < each["regret_high"]


@pytest.mark.parametrize(("middle", "first", "second"), [(60, 17, 5), (79, 11, 5), (64, 3, 2), (70, 8, 0)])
def test_losses_that_are_equal_on_paper_are_no_evidence_against_either(middle: int, first: int, second: int) -> None:
    """Both keep the same accuracy in the mean of four rounds, one through other numbers: a difference of 1e-15."""
    records = made_of({("fedavg", "lie"): (50, 50, 50), ("krum", "lie"): [90 - middle] * 3}, (90, 90, 90))
    around = [middle - first, middle + first, middle - second, middle + second]
    records += [made("median", "lie", seed, [0.1, *(percent / 100 for percent in around)]) for seed in range(3)]
    _, other, _ = worst(records).data
    assert other["regret"] == pytest.approx(0, abs=1e-11)
    assert other["regret_p"] == 1


def test_one_seed_has_no_interval_and_no_p_value() -> None:
    points = {key: values[:1] for key, values in POINTS.items()}
    table = worst(made_of(points, REFERENCE[:1]))
    # In the order of their names: one seed ranks nothing, and a regret would be a rank.
    assert shown(table) == ["cosden", "krum", "median", "fedavg"]
    assert [each["loss"] for each in table.data] == pytest.approx([24, 40, 13, 50], abs=1e-11)
    for each in table.data:
        assert all(each[name] is None for name in KEYS if name in ("low", "high") or name.startswith("regret"))
        assert each["seeds"] == [0]
    assert not any("[" in line for entries in table.rows for entry in entries for line in entry.lines)
    assert not any(entry.best for line in table.rows for entry in line)
    assert "One seed (0): no interval, and nothing is ranked." in table.notes


# What is incomplete


@pytest.mark.parametrize("kind", ["failed", "skipped", "absent"])
def test_an_incomplete_row_is_not_listed_but_named_and_regret_is_of_those_listed(kind: str) -> None:
    records = [r for r in made_of() if (r["cell"]["defense"], r["cell"]["attack"]) != ("krum", "min_max")]
    begin: Callable[[Cell, Registry, str], Record] | None = {"failed": failed, "skipped": skipped}.get(kind)
    if begin is not None:
        cells = [Cell("digits", "krum", "min_max", seed, rounds=40) for seed in range(3)]
        records += [begin(cell, REGISTRY, "out of memory") for cell in cells]
    table = worst(records)
    assert shown(table) == [each["defense"] for each in table.data] == ["median", "cosden", "fedavg"]
    assert table.data[0]["regret"] == 0
    # By seed 24 - 13, 30 - 21, 48 - 35.
    assert table.data[1]["regret"] == pytest.approx(11, abs=1e-11)
    assert table.data[1]["regret_p"] == pytest.approx(p_of_three((11, 9, 13)), rel=1e-9)
    assert "krum under min_max" in unranked(table)
    if begin is not None:
        assert f"{kind}: out of memory" in unranked(table)
    assert not any(f"{name} under" in unranked(table) for name in ("median", "cosden", "fedavg"))


def test_a_seed_that_one_defense_lacks_does_not_count_for_the_others_and_it_is_said_who_has_it() -> None:
    table = worst(without(made_of(), "krum", "min_max", 1))
    found = {each["defense"]: each for each in table.data}
    # On seeds 0 and 2 krum loses 20 to lie and 22.5 to min_max, cosden 24 and 48, the median 13 and 35 to min_max.
    assert shown(table) == ["krum", "median", "cosden", "fedavg"]
    assert found["krum"]["attack"] == "min_max"
    assert [each["loss"] for each in table.data] == pytest.approx([22.5, 24, 36, 50], abs=1e-11)
    assert all(each["seeds"] == [0, 2] for each in table.data)
    assert [each["regret"] for each in table.data[:3]] == pytest.approx([0, 1.5, 13.5], abs=1e-11)
    (said,) = [note for note in table.notes if note.startswith("Ranked on ")]
    assert said == (
        "Ranked on seeds 0, 2, which all ranked defenses have (not counted: seed 1 of fedavg, cosden, median); "
        "95% intervals: Student's t, 1 df; no variance."
    )
    assert unranked(table) == ""


@pytest.mark.parametrize("kept", [{1}, {1, 5}], ids=str)
def test_a_defense_without_two_shared_seeds_is_listed_and_not_ranked(kept: set[int]) -> None:
    records = [r for r in made_of() if r["cell"]["defense"] != "krum" or r["cell"]["seed"] in kept]
    if 5 in kept:
        records += [flat(d, a, 5, 60) for d, a in (("fedavg", "none"), ("krum", "lie"), ("krum", "min_max"))]
    table = worst(records)
    assert shown(table) == ["median", "cosden", "krum", "fedavg"]
    krum = table.data[2]
    assert krum["seeds"] == sorted(kept)
    assert krum["regret"] is None
    assert not any(entry.best for entry in row(table, "krum").values())
    assert [each["loss"] for each in (table.data[0], table.data[1])] == pytest.approx([23, 34], abs=1e-11)
    reason = (
        "it has only seed 1" if kept == {1} else "it shares fewer than two seeds with the others and has seeds 1, 5"
    )
    assert unranked(table) == f"Not ranked: krum: {reason}."


def test_without_fedavg_s_record_of_an_attack_there_is_a_dash_and_fedavg_is_named_below() -> None:
    table = worst([r for r in made_of() if (r["cell"]["defense"], r["cell"]["attack"]) != ("fedavg", "lie")])
    assert shown(table) == ["krum", "median", "cosden"]
    assert [each["on_fedavg"] is None for each in table.data] == [True, False, True]
    assert row(table, "krum")["on fedavg"].lines == ("-",)
    assert "Missing: fedavg under lie: no record." in table.notes


@pytest.mark.parametrize("lacking", [[], [("krum", "none")], [("median", "none"), ("cosden", "none")]], ids=str)
def test_a_defense_is_either_listed_or_named_below_never_both(lacking: list[tuple[str, str]]) -> None:
    """The unattacked run of a defense is no attack: a row is complete without it, as breaking points leave it."""
    table = worst([r for r in made_of() if (r["cell"]["defense"], r["cell"]["attack"]) not in lacking])
    assert shown(table) == ["krum", "median", "cosden", "fedavg"]
    assert unranked(table) == ""


@pytest.mark.parametrize("seeds", [{1}, {0, 1, 2}], ids=str)
def test_a_seed_without_the_reference_does_not_count_and_the_reference_is_named(seeds: set[int]) -> None:
    records = made_of()
    for seed in seeds:
        records = without(records, "fedavg", "none", seed)
    table = worst(records)
    assert [each["seeds"] for each in table.data] == ([[0, 2]] * 4 if seeds == {1} else [])
    assert "Missing: fedavg under none: no record." in table.notes
    for form in formats.FORMATS:
        formats.write([table], form)


def test_fedavg_alone_is_a_row_without_regret() -> None:
    table = worst([r for r in made_of() if r["cell"]["defense"] == "fedavg"])
    assert shown(table) == ["fedavg"]
    assert table.data[0]["regret"] is None


# Notes and marks


def hard() -> list[str]:
    """List what the suite of the worst case attacks with, as its file says, each in its one form."""
    text = (resources.files("agrbench.simulation.suites") / "worst.toml").read_text(encoding="utf-8")
    attacks = (REGISTRY.canonical("attack", attack) for attack in tomllib.loads(text)["attacks"])
    return [attack for attack in attacks if attack != "none"]


def under_all(attacks: Sequence[str]) -> list[Record]:
    points = {(name, attack): (5.0 + len(name), 6.0) for name in ("fedavg", "krum") for attack in attacks}
    return made_of(points, (80, 70))


def test_under_all_attacks_of_the_suite_no_weakness_is_noted() -> None:
    assert len(hard()) > 10
    assert not any("Weaker" in note for note in worst(under_all(hard())).notes)
    assert not any("Weaker" in note for note in worst(under_all([*hard(), "scaling"])).notes)


@pytest.mark.parametrize(
    "lacks", [{"adaptive"}, {"min_max", "ipm(epsilon=100.0)"}, {"ipm"}], ids=lambda lacks: "+".join(sorted(lacks))
)
def test_the_attacks_of_the_suite_that_are_not_there_are_named(lacks: set[str]) -> None:
    assert lacks <= set(hard())
    table = worst(under_all([attack for attack in hard() if attack not in lacks]))
    (note,) = [note for note in table.notes if note.startswith("Weaker than the suite `worst`: no record under ")]
    named = note.removeprefix("Weaker than the suite `worst`: no record under ").removesuffix(".").split(", ")
    assert set(named) == lacks
    assert len(named) == len(lacks)


def test_a_collapsed_model_is_marked_and_the_mark_explained() -> None:
    records = without(made_of(), "median", "min_max", 1)
    records.append(made("median", "min_max", 1, [0.1, 0.85, 0.85, 0.85, 0.19]))  # the mean is as before but for 1.75
    table = worst(records)
    marked = {line[0].lines[0] for line in table.rows if any("†" in text for entry in line for text in entry.lines)}
    assert {name.removesuffix("†") for name in marked} == {"median"}
    assert any("† collapsed" in note for note in table.notes)
    assert {each["defense"] for each in table.data if each["collapsed"]} == {"median"}
    assert "†" not in str(worst(made_of()))


# Formats and the command line


def test_csv_and_json_hold_every_number_at_full_precision() -> None:
    made_up = worst(made_of())
    assert json.loads(formats.write([made_up], "json")) == [dict(each) for each in made_up.data]
    lines = list(csv.DictReader(io.StringIO(formats.write([made_up], "csv"))))
    for line, each in zip(lines, made_up.data, strict=True):
        assert list(line) == KEYS
        for name, value in each.items():
            if value is None:
                assert line[name] == ""
            elif isinstance(value, (list, dict)):
                assert json.loads(line[name]) == value
            else:
                assert line[name] == str(value)


def test_every_dataset_has_a_table_of_its_own() -> None:
    elsewhere = [record | {"cell": record["cell"] | {"dataset": "location30"}} for record in made_of()]
    first, second = tables(metrics.groups(made_of() + elsewhere), "worst", suites.demanded(Registry()))
    assert {each["dataset"] for each in first.data} | {each["dataset"] for each in second.data} == {
        "digits", "location30",
    }  # fmt: skip
    assert [dict(each, dataset="") for each in first.data] == [dict(each, dataset="") for each in second.data]


@pytest.mark.parametrize("form", formats.FORMATS)
def test_the_command_prints_it_in_every_format(form: str, tmp_path: Path) -> None:
    records = [record | {"trust": dict.fromkeys(record["trust"], [None] * 5)} for record in made_of()]
    random.Random(0).shuffle(records)
    folder = fill(tmp_path / "records", records)
    done = CliRunner().invoke(main, ["table", str(folder), "--metric", "worst", "--format", form])
    assert done.exit_code == 0, done.output
    assert done.output == formats.write([worst(made_of())], form) + "\n"


def test_records_without_an_attack_are_answered_by_what_to_run_and_not_by_an_empty_page(tmp_path: Path) -> None:
    calm = [each for each in made_of() if each["cell"]["attack"] == "none"]
    calm = [record | {"trust": dict.fromkeys(record["trust"], [None] * 5)} for record in calm]
    folder = fill(tmp_path / "records", calm)
    done = CliRunner().invoke(main, ["table", str(folder), "--metric", "worst"])
    assert done.exit_code == 2
    assert done.stdout == ""
    assert "no record under an attack" in done.stderr
    assert CliRunner().invoke(main, ["table", str(folder)]).exit_code == 0


def test_it_is_a_choice_of_the_command_and_a_shipped_suite() -> None:
    assert "worst" in CliRunner().invoke(main, ["table", "--help"]).output
    assert "worst" in suites.shipped()
    (grid,) = suites.read("worst").grids
    assert "none" in grid.attacks
    assert "fedavg" in grid.defenses
    assert headers(worst(made_of()))[0] == "defense"
