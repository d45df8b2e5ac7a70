"""Rules that weigh rows by the numbers of examples that clients claim: against oracles, and what a claim can do."""

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

import agrbench
from agrbench.conformance import Violation, claims
from agrbench.plugins.registry import Registry
from agrbench.server.ranks import Between, BetweenBySize, MiddleBySize
from agrbench.server.scores import counted
from tests.helpers import oracles
from tests.helpers import oracles_sizes as slow
from tests.helpers.judging import SLACK, assert_step, draw_layered
from tests.helpers.oracles import Array
from tests.helpers.oracles_distance import excess
from tests.helpers.updates import EXACT, FORMS, Form, as_given, line

RULES = ["median", "trimmed_mean", "geometric_median", "multi_krum"]
COLUMNS = ["median", "trimmed_mean"]
# Few different sizes, so that sums often meet at exactly half; and some large ones.
SIZE = st.integers(0, 3) | st.integers(1, 1000)
ROUNDING = 1e-12  # of sums of a dozen products in float64


def weighted(rule: str) -> str:
    return f"{rule[:-1]},weighted=True)" if rule.endswith(")") else f"{rule}(weighted=True)"


def step_of(
    rows: Array, spec: str, f: int = 0, sizes: Any = (), form: Form = EXACT, layout: Any = None, seed: int = 0
) -> Array:
    given_sizes = as_given(np.array(sizes, dtype=np.float64), (form[0], "float64")) if len(sizes) else None
    step = agrbench.aggregate(as_given(rows, form), spec, f, layout, sizes=given_sizes, seed=seed)
    assert str(step.dtype).removeprefix("torch.") == form[1]
    return np.asarray(step, dtype=np.float64)


def draw_sizes(data: st.DataObject, n: int) -> list[int]:
    return data.draw(st.lists(SIZE, min_size=n, max_size=n), label="sizes")


def draw_bound(data: st.DataObject, n: int, rule: str = "median") -> int:
    return data.draw(st.integers(0, (n - 3 if rule == "multi_krum" else n - 1) // 2), label="f")


def assert_near(one: Array, other: Array, rows: Array, room: float = ROUNDING) -> None:
    assert (np.abs(one - other) <= room * np.abs(rows).max()).all(), (one, other)


# ---------------------------------------------------------------- against the definitions


@pytest.mark.oracle(*COLUMNS)
@pytest.mark.parametrize("rule", COLUMNS)
@given(st.data(), FORMS)
def test_weighted_rule_by_column_is_what_its_intervals_say_in_base_and_amplified_form(
    rule: str, data: st.DataObject, form: Form
) -> None:
    rows, shapes, kernel = draw_layered(data)
    sizes, f = draw_sizes(data, len(rows)), draw_bound(data, len(rows))
    believed = slow.counted(sizes)
    for amplified in (False, True):
        view = oracles.pooled_rows(rows, shapes, kernel) if amplified else rows
        weights = slow.median_weights(view, believed) if rule == "median" else slow.trimmed_weights(view, believed, f)
        spread = oracles.spread(weights, shapes, kernel) if amplified else weights
        spec = f"amp(kernel={kernel})+{weighted(rule)}" if amplified else weighted(rule)
        assert_step(step_of(rows, spec, f, sizes, form, shapes), spread, rows, form)


def believed(rows: Array, rule: str, sizes: Sequence[int], form: Form) -> Array:
    """Ask a weighted rule for weights, check that they are shares, and make them add up to 1."""
    weights = agrbench.weigh(as_given(rows, form), weighted(rule), 0, sizes=np.array(sizes)).weights
    assert isinstance(weights, Tensor)
    ours: Array = weights.double().numpy()
    assert (ours >= 0).all()
    assert ours.sum() == pytest.approx(1, abs=1e-6)  # a sum of a dozen rounded shares
    return np.asarray(ours / ours.sum())


@pytest.mark.oracle("geometric_median")
@given(oracles.updates(), st.data(), FORMS)
def test_weighted_geometric_median_has_the_least_weighted_sum_of_distances(
    rows: Array, data: st.DataObject, form: Form
) -> None:
    sizes = draw_sizes(data, len(rows))
    counted = slow.counted(sizes)
    moved, shares = rows - rows[0], [float(size / sum(counted)) for size in counted]
    point = believed(rows, "geometric_median", sizes, form) @ moved
    assert excess(moved, point, shares) <= max(1e-8, 20 * SLACK[form[1]])  # as for the unweighted rule


@pytest.mark.oracle("geometric_median")
@given(oracles.updates(), st.data(), FORMS)
def test_weighted_geometric_median_of_three_steps_takes_those_of_rfa(
    rows: Array, data: st.DataObject, form: Form
) -> None:
    sizes = draw_sizes(data, len(rows))
    ours, theirs = believed(rows, "geometric_median(steps=3)", sizes, form), slow.rfa(rows, slow.counted(sizes), 3)
    moved = rows - rows[0]
    away = [oracles.distance(row, theirs @ moved) for row in moved]
    # The room of the unweighted rule: half of the digits remain where rows coincide.
    room = max(1e-5, 10 * SLACK[form[1]]) * slow.median_of(away, slow.counted(sizes))
    assert oracles.distance(ours @ moved, theirs @ moved) <= room + max(1e-6, SLACK[form[1]] / 10) * max(away)


@pytest.mark.oracle("multi_krum")
@given(oracles.updates((3, 12)), st.data(), FORMS, st.integers(1, 3))
def test_weighted_multi_krum_averages_the_same_rows_by_size(
    rows: Array, data: st.DataObject, form: Form, m: int
) -> None:
    sizes, f = draw_sizes(data, len(rows)), draw_bound(data, len(rows), "multi_krum")
    for rule in ("multi_krum", f"multi_krum(m={m})"):
        kept = agrbench.weigh(as_given(rows, form), rule, f).weights
        assert isinstance(kept, Tensor)
        expected = slow.shares(kept.nonzero().flatten().tolist(), slow.counted(sizes))
        assert_step(step_of(rows, weighted(rule), f, sizes, form), expected, rows, form)


@pytest.mark.trap("median")
@given(oracles.updates(width=(1, 3)), st.data())
def test_weighted_median_has_the_least_weighted_sum_of_distances(rows: Array, data: st.DataObject) -> None:
    sizes = draw_sizes(data, len(rows))
    believed = np.array([float(size) for size in slow.counted(sizes)])
    step = step_of(rows, weighted("median"), 0, sizes)
    for column, found in zip(rows.T, step, strict=True):
        cost = min(float(believed @ np.abs(column - place)) for place in column)
        assert float(believed @ np.abs(column - found)) <= cost + 1e-9 * float(believed @ np.abs(column))


TIED = st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.5, -3e38, 3e38, 1e-45, -1e-45])


@pytest.mark.trap("median", "trimmed_mean")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(st.data(), st.integers(1, 9))
def test_equal_values_are_laid_end_to_end_in_the_order_of_their_rows(
    dtype: torch.dtype, data: st.DataObject, n: int
) -> None:
    listed = data.draw(st.lists(st.lists(TIED, min_size=4, max_size=4), min_size=n, max_size=n))
    block, sizes, f = torch.tensor(listed, dtype=dtype), draw_sizes(data, n), draw_bound(data, n)
    believed, view = slow.counted(sizes), np.array(listed, dtype=str(dtype).removeprefix("torch."))
    claimed = counted(torch.tensor(sizes, dtype=torch.float64))
    for found, expected in (
        (MiddleBySize(claimed)(block), slow.median_weights(view, believed)),
        (BetweenBySize(claimed, f, n - f)(block), slow.trimmed_weights(view, believed, f)),
    ):
        assert found.dtype == dtype
        assert found.numpy() == pytest.approx(expected, rel=4 * torch.finfo(dtype).eps)  # one division and one rounding


@pytest.mark.trap("trimmed_mean")
@pytest.mark.parametrize("size", [0.1, 1 / 3, 0.7])
def test_row_that_ends_where_the_cut_does_keeps_nothing_by_rounding(size: float) -> None:
    """Sums of tenths round, and what is left of a row cut whole may be as large as it likes."""
    rows = line(-1e30, -1e30, -1e30, 1, 2, 3, 4, 1e30, 1e30, 1e30)
    assert step_of(rows, weighted("trimmed_mean"), 3, [size] * 10) == pytest.approx([2.5], rel=1e-9)


# ---------------------------------------------------------------- what sizes mean


@pytest.mark.trap(*RULES)
@pytest.mark.parametrize("stack", ["{}", "amp+{}", "nnm+{}", "bucketing(size=3)+{}", "nnm+amp+{}", "amp+nnm+{}"])
@pytest.mark.parametrize("rule", RULES)
@given(st.integers(0, 2**32 - 1), st.integers(10, 13), st.integers(1, 1000))
def test_equal_sizes_are_no_sizes(rule: str, stack: str, seed: int, n: int, size: int) -> None:
    """Behind row stages too, where mixed sizes are equal only to rounding."""
    rows = np.random.default_rng(seed).normal(size=(n, 6))
    f = 0 if stack.startswith("bucketing") else 2
    ours = step_of(rows, stack.format(weighted(rule)), f, [size] * n, layout=[(2, 3)])
    plain = step_of(rows, stack.format(rule), f, layout=[(2, 3)])
    # The geometric median ends at a gradient of 1e-9.
    assert_near(ours, plain, rows, 1e-8 if rule == "geometric_median" else ROUNDING)


@pytest.mark.trap("median", "trimmed_mean", "multi_krum")
@pytest.mark.parametrize("rule", ["median", "trimmed_mean", "multi_krum"])
@given(oracles.updates((3, 12)), st.integers(1, 1000), st.data(), FORMS)
def test_equal_sizes_give_the_bits_of_the_unweighted_rule(
    rule: str, rows: Array, size: int, data: st.DataObject, form: Form
) -> None:
    f = draw_bound(data, len(rows), rule)
    assert (step_of(rows, weighted(rule), f, [size] * len(rows), form) == step_of(rows, rule, f, form=form)).all()


def repeated(rows: Array, sizes: Sequence[int]) -> Array:
    return np.repeat(rows, sizes, axis=0)


@pytest.mark.trap("median", "geometric_median")
@pytest.mark.parametrize("rule", ["median", "geometric_median", "geometric_median(steps=1)"])
@given(oracles.updates((1, 6), (1, 8)), st.data())
def test_row_of_size_k_counts_as_k_rows(rule: str, rows: Array, data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=len(rows), max_size=len(rows)), label="sizes")
    room = ROUNDING if rule == "median" else 1e-5  # half of the digits remain where rows coincide
    assert_near(step_of(rows, weighted(rule), 0, sizes), step_of(repeated(rows, sizes), rule), rows, room)


@pytest.mark.trap("trimmed_mean")
@given(oracles.updates((1, 6), (1, 8)), st.data())
def test_trimmed_row_of_size_k_counts_as_k_rows_if_the_bound_grows_with_them(rows: Array, data: st.DataObject) -> None:
    n = len(rows)
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=n, max_size=n), label="sizes")
    sizes[0] += -sum(sizes) % n  # a whole multiple of n, so that f / n of all is a whole number of rows
    f = draw_bound(data, n)
    plain = step_of(repeated(rows, sizes), "trimmed_mean", f * sum(sizes) // n)
    assert_near(step_of(rows, weighted("trimmed_mean"), f, sizes), plain, rows)


@pytest.mark.trap(*RULES)
@pytest.mark.parametrize("rule", RULES)
@given(st.integers(0, 2**32 - 1), st.data())
def test_order_of_clients_does_not_matter_if_they_take_their_sizes_with_them(
    rule: str, seed: int, data: st.DataObject
) -> None:
    rows, sizes = np.random.default_rng(seed).normal(size=(9, 4)), draw_sizes(data, 9)
    order = data.draw(st.permutations(range(9)))
    assume(any(sizes))
    ours, other = (step_of(rows[o], weighted(rule), 3, np.array(sizes)[o]) for o in (list(range(9)), list(order)))
    assert_near(ours, other, rows, 1e-8 if rule == "geometric_median" else ROUNDING)


@pytest.mark.trap("median", "geometric_median", "trimmed_mean")
@pytest.mark.parametrize("rule", ["median", "geometric_median", "trimmed_mean"])
@given(oracles.updates((1, 6), (1, 8)), st.data())
def test_rows_of_size_0_are_not_there(rule: str, rows: Array, data: st.DataObject) -> None:
    n = len(rows)
    sizes, f = data.draw(st.lists(st.integers(1, 5), min_size=n, max_size=n), label="sizes"), draw_bound(data, n)
    others = np.random.default_rng(n).normal(size=rows.shape) * 100 * np.abs(rows).max()
    both = np.concatenate([others, rows])  # twice as many rows, and twice the bound
    ours = step_of(both, weighted(rule), 2 * f, [0] * n + sizes)
    # Distances to rows far away leave fewer digits for the others.
    assert_near(ours, step_of(rows, weighted(rule), f, sizes), rows, 1e-4 if rule == "geometric_median" else ROUNDING)


@pytest.mark.trap("trimmed_mean")
def test_row_on_the_edge_is_cut_in_part() -> None:
    """Of 4 examples a third is cut at each end: of the first two, 2/3 are left, and of the next one 2/3."""
    assert step_of(line(0, 10, 20), weighted("trimmed_mean"), 1, [2, 1, 1]) == pytest.approx([5.0], rel=1e-12)


@pytest.mark.trap("median")
def test_weighted_median_at_exactly_half_is_between_two_rows_that_have_sizes() -> None:
    assert step_of(line(1, 2, 3, 4), weighted("median"), 0, [3, 0, 0, 3]).tolist() == [2.5]
    assert step_of(line(1, 2, 3, 4), weighted("median"), 0, [3, 0, 1, 3]).tolist() == [3.0]


@pytest.mark.trap(*COLUMNS)
@pytest.mark.parametrize("rule", COLUMNS)
def test_sizes_are_mixed_like_the_rows_in_front_of_a_rule_by_column(rule: str) -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        rows, sizes = rng.normal(size=(7, 4)), rng.integers(1, 100, size=7)
        mixing = oracles.nnm(rows, 2)
        mixed = [Fraction(x) for x in mixing @ sizes]
        view = mixing @ rows
        weights = slow.median_weights(view, mixed) if rule == "median" else slow.trimmed_weights(view, mixed, 2)
        assert_near(step_of(rows, f"nnm+{weighted(rule)}", 2, sizes), (weights * view).sum(axis=0), rows)


# ---------------------------------------------------------------- what a claim can do


@pytest.mark.trap("median", "geometric_median")
@pytest.mark.parametrize("rule", ["median", "geometric_median"])
@pytest.mark.parametrize("stack", ["{}", "amp+{}"])
def test_whoever_claims_more_than_half_of_all_examples_decides_the_step(rule: str, stack: str) -> None:
    rows = np.random.default_rng(0).normal(size=(9, 6))
    rows[4] = -1000
    sizes = [10, 12, 14, 16, 0, 18, 20, 22, 24]
    enough = 1 if rule == "median" else 50  # near half, the steps of the geometric median are small, and 100 at most
    for lie, decides in ((sum(sizes) - 1, False), (sum(sizes) + enough, True)):
        sizes[4] = lie
        step = step_of(rows, stack.format(weighted(rule)), 1, sizes, layout=[(2, 3)])
        assert (np.abs(step + 1000).max() < 1e-2) == decides
        sizes[4] = 0
    assert (np.abs(step_of(rows, stack.format(rule), 1, layout=[(2, 3)])) < 10).all()


@pytest.mark.trap("trimmed_mean")
def test_row_that_claims_more_than_its_share_is_never_cut_whole() -> None:
    rows = line(0, 1, 2, 3, 1000)
    assert step_of(rows, weighted("trimmed_mean"), 1, [10] * 5)[0] == pytest.approx(2, rel=1e-12)
    # Of 65 examples 13 are cut at each end: 12 of the last row's 25 are left, of 39.
    lied = step_of(rows, weighted("trimmed_mean"), 1, [10, 10, 10, 10, 25])[0]
    assert lied == pytest.approx((7 * 1 + 10 * 2 + 10 * 3 + 12 * 1000) / 39, rel=1e-12)


@pytest.mark.trap("multi_krum")
def test_selection_of_multi_krum_does_not_depend_on_what_rows_claim() -> None:
    rows = line(0, 1, 2, 3, 4, 1000)
    assert step_of(rows, weighted("multi_krum"), 1, [1, 1, 1, 1, 1, 1e9])[0] == pytest.approx(2, rel=1e-12)
    assert step_of(rows, weighted("multi_krum"), 1, [1, 1, 1, 1, 1e9, 1])[0] == pytest.approx(4, rel=1e-6)
    assert step_of(rows, weighted("multi_krum"), 1, [0, 0, 0, 0, 0, 7])[0] == pytest.approx(2, rel=1e-12)


LIES = [math.nan, -1.0, -1e9, math.inf, -math.inf]


@pytest.mark.trap(*RULES)
@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("rule", [*RULES, "fedavg"])
@pytest.mark.parametrize("stage", ["", "nnm+", "clip+"])
def test_claim_that_means_nothing_counts_as_0_and_spoils_no_other(rule: str, lie: float, stage: str) -> None:
    rows, sizes = np.random.default_rng(2).normal(size=(7, 5)), [3.0, 1, 4, 1, 5, 9, 2]
    lied, nothing = (step_of(rows, stage + weighted(rule), 2, [*sizes[:3], claim, *sizes[4:]]) for claim in (lie, 0))
    assert (lied == nothing).all()
    assert np.isfinite(lied).all()
    all_lie = step_of(rows, stage + weighted(rule), 2, [lie] * 7)
    assert (all_lie == step_of(rows, stage + weighted(rule), 2, [1] * 7)).all()


@pytest.mark.trap(*RULES)
@pytest.mark.parametrize("rule", [*RULES, "fedavg"])
def test_largest_claims_leave_a_step_of_finite_numbers(rule: str) -> None:
    rows = np.random.default_rng(2).normal(size=(7, 5))
    for form in (EXACT, ("torch", "float32")):
        for claimed in ([1e308] * 7, [1e308, *[1.0] * 6], [1e308, *[0.0] * 6], [5e-324] * 7):
            step = step_of(rows, weighted(rule), 2, claimed, form)
            assert (np.abs(step) <= np.abs(rows).max()).all()


def test_what_is_counted_of_claims() -> None:
    given_claims = torch.tensor([3.0, 0.0, -2.0, math.nan, math.inf, -math.inf, 1e300], dtype=torch.float64)
    assert counted(given_claims).tolist() == [3, 0, 0, 0, 0, 0, 1e15]
    assert counted(given_claims[1:6]).tolist() == [1] * 5
    assert given_claims[2] == -2


# ---------------------------------------------------------------- what the weighted forms claim


@cache
def registry() -> Registry:
    return Registry()


@pytest.mark.parametrize("rule", RULES)
def test_no_coefficient_is_proven_of_a_weighted_form(rule: str) -> None:
    plain, believing = (registry().stack(spec).defense.record for spec in (rule, weighted(rule)))
    assert (plain.bound is None) == (rule == "multi_krum")
    assert believing.bound is None or believing.bound(11, 2) is None
    assert plain.bound is None or plain.bound(11, 2) is not None
    assert believing.requires(7, 2) == plain.requires(7, 2)
    assert believing.requires(6, 3) is False


REFUTED = {"median": ["resists"], "trimmed_mean": ["resists"], "geometric_median": ["resists"], "multi_krum": []}


@pytest.mark.parametrize("rule", RULES)
def test_weighted_form_has_every_property_but_that_it_resists_clients_who_claim_most(rule: str) -> None:
    """The clients of a case claim 1, 2, 3, ... examples, and the malicious ones come last: they may hold most."""
    refuted = []
    for claim in claims(weighted(rule)):
        try:
            claim.verify(30 if str(claim) == "resists" else 4)
        except Violation:
            refuted.append(str(claim))
    assert refuted == REFUTED[rule]


def test_unweighted_rules_return_what_they_always_did_and_do_not_ask_for_sizes() -> None:
    rows = np.random.default_rng(0).normal(size=(5, 3))
    assert agrbench.weigh(rows, "median", 1).weights == Between(2, 3)
    assert agrbench.weigh(rows, "trimmed_mean(weighted=False)", 1).weights == Between(1, 4)
    weights = agrbench.weigh(rows, "multi_krum", 1).weights
    assert isinstance(weights, Tensor)
    assert weights.dtype == torch.bool
