"""Which defenses share a rank."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agrbench.results.statistics import Sample
from agrbench.results.tables.standing import powerless, standings
from tests.helpers.records import sample

EIGHT = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)


def shifted(by: int, values: tuple[float, ...] = EIGHT) -> Sample:
    """Return losses that are larger on every seed, by nearly the same amount, but not exactly."""
    return sample(*(value + by + 0.01 * (place * (by + 1) % 11) for place, value in enumerate(values)))


def test_defenses_that_differ_on_every_seed_have_ranks_of_their_own() -> None:
    assert standings({"b": shifted(2), "a": shifted(1), "c": shifted(4)}) == {"a": 1, "b": 2, "c": 3}


def test_a_defense_that_wins_on_some_seeds_and_loses_on_others_shares_the_rank_of_the_best() -> None:
    mixed = sample(*(value + (0.5 if place % 2 else -0.4) for place, value in enumerate(EIGHT)))
    assert standings({"best": sample(*EIGHT), "mixed": mixed, "worse": shifted(3)}) == {
        "best": 1,
        "mixed": 1,
        "worse": 3,
    }


def test_p_values_are_adjusted_for_the_number_of_comparisons() -> None:
    """Of eight seeds the smallest p is 2/256: six comparisons of it stay below 5%, and seven do not."""
    assert set(standings({str(place): shifted(place) for place in range(7)}).values()) == set(range(1, 8))
    assert set(standings({str(place): shifted(place) for place in range(8)}).values()) == {1}
    assert [powerless(defenses, 8) for defenses in (7, 8)] == [False, True]
    assert not powerless(100, 5)  # Student's t has no smallest p


@pytest.mark.parametrize("names", list(itertools.permutations("abc")))
def test_equal_losses_share_a_rank_whatever_their_order(names: tuple[str, ...]) -> None:
    assert standings({name: sample(3.0, 3.0, 3.0) for name in names}) == dict.fromkeys("abc", 1)


@given(rows=st.lists(st.lists(st.integers(-5, 5), min_size=3, max_size=3), max_size=5))
def test_everyone_has_a_rank_and_the_smallest_loss_has_the_first(rows: list[list[int]]) -> None:
    samples = {str(place): sample(*map(float, row)) for place, row in enumerate(rows)}
    ranks = standings(samples)
    assert set(ranks) == set(samples)
    assert all(ranks[name] == 1 for name in sorted(samples, key=lambda name: samples[name].mean)[:1])
    held = sorted(ranks.values())
    assert all(rank == held.index(rank) + 1 for rank in held)  # a shared rank is followed by as many as share it
