"""Rules that work by coordinate, norm or layer, leaving one out, and the row stages: against their oracles."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

import agrbench
from agrbench import Layout
from agrbench.errors import AgrbenchError, Inapplicable, PluginError
from agrbench.plugins import Defense
from agrbench.plugins.registry import Registry
from agrbench.plugins.stack import Loaded
from agrbench.randomness import generator
from agrbench.server.judge import Judge
from agrbench.server.rounds import Round, Server
from tests.helpers import oracles
from tests.helpers import oracles_coordinate as slow
from tests.helpers.judging import (
    LARGEST_BOUND,
    SLACK,
    Evaluation,
    assert_lowest,
    assert_step,
    call,
    chosen_by,
    evaluations,
    step_of,
)
from tests.helpers.oracles import Array, Shapes
from tests.helpers.updates import FORMS, Form, as_given, by_size, line

LEFT_OUT = {rule: f"{rule}(impact='leave_one_out')" for rule in ("fang", "fang_lrr", "fang_err")}
RULES = ["meamed", "norm_clipping", "rlr", "lasa", "signguard", *LEFT_OUT.values()]
STAGES = ["bucketing", "bucketing(size=3)", "clip", "arc"]
EPS = {name: float(np.finfo(name).eps) for name in SLACK}
BOTH_FORMS: list[Form] = [("torch", "float32"), ("numpy", "float64")]


def draw_bound(data: st.DataObject, n: int) -> int:
    return data.draw(st.integers(0, (n - 1) // 2), label="f")


@dataclass(frozen=True)
class Drawn:
    """Updates, a bound, and the base or the amplified form in which a rule is to judge them."""

    rows: Array
    f: int
    shapes: list[tuple[int, ...]]
    kernel: int | None

    def spec(self, rule: str) -> str:
        return f"amp(kernel={self.kernel})+{rule}" if self.kernel else rule

    @property
    def view(self) -> Array:
        return oracles.pooled_rows(self.rows, self.shapes, self.kernel) if self.kernel else self.rows

    @property
    def restored(self) -> Array:
        return oracles.restored_rows(self.rows, self.shapes, self.kernel) if self.kernel else self.rows

    def spread(self, weights: Array) -> Array:
        return oracles.spread(weights, self.shapes, self.kernel) if self.kernel else weights

    def step(self, rule: str, form: Form, **more: Any) -> Array:
        return step_of(self.rows, self.spec(rule), self.f, form, layout=self.shapes, **more)


@st.composite
def either_form(draw: st.DrawFn) -> Drawn:
    shapes = draw(oracles.layouts())
    width = oracles.parameters(shapes)
    rows = draw(oracles.updates((1, 12), (width, width)))
    return Drawn(rows, draw(st.integers(0, (len(rows) - 1) // 2)), shapes, draw(st.sampled_from([None, 1, 2, 3])))


def columns_of(drawn: Drawn, spec: str, form: Form = ("numpy", "float64")) -> Array:
    """Give a verdict by columns, asked for all columns of the view at once."""
    weights = call(agrbench.weigh, drawn.rows, drawn.spec(spec), drawn.f, form, layout=drawn.shapes).weights
    assert not isinstance(weights, Tensor)
    return np.asarray(weights(torch.from_numpy(drawn.view.astype(form[1]))))


# ---------------------------------------------------------------- meamed


def assert_closest(kept: Array, view: Array, f: int, form: Form) -> None:
    """Check that each column keeps `n - f` values of which none is further from the median than one left out."""
    assert kept.dtype == bool
    assert (kept.sum(axis=0) == len(view) - f).all()
    for column, mask in zip(view.T, kept.T, strict=True):
        ordered = np.sort(column)
        middles = ordered[(len(column) - 1) // 2], ordered[len(column) // 2]
        away = np.abs(column - slow.middle(column))
        # Averaging the two middle values rounds once, relative to them, and so does each difference.
        room = 2 * EPS[form[1]] * (np.abs(middles).max() + away)
        assert mask.all() or (away - room)[mask].max() <= (away + room)[~mask].min()


@pytest.mark.oracle("meamed")
@given(either_form(), FORMS)
def test_meamed_averages_originals_whose_values_in_the_view_are_closest_to_its_median(drawn: Drawn, form: Form) -> None:
    kept = columns_of(drawn, "meamed", form)
    assert_closest(kept, drawn.view, drawn.f, form)
    assert_step(drawn.step("meamed", form), drawn.spread(kept / (len(kept) - drawn.f)), drawn.rows, form)


@pytest.mark.trap("meamed")
@given(st.integers(1, 9), st.integers(0, 2**32 - 1), FORMS, st.data())
def test_meamed_ranks_values_equally_far_by_row(n: int, seed: int, form: Form, data: st.DataObject) -> None:
    rows = np.random.default_rng(seed).integers(-2, 3, size=(n, 8)).astype(float)  # halves at most: nothing rounds
    drawn = Drawn(rows, draw_bound(data, n), [(1, 8)], None)
    assert (columns_of(drawn, "meamed", form) == (slow.meamed_weights(rows, drawn.f) > 0)).all()


@pytest.mark.trap("meamed")
def test_meamed_keeps_n_minus_f_values_on_whichever_side_they_are() -> None:
    rows = line(0, 1, 2, 50, 100)  # f = 1: the four closest to 2; the trimmed mean drops both ends
    # A mean of four values is exact here.
    assert step_of(rows, "meamed", 1).tolist() == [13.25]
    assert oracles.trimmed_mean(rows, 1)[0] != 13.25


@pytest.mark.trap("meamed")
def test_meamed_is_closest_to_the_median_and_not_to_the_mean() -> None:
    rows = line(0, 3, 4, 9, 34)  # f = 2: the median is 4, the mean 10
    kept = columns_of(Drawn(rows, 2, [(1, 1)], None), "meamed")[:, 0]
    assert kept.tolist() == [True, True, True, False, False]
    assert oracles.lowest(np.abs(rows[:, 0] - 10), 3) == [1, 2, 3]


@pytest.mark.trap("meamed")
def test_meamed_of_evenly_many_rows_measures_from_the_mean_of_the_two_middle_values() -> None:
    rows = line(0, 5.5, 6.5, 11.5)  # f = 1: row 3 is closer to 6 than row 0 is, and further from the lower middle, 5.5
    # A mean of three: weights of a third round.
    assert step_of(rows, "meamed", 1) == pytest.approx([23.5 / 3], rel=1e-12)


# ---------------------------------------------------------------- norm_clipping


@pytest.mark.oracle("norm_clipping")
@given(st.data(), FORMS)
def test_norm_clipping_is_the_mean_of_updates_clipped_to_the_median_norm(data: st.DataObject, form: Form) -> None:
    rows = data.draw(oracles.updates(), label="rows")
    f = draw_bound(data, len(rows))
    assert_step(step_of(rows, "norm_clipping", f, form), slow.norm_clipping(rows), rows, form)


@pytest.mark.trap("norm_clipping")
def test_norm_clipping_divides_by_the_clients_and_not_by_the_factors() -> None:
    rows = line(1, 2, 8)  # clipped to 2: 1, 2, 2
    # Weights of a third round.
    assert step_of(rows, "norm_clipping", 1) == pytest.approx([5 / 3], rel=1e-12)


@pytest.mark.trap("norm_clipping")
def test_norm_clipping_of_evenly_many_rows_clips_to_the_mean_of_the_two_middle_norms() -> None:
    assert step_of(line(1, 2, 4, 8), "norm_clipping", 1).tolist() == [(1 + 2 + 3 + 3) / 4]
    assert torch.tensor([1.0, 2.0, 4.0, 8.0]).median().item() == 2.0  # the lower middle


# ---------------------------------------------------------------- rlr


@pytest.mark.oracle("rlr")
@given(either_form(), FORMS, st.integers(1, 13))
def test_rlr_flips_the_mean_where_too_few_signs_agree_in_the_view(drawn: Drawn, form: Form, threshold: int) -> None:
    threshold = min(threshold, len(drawn.rows))
    for rule, least in (("rlr", drawn.f + 1), (f"rlr(threshold={threshold})", threshold)):
        weights = drawn.spread(slow.rlr_weights(drawn.view, least))
        assert_step(drawn.step(rule, form), weights, drawn.rows, form)


@pytest.mark.trap("rlr")
def test_rlr_keeps_the_mean_where_the_balance_equals_the_threshold() -> None:
    rows = np.array([[1.0, 1.0], [1.0, 1.0], [-5.0, 1.0], [1.0, -9.0], [1.0, -9.0]])  # balances 3 and 1; f = 2
    # Weights of a fifth round.
    assert step_of(rows, "rlr", 2) == pytest.approx([-1 / 5, 15 / 5], rel=1e-12)
    assert step_of(rows, "rlr(threshold=4)", 2) == pytest.approx([1 / 5, 15 / 5], rel=1e-12)


@pytest.mark.trap("rlr")
def test_rlr_takes_the_balance_by_its_size_and_zero_has_no_sign() -> None:
    rows = np.array([[-1.0, 0.0], [-1.0, 0.0], [-1.0, 3.0]])  # balances -3 and 1; f = 1
    # Weights of a third round.
    assert step_of(rows, "rlr", 1) == pytest.approx([-1.0, -1.0], rel=1e-12)


# ---------------------------------------------------------------- lasa


def assert_lasa(
    weights: Array,
    rows: Array,
    view: Array,
    view_layers: Sequence[Sequence[int]],
    form: Form,
    sparsity: str = "0.3",
    norm_limit: float = 1.0,
    sign_limit: float = 1.0,
) -> None:
    """Check that each layer keeps whoever is clearly unsuspicious in it and nobody who clearly is not."""
    factors, sizes, purities = slow.lasa_statistics(slow.norms(rows), view, view_layers, sparsity)
    n, eps = len(rows), EPS[form[1]]
    for number, (size, pure) in enumerate(zip(sizes, purities, strict=True)):
        sure, possible = set(range(n)), set(range(n))
        for values, limit in ((size, norm_limit), (pure, sign_limit)):
            scores, deviation = slow.outlying(values)
            # A score is a quotient of differences of the values, each of them right to a few dozen roundings.
            room = 64 * eps * (1 + max(values) / deviation) if deviation else 0.0
            sure &= {i for i in range(n) if scores[i] <= limit - room}
            possible &= {i for i in range(n) if scores[i] <= limit + room}
        nil = {i for i in range(n) if factors[i] == 0}
        kept = {i for i in range(n) if weights[i, number] != 0}
        assert sure - nil <= kept <= possible - nil
        count = len(sure) if nil else len(kept)
        expected = [factors[i] / count if i in kept else 0.0 for i in range(n)]
        # A factor is a quotient of two norms, right to a few dozen roundings.
        assert weights[:, number] == pytest.approx(expected, rel=64 * eps)


LIMITS = st.sampled_from([0.5, 1.0, 2.0])


@pytest.mark.oracle("lasa")
@given(either_form(), FORMS, st.sampled_from(["0", "0.3", "0.9"]), LIMITS, LIMITS)
def test_lasa_averages_in_each_layer_those_who_are_unsuspicious_in_it(
    drawn: Drawn, form: Form, sparsity: str, norm_limit: float, sign_limit: float
) -> None:
    rows, shapes = drawn.rows, drawn.shapes
    view_layers = slow.pooled_layers(shapes, drawn.kernel) if drawn.kernel else slow.layers(shapes)
    rule = f"lasa(sparsity={float(sparsity)}, norm_limit={norm_limit}, sign_limit={sign_limit})"
    weights = call(agrbench.weigh, rows, drawn.spec(rule), drawn.f, form, layout=shapes).weights
    weights = np.asarray(weights, dtype=np.float64)
    assert weights.shape == (len(rows), len(slow.layers(shapes)))
    assert_lasa(weights, rows, drawn.view, view_layers, form, sparsity, norm_limit, sign_limit)
    assert_step(drawn.step(rule, form), slow.over_layers(weights, shapes), rows, form)


@pytest.mark.trap("lasa")
def test_lasa_by_default_thins_by_three_tenths_and_allows_one_deviation() -> None:
    shapes = [(4, 3), (3,), (6,)]
    for seed in range(5):
        rows = np.random.default_rng(seed).normal(size=(9, 21))
        weights = np.asarray(agrbench.weigh(rows, "lasa", 2, shapes).weights)
        expected = slow.lasa_weights(slow.norms(rows), rows, slow.layers(shapes))
        assert weights == pytest.approx(expected, rel=1e-12)  # the same quotients of norms in float64
        assert len({tuple(column > 0) for column in expected.T}) == 2


@pytest.mark.trap("lasa")
@pytest.mark.parametrize("form", BOTH_FORMS)
def test_lasa_keeps_all_who_differ_in_nothing_but_rounding(form: Form) -> None:
    """Every clipped norm is the median, each rounded in its own way: no deviation, not the deviation of rounding."""
    rows = np.array([[1.0, 2, 3, 4], [2, 1, 4, 3], [4, 3, 2, 1], [3, 6, 9, 12], [14, 21, 7, 28]])
    # Factors of a third and a seventh, of five: a few roundings.
    expected = np.array([1, 1, 1, 1 / 3, 1 / 7]) / 5
    weights = np.asarray(call(agrbench.weigh, rows, "lasa(sparsity=0.0)", 2, form).weights)[:, 0]
    assert weights == pytest.approx(expected, rel=1e-6)


@pytest.mark.trap("lasa")
@pytest.mark.parametrize("form", BOTH_FORMS)
@pytest.mark.parametrize("value", [0.0, 1.0, -3.0])
def test_lasa_survives_a_zero_deviation(form: Form, value: float) -> None:
    rows = np.full((5, 4), value)
    weights = np.asarray(call(agrbench.weigh, rows, "lasa(norm_limit=0.0, sign_limit=0.0)", 2, form).weights)
    assert weights == pytest.approx(np.full((5, 1), 0.2), rel=1e-6)  # a fifth, in either format


@pytest.mark.trap("lasa")
def test_lasa_leaves_a_layer_unchanged_that_keeps_nobody() -> None:
    """All rows are as long, and in the first layer too; in the others norms are 1 or 2, one deviation from 1.5."""
    rows = np.array([[3.0, 4.0, 1.0, 2.0], [4.0, 3.0, 1.0, 2.0], [4.0, 3.0, 2.0, 1.0], [3.0, 4.0, 2.0, 1.0]])
    spec, shapes = "lasa(sparsity=0.0, norm_limit=0.5)", [(2, 1), (1, 1), (1, 1)]
    assert step_of(rows, spec, 1, layout=shapes).tolist() == [3.5, 3.5, 0.0, 0.0]


@pytest.mark.trap("lasa")
def test_lasa_divides_the_deviation_by_n_and_keeps_who_is_on_the_limit() -> None:
    """Purities 0, 0, 1, 1: a half from the median each, and their deviation is a half: all are at exactly 1."""
    rows = np.array([[-1.0], [-1.0], [1.0], [1.0]])
    assert np.asarray(agrbench.weigh(rows, "lasa", 1).weights).tolist() == [[0.25]] * 4
    rows = line(*[1.0] * 8, -1.0)  # purities 1, ..., 1, 0: the last is at 9 / sqrt(8), 3.18; by n - 1 at 3
    kept = np.asarray(agrbench.weigh(rows, "lasa(sign_limit=3.1)", 1).weights)[:, 0] > 0
    assert kept.tolist() == [True] * 8 + [False]
    assert np.asarray(agrbench.weigh(rows, "lasa(sign_limit=3.2)", 1).weights).all()


@pytest.mark.trap("lasa")
@given(oracles.updates((2, 2), (1, 12)), FORMS)
def test_lasa_of_two_rows_keeps_both(rows: Array, form: Form) -> None:
    """Each of two values is one deviation from their median, whatever they are."""
    assume(rows.any(axis=1).all())
    weights = np.asarray(call(agrbench.weigh, rows, "lasa(sparsity=0.0)", 0, form).weights)[:, 0]
    factors = slow.norm_clipping(rows)
    assert weights == pytest.approx(factors, rel=1e-5)  # quotients of norms, in either format


@pytest.mark.trap("lasa")
def test_lasa_thins_whole_rows_and_not_each_layer() -> None:
    """Half of four entries: the second layer of row 0 loses both of its own, and so has no purity but a half."""
    rows = np.array([[9.0, 9.0, 1.0, 1.0], [1.0, 1.0, 9.0, 9.0], [1.0, 1.0, 9.0, 9.0]])
    spec, shapes = "lasa(sparsity=0.5, norm_limit=9.0)", [(2, 1), (2, 1)]
    kept = np.asarray(agrbench.weigh(rows, spec, 1, shapes).weights) > 0
    assert kept.tolist() == [[False, False], [True, True], [True, True]]


@pytest.mark.trap("lasa")
def test_lasa_keeps_all_entries_that_tie_with_the_last_one_kept() -> None:
    """All four entries of each row: purities of a half. Of the first two alone they would be 1, 1/2 and 1/2."""
    rows = np.array([[1.0, 1.0, -1.0, -1.0], [1.0, -1.0, 1.0, -1.0], [1.0, -1.0, -1.0, 1.0]])
    assert np.asarray(agrbench.weigh(rows, "lasa(sparsity=0.5, sign_limit=0.0)", 1).weights).all()


@pytest.mark.trap("lasa")
def test_lasa_counts_purity_over_entries_that_are_not_zero() -> None:
    rows = np.array([[2.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
    # Purities are all 1; over all four entries the first would be 5/8.
    assert np.asarray(agrbench.weigh(rows, "lasa(sign_limit=0.0, norm_limit=9.0)", 1).weights).all()


@pytest.mark.trap("lasa")
def test_lasa_keeps_three_of_ten_entries_at_a_sparsity_of_seven_tenths() -> None:
    """`(1 - 0.7) * 10` is a little more than 3 in floating point."""
    rows = np.array([[5.0, 5, 5, -1, 0, 0, 0, 0, 0, 0], [5, 5, 5, 0, 0, 0, 0, 0, 0, 0], [5, 5, 5, 0, 0, 0, 0, 0, 0, 0]])
    assert np.asarray(agrbench.weigh(rows, "lasa(sparsity=0.7, sign_limit=0.0, norm_limit=9.0)", 1).weights).all()


@pytest.mark.trap("lasa")
def test_amplified_lasa_clips_to_the_median_norm_of_the_originals() -> None:
    rows = np.array([[3.0, -4.0], [6.0, -8.0], [3.0, -30.0]])  # norms 5, 10, about 30; of the view 3, 6, 3
    weights = np.asarray(agrbench.weigh(rows, "amp+lasa(norm_limit=9.0)", 1, [(2,)]).weights)[:, 0]
    # Quotients of norms.
    assert weights == pytest.approx(np.array([1, 1, 10 / np.hypot(3, 30)]) / 3, rel=1e-12)


@pytest.mark.trap("lasa")
def test_lasa_weighs_every_coordinate_where_the_views_layers_are_not_the_originals() -> None:
    rows, shapes = np.random.default_rng(2).normal(size=(7, 21)), [(2, 4), (4,), (4, 2), (1,)]
    step = step_of(rows, "amp(fold='released')+lasa(norm_limit=9.0, sign_limit=9.0)", 2, layout=shapes)
    # Everybody is kept, at quotients of norms.
    assert step == pytest.approx(step_of(rows, "norm_clipping", 2), rel=1e-9)


@pytest.mark.parametrize("sparsity", [-0.1, 1.0])
def test_lasa_refuses_a_sparsity_that_leaves_nothing_or_more_than_all(sparsity: float) -> None:
    with pytest.raises(AgrbenchError, match="sparsity"):
        step_of(np.ones((3, 2)), f"lasa(sparsity={sparsity})", 1)


# ---------------------------------------------------------------- signguard


def signguard(rows: Array, f: int = 0, share: float = 1.0, form: Form = ("numpy", "float64"), seed: int = 0) -> Array:
    """Give the weights."""
    weights = agrbench.weigh(as_given(rows, form), f"signguard(share={share})", f, seed=seed).weights
    assert isinstance(weights, Tensor)
    return np.asarray(weights, dtype=np.float64)


def dropped(rows: Array, f: int = 0, share: float = 0.1, seed: int = 0) -> list[int]:
    return [int(i) for i in np.flatnonzero(signguard(rows, f, share, seed=seed) == 0)]


def assume_clear(rows: Array) -> None:
    """Leave out norms on an edge of what is moderate, where rounding decides."""
    lengths = np.array(slow.norms(rows)) / (slow.middle(slow.norms(rows)) or 1.0)
    assume((np.abs(lengths - 3) > 1e-5).all() and (np.abs(lengths - 0.1) > 1e-6).all())


@pytest.mark.oracle("signguard")
@given(st.data(), FORMS)
@settings(max_examples=40)
def test_signguard_averages_clipped_rows_of_moderate_norm_in_the_largest_cluster(
    data: st.DataObject, form: Form
) -> None:
    rows = data.draw(oracles.updates(), label="rows")
    f = draw_bound(data, len(rows))
    assume_clear(rows)
    features = slow.sign_features(rows, range(rows.shape[1]))
    clusters = slow.sign_clusters(features)
    # Points on the edge of the bandwidth are in or out by rounding.
    assume(all(slow.sign_clusters(features, widen) == clusters for widen in (1 - 1e-9, 1 + 1e-9)))
    weights = signguard(rows, f, 1.0, form)
    near = [np.isclose(weights, slow.signguard_weights(rows, cluster), rtol=1e-5, atol=0).all() for cluster in clusters]
    assert any(near)
    assert_step(step_of(rows, "signguard(share=1.0)", f, form), weights, rows, form)


def marked(n: int) -> Array:
    """Rows of ones, each with a minus one at its own place: who stands out tells which coordinates were looked at."""
    return np.ones((n, n)) - 2 * np.eye(n)


@pytest.mark.trap("signguard")
def test_signguard_looks_at_a_tenth_of_the_coordinates_without_repetition() -> None:
    for n, count in ((20, 2), (30, 3), (21, 3), (11, 2), (10, 1)):
        assert all(len(dropped(marked(n), 4, seed=seed)) == count for seed in range(4))
    assert (signguard(marked(20), 4, 0.1) > 0).sum() == 18
    assert all(len(dropped(marked(20), 4, share=0.4, seed=seed)) == 8 for seed in range(4))


@pytest.mark.trap("signguard")
def test_signguard_looks_at_random_coordinates_and_not_at_a_slice() -> None:
    seen = [dropped(marked(20), 4, seed=seed) for seed in range(12)]
    assert len({place for pair in seen for place in pair}) > 8
    assert any(b - a not in (1, 19) for a, b in seen)


@pytest.mark.trap("signguard")
def test_signguard_draws_anew_each_round() -> None:
    court = Judge(Registry().stack("signguard"), Layout.read([(1, 20)], 20), partial(generator, 0))
    rounds = [court.step(torch.from_numpy(marked(20)), 4, Server(), number).weights for number in range(1, 7)]
    assert len({tuple((weights == 0).nonzero().flatten().tolist()) for weights in rounds}) > 1


@pytest.mark.trap("signguard")
@pytest.mark.parametrize("seed", range(3))
def test_signguard_clusters_by_some_choice_of_coordinates(seed: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(8, 6)) + 0.3
    weights = signguard(rows, 2, 0.3, seed=seed)
    answers = [
        slow.signguard_weights(rows, cluster)
        for chosen in itertools.combinations(range(6), 2)
        for cluster in slow.sign_clusters(slow.sign_features(rows, chosen))
    ]
    assert any(np.allclose(weights, answer, rtol=1e-12, atol=0) for answer in answers)


@pytest.mark.trap("signguard")
def test_signguard_clips_what_it_keeps_and_divides_by_their_number() -> None:
    rows = line(1, 2, 2, 5, 90)  # the median norm is 2: 90 is too long, 5 is clipped to 2
    assert signguard(rows, 2).tolist() == [0.25, 0.25, 0.25, 0.1, 0.0]


@pytest.mark.trap("signguard")
def test_signguard_takes_the_median_norm_of_all_and_not_of_those_it_keeps() -> None:
    rows = line(1, 2, 3, -3, -3)  # median 3 of all, 2 of the cluster
    # Weights of a third round.
    assert signguard(rows, 2) == pytest.approx(np.array([1, 1, 1, 0, 0]) / 3, rel=1e-12)


@pytest.mark.trap("signguard")
def test_signguard_keeps_norms_on_both_edges() -> None:
    assert (signguard(line(1, 10, 10, 10, 30), 2) > 0).all()
    assert (signguard(line(0.99, 10, 10, 10, 30.1), 2) > 0).tolist() == [False, True, True, True, False]


@pytest.mark.trap("signguard")
def test_signguard_tells_zero_from_positive_and_negative() -> None:
    rows = np.array([[1.0, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1], [2, 0, 0, 0], [-1, -1, -1, -1]])
    assert (signguard(rows, 2) > 0).tolist() == [True, True, True, False, False]


@pytest.mark.trap("signguard")
def test_signguard_of_nobody_is_zero() -> None:
    rows = line(1, 1, 1, -1, -1) * np.array([[100.0], [0.001], [0.001], [1], [1]])  # moderate: the negative ones alone
    for form in BOTH_FORMS:
        assert step_of(rows, "signguard(share=1.0)", 2, form).tolist() == [0.0]


@pytest.mark.parametrize(("rule", "reason"), [("signguard", "sign"), ("norm_clipping", "norm")])
def test_rule_without_an_amplified_form_says_why(rule: str, reason: str) -> None:
    with pytest.raises(Inapplicable, match=f"{rule} judges no view but the updates themselves: .*{reason}"):
        step_of(np.ones((3, 4)), f"amp+{rule}", 1, layout=[(2, 2)])


# ---------------------------------------------------------------- fang, leaving one out


def left_out(rule: str, losses: Sequence[float], accuracies: Sequence[float], f: int) -> list[int]:
    lrr, err = slow.left_out_lrr(losses, f), slow.left_out_err(losses, accuracies, f)
    return {"fang_lrr": lrr, "fang_err": err, "fang": sorted(set(lrr) & set(err))}[rule]


@pytest.mark.trap("fang")
@pytest.mark.parametrize("rule", LEFT_OUT)
@given(either_form(), FORMS, st.data())
def test_fang_measures_the_mean_of_all_others(rule: str, drawn: Drawn, form: Form, data: st.DataObject) -> None:
    n, measured = len(drawn.rows), data.draw(evaluations(len(drawn.rows)))
    step = drawn.step(LEFT_OUT[rule], form, evaluate=measured)
    kept = left_out(rule, measured.losses, measured.accuracies, drawn.f)
    assert_step(step, oracles.shares(kept, n), drawn.rows, form)
    assert measured.applied is not None
    # A sum of n rows, less one, over n - 1: each addition rounds relative to what was added.
    room = 2 * EPS[form[1]] * np.abs(drawn.restored).sum(axis=0)
    assert (np.abs(measured.applied - slow.without_each(drawn.restored)) <= room).all()


def towards_one(rows: Tensor) -> tuple[Tensor, Tensor]:
    """The loss is least, and the accuracy largest, where the first entry is 1."""
    return (rows[:, 0] - 1) ** 2, -((rows[:, 0] - 1) ** 2)


@pytest.mark.trap("fang")
def test_fang_left_out_keeps_whose_absence_hurts_and_not_whose_absence_helps() -> None:
    rows = line(1, 0.9, 1.1, 1, -50)
    for spec in LEFT_OUT.values():
        assert chosen_by(rows, spec, 1, evaluate=towards_one) == [0, 1, 2, 3]


@pytest.mark.trap("fang")
def test_fang_left_out_is_not_fang_alone() -> None:
    """Alone, -1 has the largest loss; without one of the three ones the mean of the others is best."""
    rows = line(-1, 1, 1, 1, 2.5)
    for rule, spec in LEFT_OUT.items():
        assert chosen_by(rows, rule, 1, evaluate=towards_one) == [1, 2, 3, 4]
        assert chosen_by(rows, f"{rule}(impact='alone')", 1, evaluate=towards_one) == [1, 2, 3, 4]
        assert chosen_by(rows, spec, 1, evaluate=towards_one) == [0, 1, 2, 4]


@pytest.mark.trap("fang")
def test_fang_left_out_breaks_ties_of_accuracy_by_the_higher_loss_and_then_by_row() -> None:
    rows, by_loss = np.eye(5), Evaluation([0.5, 0.4, 0.3, 0.2, 0.1], [0.5] * 5)
    assert chosen_by(rows, LEFT_OUT["fang_err"], 2, evaluate=by_loss) == [0, 1, 2]
    by_loss = Evaluation([0.1, 0.2, 0.3, 0.4, 0.5], [0.5] * 5)
    assert chosen_by(rows, LEFT_OUT["fang_err"], 2, evaluate=by_loss) == [2, 3, 4]
    for spec in LEFT_OUT.values():
        assert chosen_by(rows, spec, 2, evaluate=Evaluation([0.5] * 5, [0.5] * 5)) == [0, 1, 2]


@pytest.mark.trap("fang")
def test_fang_left_out_drops_the_update_without_whom_the_loss_is_a_number() -> None:
    measured = Evaluation([0.5, float("nan"), float("nan"), float("nan"), float("nan")], [0.5] * 5)
    for spec in LEFT_OUT.values():
        assert chosen_by(np.eye(5), spec, 1, evaluate=measured) == [1, 2, 3, 4]


@pytest.mark.trap("fang")
def test_fang_of_one_update_keeps_it_and_measures_nothing_that_is_not_finite() -> None:
    for spec in LEFT_OUT.values():
        measured = Evaluation([0.5], [0.5])
        assert step_of(line(3), spec, evaluate=measured).tolist() == [3.0]
        assert measured.applied is None or np.isfinite(measured.applied).all()


# ---------------------------------------------------------------- what every one of these rules is


def bare(spec: str) -> str:
    return spec.partition("(")[0]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("n", range(1, 13))
def test_rule_works_up_to_the_largest_legal_bound_and_not_one_further(rule: str, n: int) -> None:
    rows = np.random.default_rng(n).normal(size=(n, 3))
    largest = (n - 1) // 2
    assert np.isfinite(step_of(rows, rule, largest, evaluate=by_size)).all()
    for function in (agrbench.aggregate, agrbench.weigh):
        with pytest.raises(Inapplicable, match=rf"{bare(rule)}\b.* requires .*n={n}, f={largest + 1}"):
            call(function, rows, rule, largest + 1, evaluate=by_size)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("form", BOTH_FORMS)
@pytest.mark.parametrize("n", [1, 2, 5, 6])
def test_equal_rows_are_what_they_agree_on(rule: str, form: Form, n: int) -> None:
    row = np.array([3.0, -1.0, 0.0, 2.0])
    step = step_of(np.tile(row, (n, 1)), rule, (n - 1) // 2, form, evaluate=by_size)
    assert step == pytest.approx(row, rel=1e-6)  # shares such as a fifth, in either format
    assert (step_of(np.zeros((n, 4)), rule, (n - 1) // 2, form, evaluate=by_size) == 0).all()


BOUNDING = ["meamed", "norm_clipping", "lasa", "signguard", LEFT_OUT["fang"], "clip+fedavg", "arc+fedavg"]
BOUNDING += ["amp+meamed", "amp+lasa", f"amp+{LEFT_OUT['fang']}", "clip+amp+meamed"]


@pytest.mark.parametrize("spec", BOUNDING)
def test_no_rule_silently_does_nothing(spec: str) -> None:
    """One of nine rows is far off in the other direction: clipped, it takes two ninths of the step away."""
    rows = 1 + np.random.default_rng(0).uniform(-0.1, 0.1, size=(9, 4))
    rows[4] = -1000
    worse = lambda applied: ((applied - 1).square().sum(1), -(applied - 1).square().sum(1))  # noqa: E731
    assert (np.abs(step_of(rows, spec, 1, layout=[(2, 2)], evaluate=worse) - 1) < 0.4).all()
    assert (np.abs(step_of(rows, "fedavg", 1) - 1) > 100).all()


@pytest.mark.parametrize("rule", ["meamed", "rlr", "lasa", *LEFT_OUT.values()])
@given(st.data(), FORMS)
@settings(max_examples=20)
def test_amplifier_of_kernel_one_changes_nothing_on_linear_layers(rule: str, data: st.DataObject, form: Form) -> None:
    shapes = data.draw(oracles.layouts(linear=True))
    width = oracles.parameters(shapes)
    rows = data.draw(oracles.updates((1, 12), (width, width)))
    more: dict[str, Any] = {"layout": shapes, "evaluate": by_size}
    # The view has the same values in the same order, so even the rounding is the same.
    assert (step_of(rows, f"amp(kernel=1)+{rule}", 0, form, **more) == step_of(rows, rule, 0, form, **more)).all()


STACKS = [*RULES, "amp+meamed", "amp+rlr", "amp+lasa", f"amp+{LEFT_OUT['fang']}"]
STACKS += [f"{left}{stage}+{right}" for stage in STAGES for left, right in (("", "fedavg"), ("", "amp+median"))]
STACKS += [f"amp+{stage}+cosden" for stage in STAGES] + ["clip(radius=0.5)+fedavg"]


@pytest.mark.parametrize("spec", STACKS)
@pytest.mark.parametrize("form", [*itertools.product(["torch", "numpy"], ["float32", "float64"])])
def test_callers_updates_stay_as_they_are(spec: str, form: Form) -> None:
    rows = as_given(np.random.default_rng(1).normal(size=(7, 6)), form)
    before = np.asarray(rows).tobytes()
    for function in (agrbench.aggregate, agrbench.weigh):
        function(rows, spec, 1, [(2, 3)], evaluate=by_size)
        assert np.asarray(rows).tobytes() == before


@pytest.mark.parametrize("spec", STACKS)
def test_step_is_the_same_in_single_precision(spec: str) -> None:
    rows = np.random.default_rng(5).normal(size=(7, 6)).astype(np.float32).astype(np.float64)
    more: dict[str, Any] = {"layout": [(2, 3)], "evaluate": by_size}
    single = step_of(rows, spec, 1, ("torch", "float32"), **more)
    # Nothing here is near a tie; what is left are a few roundings of numbers about 1.
    assert single == pytest.approx(step_of(rows, spec, 1, **more), abs=1e-5)


# ---------------------------------------------------------------- row stages: what the next part sees


@cache
def registry() -> Registry:
    return Registry()


def seen_behind(
    stages: Sequence[str], rows: Array, f: int, shapes: Shapes, dtype: str = "float64", seed: int = 0, number: int = 1
) -> Round:
    """Lead the rows through stages, and give what a rule behind them sees."""
    seen: list[Round] = []

    def watch(round: Round) -> Tensor:
        seen.append(round)
        return torch.ones(len(round.view), dtype=torch.bool)

    stack = registry().stack("+".join([*stages, "krum"]))
    stack = replace(stack, defense=Loaded("watch", Path("watch"), Defense(watch)))
    court = Judge(stack, Layout.read(shapes, rows.shape[1]), partial(generator, seed))
    court.step(torch.from_numpy(rows.astype(dtype)), f, Server(), number)
    return seen[0]


def bucketed(n: int, size: int = 2, seed: int = 0, place: int = 0, number: int = 1) -> Array:
    """The shares that bucketing gives at a place of a stack; unit rows behind clips are left as they are."""
    stages = [*["clip"] * place, f"bucketing(size={size})"]
    return np.asarray(seen_behind(stages, np.eye(n), 0, [(1, n)], seed=seed, number=number).updates)


def by_hand(stages: Sequence[str], rows: Array, f: int, shapes: Shapes, seed: int = 0) -> tuple[Array, Array, Array]:
    """Apply stages one after the other: the view, the mixed updates and the whole mixing matrix."""
    view, updates, mixing = rows, rows, np.eye(len(rows))
    for place, stage in enumerate(stages):
        if stage == "amp":
            view = oracles.pooled_rows(view, shapes, 2)
            continue
        if stage.startswith("bucketing"):
            mix = bucketed(len(view), 3 if "3" in stage else 2, seed, place)
        elif stage == "nnm":
            mix = oracles.nnm(view, f)
        else:
            mix = slow.arc(updates, f) if stage == "arc" else slow.clip(updates)
        view, updates, mixing = mix @ view, mix @ updates, mix @ mixing
    return view, updates, mixing


CHAINS = [
    *itertools.chain.from_iterable(([stage], ["amp", stage], [stage, "amp"]) for stage in STAGES),
    ["bucketing", "clip"],
    ["clip", "bucketing"],
    ["arc", "bucketing(size=3)"],
    ["amp", "clip", "bucketing"],
    ["clip", "nnm"],
    ["nnm", "clip"],
    ["arc", "amp", "nnm"],
    ["clip", "arc"],
]


@pytest.mark.parametrize("chain", CHAINS, ids="+".join)
@given(st.data(), st.sampled_from(["float32", "float64"]))
@settings(max_examples=20)
def test_rule_behind_row_stages_sees_their_mixed_rows_and_the_geometry_of_those(
    chain: list[str], data: st.DataObject, dtype: str
) -> None:
    shapes = data.draw(oracles.layouts(), label="layout")
    width = oracles.parameters(shapes)
    # Neighbours that tie may be either, so that rows only repeat or vanish where none are sought.
    rows = data.draw(oracles.updates((5, 9), (width, width), ties="nnm" not in chain), label="rows")
    f = data.draw(st.integers(0, 1), label="f")
    seen = seen_behind(chain, rows, f, shapes, dtype)
    view, updates, mixing = by_hand(chain, rows, f, shapes)
    eps = EPS[dtype]
    assert (len(seen.view), seen.byzantine) == (len(mixing), f)
    assert seen.clients == (tuple(range(len(rows))) if len(mixing) == len(rows) else None)
    # Shares, and each product and sum of at most nine of them, round; a share of clipping is a quotient of norms.
    room = 64 * eps * (np.abs(mixing) @ np.abs(rows))
    assert (np.abs(np.asarray(seen.updates) - updates) <= room).all()
    largest = (np.abs(mixing) @ np.abs(rows).max(axis=1))[:, None]
    assert (np.abs(np.asarray(seen.view) - view) <= 64 * eps * largest).all()
    assert (np.abs(np.asarray(seen.norms) - slow.norms(updates)) <= np.linalg.norm(room, axis=1)).all()
    # Four digits of every distance are promised in float32: of the size of what was mixed, as it may cancel.
    unmixed = oracles.pooled_rows(rows, shapes, 2) if "amp" in chain else rows
    reach = np.array([max(a, b) for a, b in zip(mixing @ slow.norms(unmixed), slow.norms(view), strict=True)])
    away = np.abs(np.asarray(seen.geometry.distances) - slow.squared(view))
    assert (away <= SLACK[dtype] * (reach[:, None] ** 2 + reach**2)).all()
    lengths = np.array(slow.norms(view))
    off = np.abs(np.asarray(seen.geometry.cosines) - oracles.cosines(view)) * lengths[:, None] * lengths
    assert (off <= SLACK[dtype] * reach[:, None] * reach).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_that_clipping_makes_equal_are_at_no_distance(dtype: str) -> None:
    """A thousandfold copy comes to lie on the row: from the distances before clipping that could not be seen."""
    rows = np.array([[3.0, 4.0], [3000.0, 4000.0], [-4.0, 3.0], [4.0, 3.0], [0.0, 0.0]])
    seen = seen_behind(["clip"], rows, 2, [(1, 2)], dtype).geometry
    clipped = slow.clip(rows) @ rows
    # The clipped copy is right to a rounding of numbers about 5, and a distance to the square of that.
    assert float(seen.distances[0, 1]) <= (8 * EPS[dtype] * 5) ** 2
    # Squares of numbers about 5, right to a few roundings.
    assert np.asarray(seen.distances) == pytest.approx(slow.squared(clipped), rel=1e-5, abs=1e-10)
    assert np.asarray(seen.cosines) == pytest.approx(oracles.cosines(clipped), abs=1e-5)


@pytest.mark.parametrize("stage", ["clip", "arc"])
def test_rows_clipped_to_nothing_point_nowhere(stage: str) -> None:
    rows = np.array([[1.0, 2.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    seen = seen_behind([stage], rows, 1, [(1, 2)])
    assert not seen.view.any()
    assert not seen.geometry.distances.any()
    assert torch.equal(seen.geometry.cosines, torch.eye(5, dtype=torch.float64))


# ---------------------------------------------------------------- row stages: in front of rules


def left_by(stage: str, n: int) -> int:
    return -(-n // (3 if "3" in stage else 2)) if stage.startswith("bucketing") else n


@pytest.mark.oracle(*STAGES)
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("rule", ["fedavg", "median", "krum", "cosden"])
@given(st.data())
@settings(max_examples=30)
def test_row_stage_in_front_of_a_rule_and_of_an_amplified_one(stage: str, rule: str, data: st.DataObject) -> None:
    chain = data.draw(st.sampled_from([[stage], ["amp", stage], [stage, "amp"]][: 1 if rule == "fedavg" else 3]))
    shapes = data.draw(oracles.layouts(), label="layout")
    width = oracles.parameters(shapes)
    rows = data.draw(oracles.updates((7, 10), (width, width), ties=False), label="rows")
    f = data.draw(st.integers(0, LARGEST_BOUND.get(rule, LARGEST_BOUND["median"])(left_by(stage, len(rows)))))
    spec = "+".join([*chain, rule])
    view, _, mixing = by_hand(chain, rows, f, shapes)
    if rule == "fedavg":
        weights = oracles.fedavg(view)
    elif rule == "median":
        ordered = np.sort(view, axis=0)
        # Whose weight the middle one is must be clear.
        assume((np.diff(ordered, axis=0) > 1e-9 * np.abs(ordered).max(axis=0)).all())
        weights = oracles.median_weights(view)
    else:
        kept = chosen_by(rows, spec, f, layout=shapes)
        count = oracles.most(len(view))
        scores = {"krum": lambda: oracles.krum_scores(view, f), "cosden": lambda: oracles.cosden_scores(view, count)}
        found = np.array(scores[rule]()) * (1 if rule == "krum" else -1)
        # What a distance or a cosine may be off by; distances as a share of the longest row.
        reach = max(slow.norms(view)) ** 2 * len(view) if rule == "krum" else count
        assert_lowest(kept, found.tolist(), 1 if rule == "krum" else len(view) - f, 4 * reach * SLACK["float64"])
        weights = oracles.shares(kept, len(view))
    wide = mixing.T @ (weights if weights.ndim == 2 else weights[:, None])
    if weights.ndim == 2 and "amp" in chain:
        wide = oracles.spread(wide, shapes, 2)
    step = step_of(rows, spec, f, layout=shapes)
    # At most ten products of products, each right to a few units of 1e-16.
    assert (np.abs(step - (wide * rows).sum(axis=0)) <= 1e-13 * (np.abs(wide) * np.abs(rows)).sum(axis=0)).all()


@given(oracles.updates((1, 9)), FORMS)
def test_mean_behind_clip_is_norm_clipping(rows: Array, form: Form) -> None:
    # The same shares of the same rows, multiplied in another order.
    expected = step_of(rows, "norm_clipping", 0, form)
    room = 64 * EPS[form[1]] * (slow.norm_clipping(rows) @ np.abs(rows))
    assert (np.abs(step_of(rows, "clip+fedavg", 0, form) - expected) <= room).all()


@pytest.mark.parametrize("stage", ["clip", "arc", "clip(radius=0.5)"])
@pytest.mark.parametrize("rule", ["median", "krum", "cosden", "meamed", "lasa"])
def test_clipping_before_and_after_the_amplifier_is_the_same(stage: str, rule: str) -> None:
    """Shrinking a row shrinks its largest entries alike, and norms are those of the originals either way."""
    for seed in range(4):
        rows = np.random.default_rng(seed).normal(size=(9, 12)) * np.linspace(1, 20, 9)[:, None]
        first, second = (step_of(rows, s, 2, layout=[(4, 3)]) for s in (f"amp+{stage}+{rule}", f"{stage}+amp+{rule}"))
        assert first == pytest.approx(second, rel=1e-9, abs=1e-12)  # the same numbers, multiplied in another order


# ---------------------------------------------------------------- bucketing


@pytest.mark.oracle("bucketing")
@pytest.mark.parametrize("size", [1, 2, 3, 5, 12])
@pytest.mark.parametrize("n", range(1, 12))
def test_bucketing_averages_buckets_of_its_size_and_one_of_the_rest(n: int, size: int) -> None:
    members = slow.buckets(bucketed(n, size, seed=n), size)
    assert len(members) == -(-n // size)
    rows = np.random.default_rng(n).normal(size=(n, 3))
    means = np.array([rows[bucket].mean(axis=0) for bucket in members])
    step = agrbench.aggregate(rows, f"bucketing(size={size})+fedavg", 0, seed=n)
    assert step == pytest.approx(means.mean(axis=0), rel=1e-9, abs=1e-12)  # sums of a few numbers about 1


@pytest.mark.trap("bucketing")
def test_bucketing_is_random_from_seed_to_seed_and_from_round_to_round() -> None:
    of_seeds = [slow.buckets(bucketed(4, seed=seed), 2) for seed in range(40)]
    assert {str(members) for members in of_seeds} == {"[[0, 1], [2, 3]]", "[[0, 2], [1, 3]]", "[[0, 3], [1, 2]]"}
    of_rounds = [slow.buckets(bucketed(4, number=number), 2) for number in range(1, 21)]
    assert len({str(members) for members in of_rounds}) > 1
    alone = {next(bucket[0] for bucket in slow.buckets(bucketed(5, seed=s), 2) if len(bucket) == 1) for s in range(40)}
    assert alone == {0, 1, 2, 3, 4}
    assert (bucketed(9, seed=7) == bucketed(9, seed=7)).all()


@pytest.mark.parametrize("rule", ["fedavg", "krum", "median", "cosden", "amp+krum", "amp+median"])
def test_buckets_of_one_change_nothing(rule: str) -> None:
    rows = np.random.default_rng(3).normal(size=(7, 6))
    assert (bucketed(7, 1) == np.eye(7)).all()
    step = step_of(rows, f"bucketing(size=1)+{rule}", 2, layout=[(2, 3)])
    assert step == pytest.approx(step_of(rows, rule, 2, layout=[(2, 3)]), rel=1e-12)  # times 1, summed another way


@pytest.mark.parametrize(
    ("spec", "n", "f", "enough", "reason"),
    [
        ("bucketing+bulyan", 20, 4, 38, r"bulyan\b.*n=10, f=4"),
        ("bucketing+krum", 20, 4, 22, r"krum\b.*n=10, f=4"),
        ("bucketing(size=3)+median", 9, 2, 15, r"median\b.*n=3, f=2"),
        ("bucketing+arc+fedavg", 7, 2, 9, r"arc\b.*n=4, f=2"),
        ("bucketing+amp+cosden", 8, 2, 9, r"cosden\b.*n=4, f=2"),
        ("arc+fedavg", 4, 2, 5, r"arc\b.*n=4, f=2"),
    ],
)
def test_bound_stays_while_buckets_are_fewer_and_what_that_makes_undefined_is_skipped(
    spec: str, n: int, f: int, enough: int, reason: str
) -> None:
    for function in (agrbench.aggregate, agrbench.weigh):
        with pytest.raises(Inapplicable, match=reason):
            call(function, np.random.default_rng(0).normal(size=(n, 6)), spec, f, layout=[(2, 3)])
    rows = np.random.default_rng(0).normal(size=(enough, 6))
    assert np.isfinite(step_of(rows, spec, f, layout=[(2, 3)])).all()
    with pytest.raises(Inapplicable):
        step_of(rows[:-2] if spec.startswith("bucketing+") else rows[:-3], spec, f, layout=[(2, 3)])


@pytest.mark.parametrize("rule", ["foolsgold", "fldetector"])
@pytest.mark.parametrize("prefix", ["bucketing+", "bucketing(size=3)+", "amp+bucketing+", "bucketing+clip+"])
def test_rule_that_knows_clients_by_their_rows_is_skipped_behind_bucketing(rule: str, prefix: str) -> None:
    rows = np.random.default_rng(0).normal(size=(9, 6))
    for function in (agrbench.aggregate, agrbench.weigh):
        with pytest.raises(Inapplicable, match=f"(?s){rule}.*bucketing|bucketing.*{rule}"):
            call(function, rows, prefix + rule, 1, layout=[(2, 3)])
    with pytest.raises(Inapplicable):
        Registry().stack(prefix + rule).check(9, 1)


@pytest.mark.parametrize("spec", ["bucketing(size=0)", "bucketing(size=-1)", "clip(radius=0.0)", "clip(radius=-2.0)"])
def test_size_or_radius_that_means_nothing_is_refused_and_not_as_a_broken_plugin(spec: str) -> None:
    with pytest.raises(AgrbenchError, match=r"size|radius") as caught:
        step_of(np.ones((4, 2)), f"{spec}+fedavg")
    assert not isinstance(caught.value, PluginError)


# ---------------------------------------------------------------- clip and arc


@pytest.mark.oracle("clip")
@given(st.data(), FORMS, st.integers(-3, 3))
def test_clip_shrinks_to_the_radius_and_leaves_shorter_rows(data: st.DataObject, form: Form, exponent: int) -> None:
    rows = data.draw(oracles.updates(), label="rows")
    radius = (oracles.norm(rows[0]) or 1.0) * 2.0**exponent
    mixing = slow.clip(rows, radius)
    step = step_of(rows, f"clip(radius={radius!r})+fedavg", 0, form)
    assert_step(step, mixing.diagonal() / len(rows), rows, form)


@pytest.mark.oracle("arc")
@given(st.data(), FORMS)
def test_arc_clips_the_largest_norms_to_the_next(data: st.DataObject, form: Form) -> None:
    rows = data.draw(oracles.updates(), label="rows")
    f = draw_bound(data, len(rows))
    step = step_of(rows, "arc+fedavg", f, form)
    assert_step(step, slow.arc(rows, f).diagonal() / len(rows), rows, form)


@pytest.mark.trap("clip")
def test_clip_takes_a_whole_number_for_a_radius() -> None:
    assert step_of(line(1, -6, 4), "clip(radius=4)+fedavg") == pytest.approx([1 / 3], rel=1e-12)  # a third rounds


@pytest.mark.trap("arc")
def test_arc_clips_to_the_largest_norm_that_it_leaves_and_rounds_their_number_down() -> None:
    rows = line(1, -2, 3, -4, 5)  # 2 f (n - f) / n is 1.6 for f = 1 and 2.4 for f = 2
    expected = {0: [1, -2, 3, -4, 5], 1: [1, -2, 3, -4, 4], 2: [1, -2, 3, -3, 3]}
    for f, clipped in expected.items():
        updates = np.asarray(seen_behind(["arc"], rows, f, [(1, 1)]).updates)[:, 0]
        assert updates == pytest.approx(clipped, rel=1e-12)  # quotients


@pytest.mark.trap("arc")
@pytest.mark.parametrize(("n", "f", "count"), [(20, 4, 6), (50, 15, 21), (8, 2, 3), (4, 1, 1), (12, 3, 4), (3, 1, 1)])
def test_arc_clips_as_many_rows_as_its_paper(n: int, f: int, count: int) -> None:
    rows = 1.0 + np.random.default_rng(n).permutation(n).astype(np.float64)[:, None]
    updates = np.asarray(seen_behind(["arc"], rows, f, [(1, 1)]).updates)
    # Quotients; everybody above the next largest norm comes to it.
    assert updates == pytest.approx(np.minimum(rows, n - count), rel=1e-12)
    assert (updates < rows - 0.5).sum() == count


@pytest.mark.trap("clip")
def test_clip_reads_the_norms_of_the_originals_and_not_of_the_view() -> None:
    rows = np.array([[1.0, -30.0], [2.0, 0.0], [3.0, 0.0]])  # norms 30, 2, 3; in the view 1, 2, 3
    seen = seen_behind(["amp", "clip"], rows, 1, [(2,)])
    # Quotients of norms.
    assert np.asarray(seen.view)[:, 0] == pytest.approx([3 / np.hypot(1, 30), 2.0, 3.0], rel=1e-12)


@pytest.mark.trap("clip")
def test_clip_of_evenly_many_rows_is_to_the_mean_of_the_two_middle_norms() -> None:
    updates = np.asarray(seen_behind(["clip"], line(1, 2, 4, 8), 1, [(1, 1)]).updates)[:, 0]
    assert updates.tolist() == [1.0, 2.0, 3.0, 3.0]
