"""Intervals and tests: they agree with enumeration, with hand-worked examples and with other computations."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from agrbench.results import statistics as inference
from tests.helpers.oracles_statistics import flips
from tests.helpers.records import sample

# Intervals and tests

VALUES = st.lists(st.integers(-50, 50).map(lambda k: k / 7), min_size=2, max_size=5).filter(lambda v: len(set(v)) > 1)


@given(values=VALUES)
def test_few_seeds_get_the_t_interval_and_the_t_test(values: list[float]) -> None:
    n = len(values)
    found = inference.interval(sample(*values))
    assert found is not None
    low, high = scipy.stats.t.interval(0.95, n - 1, statistics.fmean(values), scipy.stats.sem(values))
    # Both compute the same formula in another order: a few roundings of numbers below 10^3.
    assert found.low == pytest.approx(low, rel=1e-12, abs=1e-12)
    assert found.high == pytest.approx(high, rel=1e-12, abs=1e-12)
    assert found.how == f"Student's t, {n - 1} df"
    # As above; p-values are at most 1.
    assert inference.p_value(sample(*values)) == pytest.approx(
        scipy.stats.ttest_rel(values, [0.0] * n).pvalue, rel=1e-9, abs=1e-12
    )


def test_the_t_interval_agrees_with_a_hand_worked_example() -> None:
    found = inference.interval(sample(-2.5, -2.0, -1.5))
    assert found is not None
    # t(0.975, 2 df) = 4.3026527 from a printed table of eight digits; the standard error is 0.5 / sqrt(3).
    assert found.low == pytest.approx(-2 - 4.3026527 * 0.5 / math.sqrt(3), abs=1e-7)
    assert found.high == pytest.approx(-2 + 4.3026527 * 0.5 / math.sqrt(3), abs=1e-7)
    t = -2 / (0.5 / math.sqrt(3))
    # With 2 degrees of freedom p = 1 - |t| / sqrt(t^2 + 2) in closed form; 1e-12 covers its roundings.
    assert inference.p_value(sample(-2.5, -2.0, -1.5)) == pytest.approx(1 - abs(t) / math.sqrt(t * t + 2), abs=1e-12)


@pytest.mark.parametrize("n", [2, 5, 6, 13])
@pytest.mark.parametrize(("value", "p"), [(0.0, 1.0), (0.25, 0.0), (-1e-9, 0.0), (0.1, 0.0)])
def test_without_variance_the_interval_is_the_point_and_p_is_0_or_1(n: int, value: float, p: float) -> None:
    found = inference.interval(sample(*[value] * n))
    assert found is not None
    # The mean of n equal numbers may be rounded by one unit in the last place.
    assert found.low == found.high == pytest.approx(value, rel=2**-52)
    assert inference.p_value(sample(*[value] * n)) == p


@pytest.mark.parametrize("values", [(), (0.5,)])
def test_one_seed_has_no_interval_and_no_p_value(values: tuple[float, ...]) -> None:
    assert inference.interval(sample(*values)) is None
    assert inference.p_value(sample(*values)) is None


@pytest.mark.parametrize(
    "values", [(0.3, 0.1 + 0.2, 0.3), (0.1, 0.1, 0.1 + 2**-56), (0.7, 0.7000000000000001)], ids=str
)
def test_values_that_differ_by_rounding_only_are_without_variance(values: tuple[float, ...]) -> None:
    """Means of the same accuracies in another order differ in the last place; that is no evidence of anything."""
    found = inference.interval(sample(*values))
    assert found is not None
    # The values differ by about 1e-16, and so may the interval's ends.
    assert found.low == pytest.approx(found.high, abs=1e-14)
    p = inference.p_value(sample(*values))
    assert p is not None
    # Either exactly 0, as without variance, or a t-test's answer to a difference 10^15 times its standard error.
    assert p < 1e-9


ODD = st.lists(st.integers(0, 3), min_size=6, max_size=8).filter(lambda v: len(set(v)) > 1)


def moves_along(values: Sequence[int], scale: float, shift: float) -> None:
    plain = inference.interval(sample(*map(float, values)))
    moved = inference.interval(sample(*(shift + scale * value for value in values)))
    assert plain is not None
    assert moved is not None
    # Deviations from the mean lose at most some units of the last place of |shift| <= 8, against 0.01 in size: 1e-12.
    assert moved.low == pytest.approx(shift + scale * plain.low, rel=1e-9, abs=1e-9)
    assert moved.high == pytest.approx(shift + scale * plain.high, rel=1e-9, abs=1e-9)
    assert moved.how == f"studentised bootstrap, {len(values)} seeds"


@given(values=ODD, scale=st.sampled_from([1.0, 0.25, 64.0]), shift=st.sampled_from([0.0, 0.5, -7.75]))
def test_the_bootstrap_interval_moves_and_stretches_with_the_values(
    values: list[int], scale: float, shift: float
) -> None:
    moves_along(values, scale, shift)


@pytest.mark.parametrize("values", [[0, 0, 0, 0, 0, 1], [0, 0, 3, 0, 0, 0, 0], [0, 0, 0, 0, 2, 0, 0, 2]], ids=str)
@pytest.mark.parametrize(("scale", "shift"), [(0.1, 0.1), (0.01, 0.3), (1 / 3, -7.7), (0.1, 0.0)])
def test_resamples_that_are_one_value_repeated_do_not_count_whatever_the_rounding_of_their_mean(
    values: list[int], scale: float, shift: float
) -> None:
    """A third of the resamples of five equal values and another one are the five's value throughout."""
    moves_along(values, scale, shift)


def test_the_bootstrap_interval_mirrors_with_the_sign() -> None:
    values = (0.5, 1.5, 0.25, 3.0, 1.0, 0.125, 2.0)
    plain, mirrored = inference.interval(sample(*values)), inference.interval(sample(*(-value for value in values)))
    assert plain is not None
    assert mirrored is not None
    # The same resamples are drawn, so only roundings and the interpolation of quantiles differ.
    assert mirrored.low == pytest.approx(-plain.high, abs=1e-12)
    assert mirrored.high == pytest.approx(-plain.low, abs=1e-12)
    assert plain.low < statistics.fmean(values) < plain.high
    # The values are skewed to the right, and a studentised interval reaches further that way.
    assert plain.high - statistics.fmean(values) > statistics.fmean(values) - plain.low


def test_the_bootstrap_interval_covers_the_mean_of_normal_values_about_19_times_in_20() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        found = inference.interval(sample(*rng.normal(3.0, 2.0, 8)))
        assert found is not None
        hits += found.low <= 3.0 <= found.high
    # 200 trials at 95% scatter by sqrt(0.95 * 0.05 / 200) = 1.5 points; 8 values leave the bootstrap some bias:
    # 88% to 99% is four standard errors and a half below, and less than three above.
    assert 0.88 <= hits / 200 <= 0.99


@pytest.mark.parametrize("values", [(1.0, 2.0, 4.0, 7.0, 11.0, 16.0), (-3.0, 0.5, 1.0, 1.5, 2.0, 9.0)], ids=str)
def test_the_bootstrap_interval_agrees_with_all_resamples_there_are(values: tuple[float, ...]) -> None:
    """Enumerate the 6^6 resamples of six values and their t statistics; the interval comes from 2.5% at each end."""
    found = inference.interval(sample(*values))
    assert found is not None
    mean, error = statistics.fmean(values), statistics.stdev(values) / math.sqrt(6)
    ratios = []
    for drawn in itertools.combinations_with_replacement(values, 6):
        if len(set(drawn)) > 1:
            ways = math.factorial(6) // math.prod(math.factorial(drawn.count(value)) for value in set(drawn))
            ratio = (statistics.fmean(drawn) - mean) / (statistics.stdev(drawn) / math.sqrt(6))
            ratios.append((ratio, ways))
    whole = sum(ways for _, ways in ratios)
    below = sum(ways for ratio, ways in ratios if ratio < (mean - found.high) / error) / whole
    above = sum(ways for ratio, ways in ratios if ratio > (mean - found.low) / error) / whole
    # 9,999 random resamples: three standard errors of a share of 2.5% are 0.5%.
    assert below == pytest.approx(0.025, abs=0.005)
    assert above == pytest.approx(0.025, abs=0.005)


def test_the_bootstrap_repeats_itself() -> None:
    values = sample(0.5, 1.5, 0.25, 3.0, 1.0, 0.125)
    assert inference.interval(values) == inference.interval(values)


SIGNED = st.lists(st.integers(-4, 4), min_size=6, max_size=8).filter(lambda v: len(set(v)) > 1)


@given(values=SIGNED)
def test_the_sign_flip_test_agrees_with_enumeration(values: list[int]) -> None:
    """Small whole numbers tie often."""
    assert inference.p_value(sample(*map(float, values))) == flips(values)


@given(values=SIGNED.filter(lambda v: sum(v) != 0))
def test_rounding_breaks_no_tie_of_the_sign_flip_test(values: list[int]) -> None:
    """Sums of tenths that are equal on paper differ in the last place, and must count as equal."""
    assert inference.p_value(sample(*(value / 10 for value in values))) == flips(values)
    assert inference.p_value(sample(*(-value / 1000 for value in values))) == flips(values)


@pytest.mark.parametrize("values", [[0, 1, 2, 3, -3, -3], [1, 2, -3, 1, 2, -3], [7, -1, -2, -4, 3, -3]], ids=str)
def test_values_that_cancel_but_for_rounding_give_p_1(values: list[int]) -> None:
    assert sum(values) == 0
    assert inference.p_value(sample(*(value / 10 for value in values))) == 1.0


def test_all_of_one_sign_gives_the_smallest_p_value_there_is() -> None:
    assert inference.p_value(sample(1.0, 2.0, 3.0, 4.0, 5.0, 6.0)) == 2 / 2**6
    assert inference.p_value(sample(*(-float(value) for value in range(1, 13)))) == 2 / 2**12


def test_values_that_cancel_give_p_1() -> None:
    assert inference.p_value(sample(1.0, -1.0, 2.0, -2.0, 3.0, -3.0)) == 1.0


@pytest.mark.parametrize("values", [[3, 1, -2, 4, 2, -1, 1, 2, -3, 1, 2, 1, -1], [1, -1, 2, -2, 3, -3] * 2 + [1]])
def test_beyond_twelve_seeds_random_flips_come_close_to_enumeration(values: list[int]) -> None:
    p = flips(values)
    found = inference.p_value(sample(*map(float, values)))
    assert found is not None
    # 9,999 random flips: five standard errors of a share, and the one flip that is always counted.
    assert found == pytest.approx(p, abs=5 * math.sqrt(p * (1 - p) / 9999) + 1e-4)
    assert found > 0


# Many claims


def test_holm_agrees_with_a_hand_worked_example() -> None:
    # Sorted: 0.005 x 4 = 0.02, 0.01 x 3 = 0.03, 0.03 x 2 = 0.06, and 0.04 x 1 is raised to 0.06.
    assert inference.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02], rel=1e-12)
    assert inference.holm([0.6, 0.6]) == [1.0, 1.0]
    assert inference.holm([0.04]) == [0.04]
    assert inference.holm([]) == []


P_VALUES = st.lists(st.integers(0, 1000).map(lambda k: k / 1000), max_size=8)


@given(raw=P_VALUES, level=st.floats(0.001, 0.999))
def test_holm_rejects_what_the_step_down_procedure_rejects(raw: list[float], level: float) -> None:
    """Step down: from the smallest p-value on, reject while p (m - rank) <= level; stop at the first that fails."""
    order = sorted(range(len(raw)), key=lambda place: raw[place])
    rejected = set()
    for rank, place in enumerate(order):
        if min(1.0, (len(raw) - rank) * raw[place]) > level:
            break
        rejected.add(place)
    adjusted = inference.holm(raw)
    assert {place for place, p in enumerate(adjusted) if p <= level} == rejected


@given(raw=P_VALUES, data=st.data())
def test_holm_keeps_the_order_raises_every_p_value_and_stays_below_1(raw: list[float], data: st.DataObject) -> None:
    adjusted = inference.holm(raw)
    assert all(ours >= theirs for ours, theirs in zip(adjusted, raw, strict=True))
    assert all(ours <= min(1.0, len(raw) * theirs) for ours, theirs in zip(adjusted, raw, strict=True))
    for (p, a), (q, b) in itertools.combinations(zip(raw, adjusted, strict=True), 2):
        assert (p <= q) <= (a <= b)
        assert (p >= q) <= (a >= b)
    places = data.draw(st.permutations(range(len(raw))))
    assert inference.holm([raw[place] for place in places]) == [adjusted[place] for place in places]
