"""Which defenses are ranked, and on which seeds: the choice against all choices, and what is said of it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agrbench.results.tables.ranking import Ranking, about, best, numbered, unranked

SEEDS = st.frozensets(st.integers(0, 5), max_size=6)


@given(rows=st.dictionaries(st.sampled_from("abcdefg"), SEEDS))
def test_as_many_rows_as_possible_are_ranked_and_then_on_as_many_seeds_as_possible(
    rows: dict[str, frozenset[int]],
) -> None:
    """Every set of two seeds and more is tried, over the rows with at least half as many seeds as the usual row."""
    ranking = Ranking.of(rows)
    usual = sorted(len(row) for row in rows.values() if len(row) > 1)
    rows = {name: row for name, row in rows.items() if len(row) > 1 and len(row) >= usual[(len(usual) - 1) // 2] / 2}
    every = sorted(frozenset[int]().union(*rows.values()))
    choices = [set(each) for size in range(2, len(every) + 1) for each in itertools.combinations(every, size)]
    most = max(((sum(each <= row for row in rows.values()), len(each)) for each in choices), default=(0, 0))
    count = sum(map(ranking.ranks, rows))
    assert (count, len(ranking.seeds)) == (most if most[0] else (0, 0))
    assert all(set(ranking.seeds) <= row for name, row in rows.items() if ranking.ranks(name))
    assert all(ranking.shown(name) == ranking.seeds for name in rows if ranking.ranks(name))


def test_one_row_of_few_seeds_shortens_the_ranking_and_one_of_other_seeds_does_not() -> None:
    eight = {"krum": range(8), "median": range(8)}
    assert Ranking.of(eight | {"mine": range(7)}).seeds == tuple(range(7))
    for other in ([], [3], [8, 9], [0, 9]):
        ranking = Ranking.of(eight | {"mine": other})
        assert ranking.seeds == tuple(range(8))
        assert not ranking.ranks("mine")
        assert ranking.shown("mine") == tuple(other)


def test_rows_of_fewer_than_half_the_usual_seeds_do_not_shorten_the_ranking() -> None:
    eight = {"krum": range(8), "median": range(8), "mda": range(8)}
    ranking = Ranking.of(eight | {"mine": range(3), "theirs": range(100)})
    assert ranking.seeds == tuple(range(8))
    assert unranked({"": ranking}) == ["Not ranked: mine: it has only seeds 0 to 2."]
    assert Ranking.of(eight | {"mine": range(4)}).seeds == tuple(range(4))


def test_fedavg_is_not_ranked_and_does_not_choose_the_seeds() -> None:
    ranking = Ranking.of({"fedavg": [5], "krum": [0, 1]})
    assert ranking.seeds == (0, 1)
    assert not ranking.ranks("fedavg")
    assert ranking.shown("fedavg") == (5,)
    assert Ranking.of({"fedavg": [0, 1, 2], "krum": [0, 1]}).shown("fedavg") == (0, 1)
    assert Ranking.of({"fedavg": [0, 1]}).seeds == ()


@pytest.mark.parametrize(
    ("rows", "said", "named"),
    [
        ({"fedavg": [0], "krum": [0]}, ["One seed (0): no interval, and nothing is ranked."], []),
        ({"fedavg": [0, 1], "krum": [0, 1]}, ["2 seeds; 95% intervals: t."], []),
        ({"fedavg": [0, 1]}, ["2 seeds; 95% intervals: t."], []),
        (
            {"krum": [0], "median": [1]},
            ["Nothing is ranked: no defense has all its runs on two seeds; 95% intervals: t."],
            ["Not ranked: krum: it has only seed 0.", "Not ranked: median: it has only seed 1."],
        ),
        (
            {"fedavg": range(9), "krum": range(9), "median": [0, 1, 2, 5], "cosden": [7], "mda": [7], "smea": []},
            [
                "Ranked on seeds 0 to 2, 5, which all ranked defenses have "
                "(not counted: seeds 3, 4, 6 to 8 of fedavg, krum); 95% intervals: t."
            ],
            ["Not ranked: cosden, mda: it has only seed 7."],
        ),
    ],
    ids=str,
)
def test_what_is_said_of_seeds(rows: dict[str, list[int]], said: list[str], named: list[str]) -> None:
    ranking = {"": Ranking.of(rows)}
    assert about(ranking, ["t", None]) == said
    assert unranked(ranking) == named


def test_rows_that_differ_in_their_seeds_are_named() -> None:
    whole, part = Ranking.of({"krum": [0, 1], "mda": [0, 1]}), Ranking.of({"krum": [0, 1], "mda": [0]})
    rankings = {"lie": whole, "zero": part, "ipm": whole}
    assert about(rankings, []) == ["2 seeds; 95% intervals: none."]
    assert unranked(rankings) == ["Not ranked under zero: mda: it has only seed 0."]
    more = {"lie": whole, "zero": Ranking.of({"krum": range(3)})}
    assert about(more, ["t"]) == ["Under lie: 2 seeds.", "Under zero: 3 seeds.", "95% intervals: t."]


def test_seeds_are_written_as_ranges() -> None:
    assert numbered([4]) == "seed 4"
    assert numbered([0, 1]) == "seeds 0, 1"
    assert numbered([0, 1, 2, 4, 6, 7, 8, 9]) == "seeds 0 to 2, 4, 6 to 9"


@pytest.mark.parametrize(
    ("undefended", "wanted"), [(None, 1.0), (1.0, 1.0), (1 - 1e-12, 1.0), (0.999, None), (5.0, 1.0)]
)
def test_the_best_is_no_best_if_fedavg_is_better_by_more_than_rounding(
    undefended: float | None, wanted: float | None
) -> None:
    assert best([3.0, 1.0, 2.0], undefended) == wanted
    assert best([], undefended) is None
