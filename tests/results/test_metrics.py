"""The metrics: sums that come out exactly, statistics that agree with an independent computation."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from agrbench.cells import Cell
from agrbench.plugins.registry import Registry
from agrbench.results import metrics
from agrbench.results import statistics as inference
from agrbench.results.metrics import Group
from agrbench.results.record import Record, blank, failed
from agrbench.results.statistics import Sample

REGISTRY = Registry()
ROUNDS = [0, 10, 20, 30, 40]  # 40 rounds are attacked from round 10 on: four evaluations count


def made(defense: str, attack: str, seed: int, accuracy: Sequence[float], **change: Any) -> Record:
    cell = Cell("digits", defense, attack, seed, rounds=40)
    curves = {"rounds": ROUNDS, "accuracy": list(accuracy), "loss": [1.0] * len(ROUNDS), "classes": 10}
    return blank(cell, REGISTRY) | curves | change


def grouped(*records: Record) -> Group:
    (group,) = metrics.groups(records)
    return group


def sample(*values: float) -> Sample:
    return Sample(tuple(range(len(values))), values)


# Losses

EIGHTHS = st.integers(0, 1024).map(lambda k: k / 1024)
CURVES = st.lists(EIGHTHS, min_size=5, max_size=5)


@given(a=CURVES, b=CURVES, c=CURVES)
def test_robustness_loss_is_fidelity_loss_plus_attack_damage_exactly(
    a: list[float], b: list[float], c: list[float]
) -> None:
    """Multiples of 1/1024, averaged over four rounds, are added and subtracted without rounding."""
    group = grouped(
        made("fedavg", "none", 0, a), made("krum", "label_flip", 0, b), made("krum", "none", 0, c)
    )  # fmt: skip
    robustness = metrics.loss(group, "krum", "label_flip").values
    costs, damage = metrics.fidelity(group, "krum").values, metrics.damage(group, "krum", "label_flip").values
    assert robustness == (costs[0] + damage[0],)
    assert robustness == (float(sum(Fraction(x) - Fraction(y) for x, y in zip(a[1:], b[1:], strict=True)) / 4),)
    assert costs == (float(sum(Fraction(x) - Fraction(y) for x, y in zip(a[1:], c[1:], strict=True)) / 4),)


@given(st.lists(st.floats(0, 1), min_size=15, max_size=15))
def test_the_parts_of_the_loss_add_up_for_any_accuracy(values: list[float]) -> None:
    a, b, c = values[:5], values[5:10], values[10:]
    group = grouped(
        made("fedavg", "none", 0, a), made("krum", "label_flip", 0, b), made("krum", "none", 0, c)
    )  # fmt: skip
    whole = metrics.loss(group, "krum", "label_flip").values[0]
    parts = metrics.fidelity(group, "krum").values[0] + metrics.damage(group, "krum", "label_flip").values[0]
    # Ten roundings (nine differences and means, one sum), each of numbers below 2 in size: 10 half units of 2^-52.
    assert abs(whole - parts) <= 10 * 2**-53 * 2


@pytest.mark.parametrize(("start", "wanted"), [(None, (1 + 2 + 3 + 4) / 4), (20, 3.0), (30, 3.5), (40, 4.0)])
def test_means_run_over_the_evaluated_rounds_from_the_first_attacked_one_on(start: int | None, wanted: float) -> None:
    def record(defense: str, attack: str, accuracy: list[float]) -> Record:
        cell = Cell("digits", defense, attack, 0, rounds=40, start=start)
        return blank(cell, REGISTRY) | {"rounds": ROUNDS, "accuracy": accuracy, "loss": accuracy, "classes": 10}

    group = grouped(record("fedavg", "none", [0.0] * 5), record("krum", "label_flip", [9.0, -1.0, -2.0, -3.0, -4.0]))
    assert metrics.loss(group, "krum", "label_flip").values == (wanted,)


def test_a_last_evaluation_that_is_no_multiple_of_ten_counts_like_any_other() -> None:
    def record(defense: str, accuracy: list[float]) -> Record:
        cell = Cell("digits", defense, "none", 0, rounds=25)
        return blank(cell, REGISTRY) | {"rounds": [0, 10, 20, 25], "accuracy": accuracy, "loss": accuracy}

    group = grouped(record("fedavg", [0.0, 0.5, 0.5, 0.5]), record("krum", [1.0, 0.5, 0.5, 0.25]))
    assert metrics.fidelity(group, "krum").values == (0.25 / 3,)


def test_differences_are_paired_by_seed_whatever_the_order_of_the_records() -> None:
    references = {0: 0.5, 1: 0.75, 2: 1.0, 5: 0.25}
    measured = {5: 0.125, 2: 0.5, 0: 0.25, 7: 0.0}
    records = [made("fedavg", "none", seed, [value] * 5) for seed, value in references.items()]
    records += [made("krum", "label_flip", seed, [value] * 5) for seed, value in measured.items()]
    found = metrics.loss(grouped(*reversed(records)), "krum", "label_flip")
    assert found == Sample((0, 2, 5), (0.25, 0.5, 0.125))


def test_a_seed_without_its_reference_or_with_other_rounds_has_no_loss() -> None:
    other = made("krum", "label_flip", 1, [0.5] * 5, rounds=[0, 5, 10, 20, 40])
    group = grouped(made("fedavg", "none", 1, [0.5] * 5), made("krum", "label_flip", 0, [0.5] * 5), other)
    assert metrics.loss(group, "krum", "label_flip") == Sample((), ())
    assert math.isnan(metrics.loss(group, "krum", "label_flip").mean)


def test_the_undefended_run_without_attack_loses_nothing() -> None:
    group = grouped(*(made("fedavg", "none", seed, [0.1, 0.7, 0.8, 0.9, 0.9]) for seed in range(3)))
    assert metrics.fidelity(group, "fedavg").values == (0.0, 0.0, 0.0)


def test_a_difference_of_samples_keeps_the_seeds_that_both_have() -> None:
    ours, theirs = Sample((0, 1, 3), (1.0, 2.0, 4.0)), Sample((3, 0, 2), (1.0, 0.5, 9.0))
    assert ours.minus(theirs) == Sample((0, 3), (0.5, 3.0))
    assert ours.minus(Sample((), ())) == Sample((), ())


def test_an_average_is_taken_seed_by_seed_over_the_seeds_that_all_have() -> None:
    samples = [Sample((0, 1, 2), (1.0, 2.0, 3.0)), Sample((2, 1), (5.0, 0.0))]
    assert inference.averaged(samples) == Sample((1, 2), (1.0, 4.0))
    assert inference.averaged([]) == Sample((), ())


# Other rates


def test_success_is_the_mean_of_the_curve_without_what_came_before_the_attack() -> None:
    success = {"success": [None, None, 0.5, 0.75, 1.0], "success_untriggered": [None, None, 0.0, 0.0, 0.75]}
    group = grouped(made("fedavg", "none", 0, [0.5] * 5), made("krum", "scaling", 0, [0.5] * 5, **success))
    assert metrics.success(group, "krum", "scaling") == Sample((0,), (0.75,))
    assert metrics.untriggered(group, "krum", "scaling") == Sample((0,), (0.25,))
    assert metrics.success(group, "fedavg", "none") == Sample((), ())
    assert group.targeted("scaling")
    assert not group.targeted("none")


def test_a_rate_of_trust_is_the_mean_of_the_rounds_that_have_it() -> None:
    rates = {"malicious_share": [None, 0.25, 0.75, None, 0.5], "precision": [None] * 5, "recall": [1.0] * 5}
    group = grouped(made("krum", "label_flip", 3, [0.5] * 5, trust=rates))
    assert metrics.trust(group, "krum", "label_flip", "malicious_share") == Sample((3,), (0.5,))
    assert metrics.trust(group, "krum", "label_flip", "precision") == Sample((), ())
    assert metrics.trust(group, "krum", "label_flip", "recall") == Sample((3,), (1.0,))


def test_final_is_the_accuracy_after_the_last_round() -> None:
    group = grouped(made("krum", "none", 0, [0.0, 0.1, 0.2, 0.9, 0.4]), made("krum", "none", 1, [0.5] * 5))
    assert metrics.final(group, "krum", "none") == Sample((0, 1), (0.4, 0.5))


def test_server_time_is_a_mean_over_attacks_and_a_run_is_all_rounds() -> None:
    def timed(attack: str, seed: int, server: float) -> Record:
        return made("krum", attack, seed, [0.5] * 5, time={"server_s": server, "round_s": 2.0, "alone": True})

    group = grouped(timed("none", 0, 1.0), timed("label_flip", 0, 2.0), timed("scaling", 0, 6.0), timed("none", 1, 5.0))
    assert metrics.server_seconds(group, "krum") == Sample((0, 1), (3.0, 5.0))
    assert metrics.run_seconds(group, "krum", "none") == Sample((0, 1), (80.0, 80.0))


@pytest.mark.parametrize(
    ("ends", "classes", "fallen"),
    [
        ([0.19], 10, True),
        ([0.2], 10, False),
        ([0.9, 0.1], 10, True),
        ([0.9, 0.9], 10, False),
        ([0.05], 30, True),
        ([0.07], 30, False),
        ([0.9], 2, True),
    ],
)
def test_a_model_is_collapsed_below_twice_chance_in_any_seed(ends: list[float], classes: int, fallen: bool) -> None:
    records = [
        made("krum", "label_flip", seed, [0.9, 0.9, 0.9, 0.0, end], classes=classes) for seed, end in enumerate(ends)
    ]
    group = grouped(*records, made("median", "label_flip", 0, [0.0] * 5), made("krum", "none", 0, [0.0] * 5))
    assert metrics.collapsed(group, "krum", "label_flip") == fallen


# The worst case


def test_the_worst_attack_is_the_one_of_the_largest_mean() -> None:
    samples = {"a": sample(1.0, 1.0, 1.0), "b": sample(0.0, 0.0, 4.5), "c": sample(1.4, 1.4, 1.4)}
    assert metrics.worst(samples, (0, 1, 2)) == ("b", samples["b"])


@pytest.mark.parametrize(
    "samples",
    [
        {},
        {"a": sample(1.0, 2.0, 3.0), "b": sample(1.0, 2.0)},
        {"a": Sample((0, 1, 3), (1.0, 2.0, 3.0))},
        {"a": Sample((), ())},
    ],
    ids=str,
)
def test_an_incomplete_row_has_no_worst_attack(samples: Mapping[str, Sample]) -> None:
    assert metrics.worst(samples, (0, 1, 2)) is None


# Groups


def test_records_that_cannot_be_compared_are_kept_apart() -> None:
    base = made("krum", "none", 0, [0.5] * 5)

    def variant(**settings: Any) -> Record:
        cell = Cell("digits", "krum", "none", 0, **{"rounds": 40, **settings})
        return base | {"cell": cell.as_json()}

    others = [
        variant(rounds=80), variant(clients=20), variant(malicious=3), variant(rate=0.5), base | {"protocol": 0},
        base | {"cell": Cell("location30", "krum", "none", 0, rounds=40).as_json()},
    ]  # fmt: skip
    assert len(metrics.groups([base, *others])) == 1 + len(others)
    assert len(metrics.groups([base, variant(malicious=15, start=10), made("median", "scaling", 4, [0.5] * 5)])) == 1


def test_what_did_not_finish_is_kept_with_its_reason() -> None:
    broken = failed(Cell("digits", "krum", "label_flip", 2, rounds=40), REGISTRY, "out of memory")
    group = grouped(made("krum", "none", 0, [0.5] * 5), broken)
    assert group.missing == {("krum", "label_flip", 2): "failed: out of memory"}
    assert group.seeds("krum", "label_flip") == []
    assert group.attacks == ["label_flip"]
    assert metrics.groups([broken]) == []


def test_defenses_are_listed_baseline_first_and_each_amplified_form_after_its_base() -> None:
    names = ["median", "amp+krum", "cosden", "amp(kernel=3)+median", "krum", "amp+cosden", "fedavg", "nnm+krum"]
    group = grouped(*(made(name, "none", 0, [0.5] * 5) for name in names))
    found = group.defenses
    assert found[0] == "fedavg"
    assert sorted(found) == sorted(names)
    for name in found:
        if metrics.base_of(name) != name:
            assert found[found.index(name) - 1] == metrics.base_of(name)


@pytest.mark.parametrize(
    ("defense", "base"),
    [
        ("krum", "krum"),
        ("amp+krum", "krum"),
        ("amp(kernel=3)+krum", "krum"),
        ("amp+nnm+krum", "nnm+krum"),
        ("nnm+amp+krum", "nnm+amp+krum"),
        ("sample+krum", "sample+krum"),
        ("amp+clip(bound=1e+20)", "clip(bound=1e+20)"),
    ],
)
def test_the_base_of_an_amplified_form_is_the_rest_of_its_spec(defense: str, base: str) -> None:
    assert metrics.base_of(defense) == base


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


def flips(values: Sequence[float]) -> float:
    """Count, in exact arithmetic, the signs under which the sum is at least as far from 0 as it is."""
    exact = [Fraction(value) for value in values]
    sums = [Fraction(0)]
    for value in exact:
        sums = [each + sign * value for each in sums for sign in (1, -1)]
    seen = abs(sum(exact, Fraction(0)))
    return sum(abs(each) >= seen for each in sums) / len(sums)


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
