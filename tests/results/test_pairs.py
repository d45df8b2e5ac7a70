"""The table of pairs: differences worked out by hand, and p adjusted over the pairs that are shown."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import scipy.stats

from agrbench.results import metrics
from agrbench.results.formats import Table
from agrbench.results.record import Record
from agrbench.results.statistics import holm
from agrbench.results.tables import tables
from tests.helpers.records import measured
from tests.helpers.triad import everything, without

POINTS = {  # lost under lie and under zero, a number a seed; the mean of both is what is compared
    "fedavg": ((40, 41, 42), (0, 0, 0)),
    "krum": ((10, 20, 30), (2, 2, 2)),
    "median": ((11, 12, 13), (3, 0, 1)),
    "cosden": ((24, 30, 48), (0, 0, 0)),
}
MEANS = {name: [(one + other) / 2 for one, other in zip(*both, strict=True)] for name, both in POINTS.items()}


def records() -> list[Record]:
    found = [measured("fedavg", "none", seed, [0.1] + [0.9] * 4) for seed in range(3)]
    for defense, losses in POINTS.items():
        for attack, points in zip(("lie", "zero"), losses, strict=True):
            found += [measured(defense, attack, s, [0.1] + [(90 - each) / 100] * 4) for s, each in enumerate(points)]
    return found


def pairs(found: Sequence[Record], *of: str) -> Table:
    (made,) = tables(metrics.groups(found), "pairs", of=of)
    return made


def by_pair(made: Table) -> dict[tuple[str, str], Mapping[str, Any]]:
    return {(each["defense"], each["other"]): each for each in made.data}


@pytest.mark.parametrize(
    ("of", "wanted"),
    [
        ([], list(itertools.combinations(["fedavg", "cosden", "krum", "median"], 2))),
        (["krum"], [("krum", "fedavg"), ("krum", "cosden"), ("krum", "median")]),
        (
            ["krum", "median"],
            [("krum", "fedavg"), ("krum", "cosden"), ("krum", "median"), ("median", "fedavg"), ("median", "cosden")],
        ),
    ],
    ids=str,
)
def test_every_pair_is_shown_once_and_p_is_adjusted_over_those_shown(
    of: list[str], wanted: list[tuple[str, str]]
) -> None:
    made = pairs(records(), *of)
    assert list(by_pair(made)) == wanted
    gaps = [[a - b for a, b in zip(MEANS[one], MEANS[other], strict=True)] for one, other in wanted]
    adjusted = holm([float(scipy.stats.ttest_1samp(each, 0).pvalue) for each in gaps])
    for each, gap, p in zip(made.data, gaps, adjusted, strict=True):
        assert each["values"] == pytest.approx(gap, abs=1e-11)
        assert each["difference"] == pytest.approx(sum(gap) / 3, abs=1e-11)
        assert each["loss"] == pytest.approx(sum(MEANS[each["defense"]]) / 3, abs=1e-11)
        assert each["p"] == pytest.approx(p, rel=1e-6)
    only = f", those of {', '.join(of)}," if of else ""
    said = f"p adjusted over the {len(wanted)} comparisons shown{only} by Holm's method."
    assert any(said in note for note in made.notes)


def test_a_pair_is_compared_on_the_seeds_that_both_have() -> None:
    made = by_pair(pairs(without(records(), "krum", "zero", 2)))
    assert made["krum", "median"]["seeds"] == [0, 1]
    assert made["krum", "median"]["loss"] == pytest.approx(8.5, abs=1e-11)
    assert made["cosden", "median"]["seeds"] == [0, 1, 2]


def test_a_defense_without_a_whole_seed_is_named_and_not_compared() -> None:
    made = pairs([each for each in records() if (each["cell"]["defense"], each["cell"]["attack"]) != ("krum", "lie")])
    assert {name for pair in by_pair(made) for name in pair} == {"fedavg", "cosden", "median"}
    assert "Not compared, because no seed has all their runs: krum." in made.notes


def test_one_seed_has_a_difference_and_no_p() -> None:
    made = pairs([each for each in records() if each["cell"]["seed"] == 0], "krum")
    (shown,) = [line for line in made.rows if line[1].lines == ("median",)]
    assert [entry.lines[0] for entry in shown] == ["krum", "median", "6.0", "7.0", "-1.0", "-", "1"]
    assert "One seed or none shared: no interval and no p." in made.notes
    assert all(each["p"] is None for each in made.data)


def test_equal_defenses_differ_by_nothing() -> None:
    twins = [each | {"cell": each["cell"] | {"defense": "mda"}} for each in records() if "krum" in str(each["cell"])]
    made = by_pair(pairs([*records(), *twins], "krum"))["krum", "mda"]
    assert (made["difference"], made["p"]) == (0, 1)


def test_tables_of_records_without_these_defenses_are_left_out() -> None:
    elsewhere = [each | {"cell": each["cell"] | {"dataset": "location30"}} for each in everything()]
    assert len(tables(metrics.groups([*records(), *elsewhere]), "pairs")) == 2
    (made,) = tables(metrics.groups([*records(), *elsewhere]), "pairs", of=["cosden"])
    assert "digits" in made.title
    assert len(made.rows) == 3
