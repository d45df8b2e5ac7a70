"""Each shipped rule against its oracle, in base and amplified form, and the mistakes that are often published."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

import agrbench
from agrbench.errors import AgrbenchError, Inapplicable
from tests.helpers import oracles
from tests.helpers.judging import (
    LARGEST_BOUND,
    SLACK,
    ULPS,
    Evaluation,
    assert_lowest,
    assert_step,
    call,
    chosen_by,
    draw_layered,
    evaluations,
    step_of,
)
from tests.helpers.oracles import Array
from tests.helpers.updates import FORMS, by_size, line, rays


def densest_by_cosine(
    view: Array, f: int, form: tuple[str, str], neighbours: int | None = None
) -> tuple[list[float], float]:
    """Give scores of which the lowest are kept, and how far each may be off: every cosine by the slack."""
    count = neighbours or oracles.most(len(view))
    return [-score for score in oracles.cosden_scores(view, count)], 2 * count * SLACK[form[1]]


def densest_by_distance(
    view: Array, f: int, form: tuple[str, str], neighbours: int | None = None
) -> tuple[list[float], float]:
    """As for cosines, but distances are off by a share of themselves."""
    scores = oracles.euden_scores(view, neighbours or oracles.most(len(view)))
    return scores, 2 * max(scores) * SLACK[form[1]]


def closest(view: Array, f: int, form: tuple[str, str]) -> tuple[list[float], float]:
    scores = oracles.krum_scores(view, f)
    return scores, 2 * max(scores) * SLACK[form[1]]


CHOOSING: dict[str, Callable[[Array, int, tuple[str, str]], tuple[list[float], float]]] = {
    "krum": closest,
    "cosden": densest_by_cosine,
    "euden": densest_by_distance,
}


def kept_count(rule: str, n: int, f: int) -> int:
    return 1 if rule == "krum" else n - f


def draw_bound(data: st.DataObject, rule: str, n: int) -> int:
    return data.draw(st.integers(0, LARGEST_BOUND[rule](n)), label="f")


# ---------------------------------------------------------------- base forms


@pytest.mark.oracle("fedavg")
@given(oracles.updates(), FORMS, st.integers(0, 12))
def test_fedavg_is_the_mean_whatever_the_bound(rows: Array, form: tuple[str, str], f: int) -> None:
    assert_step(step_of(rows, "fedavg", f, form), oracles.fedavg(rows), rows, form)


@pytest.mark.oracle(*CHOOSING)
@pytest.mark.parametrize("rule", CHOOSING)
@given(st.data(), FORMS)
def test_rule_averages_the_originals_that_its_scores_choose(
    rule: str, data: st.DataObject, form: tuple[str, str]
) -> None:
    rows = data.draw(oracles.updates((3, 12)), label="rows")
    f = draw_bound(data, rule, len(rows))
    kept = chosen_by(rows, rule, f, form)
    scores, room = CHOOSING[rule](rows, f, form)
    assert_lowest(kept, scores, kept_count(rule, len(rows), f), room)
    assert_step(step_of(rows, rule, f, form), oracles.shares(kept, len(rows)), rows, form)


@pytest.mark.parametrize("rule", ["cosden", "euden", "mgden"])
def test_density_of_one_or_two_rows_is_their_mean(rule: str) -> None:
    for rows in (np.array([[3.0, -1.0]]), np.array([[3.0, -1.0], [-5.0, 2.0]])):
        # Two rows and f = 0: everybody is kept, and halving is exact.
        assert (step_of(rows, rule) == rows.mean(axis=0)).all()


@pytest.mark.parametrize(("rule", "scores_of"), [("cosden", densest_by_cosine), ("euden", densest_by_distance)])
@given(st.data(), FORMS)
def test_density_counts_as_many_neighbours_as_it_is_told(
    rule: str, scores_of: Callable[..., tuple[list[float], float]], data: st.DataObject, form: tuple[str, str]
) -> None:
    rows = data.draw(oracles.updates((1, 12)), label="rows")
    n = len(rows)
    f = draw_bound(data, rule, n)
    neighbours = data.draw(st.integers(n // 2 + 1, n), label="neighbours")
    scores, room = scores_of(rows, f, form, neighbours)
    assert_lowest(chosen_by(rows, f"{rule}(neighbours={neighbours})", f, form), scores, n - f, room)


def assert_intersection(kept: Sequence[int], view: Array, f: int, form: tuple[str, str]) -> None:
    """Check that every row that is clearly on both lists is kept, and none that is clearly off either."""
    n = len(view)
    sure, possible = set(range(n)), set(range(n))
    for scores, room in (densest_by_cosine(view, f, form), densest_by_distance(view, f, form)):
        edge, beyond = sorted(scores)[n - f - 1], [*sorted(scores), np.inf][n - f]
        sure &= {i for i in range(n) if scores[i] < beyond - room}
        possible &= {i for i in range(n) if scores[i] <= edge + room}
    assert sure <= set(kept) <= possible
    assert kept


@pytest.mark.oracle("mgden")
@given(st.data(), FORMS)
def test_mgden_keeps_what_both_lists_keep_and_somebody_always(data: st.DataObject, form: tuple[str, str]) -> None:
    rows = data.draw(oracles.updates(), label="rows")
    f = draw_bound(data, "mgden", len(rows))
    kept = chosen_by(rows, "mgden", f, form)
    assert_intersection(kept, rows, f, form)
    assert_step(step_of(rows, "mgden", f, form), oracles.shares(kept, len(rows)), rows, form)


@pytest.mark.trap("mgden")
@given(oracles.updates(ties=False), st.integers(0, 5))
def test_mgden_is_the_mean_over_both_oracles(rows: Array, f: int) -> None:
    assume(2 * f < len(rows))
    for scores, room in (densest_by_cosine(rows, f, ("", "float64")), densest_by_distance(rows, f, ("", "float64"))):
        ordered = sorted(scores)
        assume(f == 0 or ordered[len(rows) - f] - ordered[len(rows) - f - 1] > room)  # no tie at the edge of a list
    assert_step(step_of(rows, "mgden", f), oracles.mgden(rows, f), rows, ("", "float64"))


@pytest.mark.oracle("median")
@given(oracles.updates(), FORMS)
def test_median_is_the_middle_of_every_coordinate(rows: Array, form: tuple[str, str]) -> None:
    # The half of each of the two middle values, added: one rounding.
    room = np.finfo(form[1]).eps * np.abs(rows).max(axis=0)
    assert (np.abs(step_of(rows, "median", 0, form) - oracles.median(rows)) <= room).all()


@pytest.mark.peer("median", of="torch.median")
@given(oracles.updates(), FORMS)
def test_lower_median_is_the_middle_of_every_coordinate_or_the_lower_of_two(rows: Array, form: tuple[str, str]) -> None:
    step = step_of(rows, "median(even='lower')", 0, form)
    assert (step == oracles.lower_median(rows)).all()
    assert (step == torch.from_numpy(rows).median(dim=0).values.numpy()).all()


@pytest.mark.trap("median")
@given(st.data(), FORMS)
def test_median_does_not_depend_on_the_bound(data: st.DataObject, form: tuple[str, str]) -> None:
    rows = data.draw(oracles.updates(), label="rows")
    f = draw_bound(data, "median", len(rows))
    assert (step_of(rows, "median", f, form) == step_of(rows, "median", 0, form)).all()


@pytest.mark.oracle("trimmed_mean")
@given(st.data(), FORMS)
def test_trimmed_mean_is_the_mean_of_the_middle_of_every_coordinate(data: st.DataObject, form: tuple[str, str]) -> None:
    rows = data.draw(oracles.updates(), label="rows")
    f = draw_bound(data, "trimmed_mean", len(rows))
    # See ULPS: relative to the values that are averaged, which the dropped ones do not touch.
    room = ULPS * np.finfo(form[1]).eps * oracles.trimmed_mean(np.sort(np.abs(rows), axis=0)[f:], 0)
    ours, theirs = step_of(rows, "trimmed_mean", f, form), oracles.trimmed_mean(rows, f)
    assert (np.abs(ours - theirs) <= np.maximum(room, ULPS * np.finfo(form[1]).eps * np.abs(theirs))).all()


@pytest.mark.oracle("fltrust")
@given(oracles.updates(), FORMS, st.integers(0, 2**32 - 1), st.integers(-20, 20), st.integers(0, 12))
def test_fltrust_weighs_by_the_cosine_to_the_root_at_its_norm(
    rows: Array, form: tuple[str, str], seed: int, exponent: int, f: int
) -> None:
    noise = np.random.default_rng(seed).normal(size=rows.shape[1]) * np.abs(rows).max()
    root = ((rows[0] + noise) * 2.0**exponent).astype(np.float32).astype(np.float64)
    trust = [max(oracles.cosine(row, root), 0.0) for row in rows]
    # All scores zero, or all of them rounding noise, is the one place where no rounded computation agrees with another.
    assume(max(trust) == 0 or max(trust) > 1e-6)
    assert_step(step_of(rows, "fltrust", f, form, root=root), oracles.fltrust(rows, root), rows, form)


def fang_weights(rule: str, losses: Sequence[float], accuracies: Sequence[float], f: int) -> Array:
    if rule == "fang_lrr":
        return oracles.fang_lrr(losses, f)
    return (oracles.fang if rule == "fang" else oracles.fang_err)(losses, accuracies, f)


@pytest.mark.oracle("fang", "fang_lrr", "fang_err")
@pytest.mark.parametrize("rule", ["fang", "fang_lrr", "fang_err"])
@given(st.data(), FORMS)
def test_fang_keeps_by_loss_and_accuracy_of_each_update_alone(
    rule: str, data: st.DataObject, form: tuple[str, str]
) -> None:
    rows = data.draw(oracles.updates(), label="rows")
    f = draw_bound(data, rule, len(rows))
    measured = data.draw(evaluations(len(rows)))
    step = step_of(rows, rule, f, form, evaluate=measured)
    assert_step(step, fang_weights(rule, measured.losses, measured.accuracies, f), rows, form)
    assert measured.applied is not None
    assert (measured.applied == rows).all()


# ---------------------------------------------------------------- amplified forms


@pytest.mark.parametrize("rule", CHOOSING)
@given(st.data(), FORMS)
def test_amplified_rule_judges_pooled_updates_and_averages_originals(
    rule: str, data: st.DataObject, form: tuple[str, str]
) -> None:
    rows, shapes, kernel = draw_layered(data, least=3)
    f = draw_bound(data, rule, len(rows))
    spec = f"amp(kernel={kernel})+{rule}"
    kept = chosen_by(rows, spec, f, form, layout=shapes)
    scores, room = CHOOSING[rule](oracles.pooled_rows(rows, shapes, kernel), f, form)
    assert_lowest(kept, scores, kept_count(rule, len(rows), f), room)
    assert_step(step_of(rows, spec, f, form, layout=shapes), oracles.shares(kept, len(rows)), rows, form)


@pytest.mark.trap("mgden")
@given(st.data(), FORMS)
def test_amplified_mgden_intersects_lists_made_of_pooled_updates(data: st.DataObject, form: tuple[str, str]) -> None:
    rows, shapes, kernel = draw_layered(data)
    f = draw_bound(data, "mgden", len(rows))
    spec = f"amp(kernel={kernel})+mgden"
    kept = chosen_by(rows, spec, f, form, layout=shapes)
    assert_intersection(kept, oracles.pooled_rows(rows, shapes, kernel), f, form)
    assert_step(step_of(rows, spec, f, form, layout=shapes), oracles.shares(kept, len(rows)), rows, form)


@pytest.mark.parametrize("rule", ["trimmed_mean", "median"])
@given(st.data(), FORMS)
def test_amplified_coordinate_rule_spreads_a_patchs_weights_over_its_coordinates(
    rule: str, data: st.DataObject, form: tuple[str, str]
) -> None:
    rows, shapes, kernel = draw_layered(data)
    f = draw_bound(data, rule, len(rows))
    view = oracles.pooled_rows(rows, shapes, kernel)
    weights = oracles.median_weights(view) if rule == "median" else oracles.trimmed_weights(view, f)
    step = step_of(rows, f"amp(kernel={kernel})+{rule}", f, form, layout=shapes)
    assert_step(step, oracles.spread(weights, shapes, kernel), rows, form)


@pytest.mark.trap("fltrust")
@given(st.data(), FORMS, st.integers(0, 2**32 - 1))
def test_amplified_fltrust_sees_both_sides_of_the_cosine_pooled(
    data: st.DataObject, form: tuple[str, str], seed: int
) -> None:
    rows, shapes, kernel = draw_layered(data)
    noise = np.random.default_rng(seed).normal(size=rows.shape[1]) * np.abs(rows).max()
    root = (rows[0] + noise).astype(np.float32).astype(np.float64)
    view, seen = oracles.pooled_rows(rows, shapes, kernel), oracles.pooled(root, shapes, kernel)
    trust = [max(oracles.cosine(row, seen), 0.0) for row in view]
    # As in the base form: scores that are rounding noise have no right answer.
    assume(max(trust) == 0 or max(trust) > 1e-6)
    for norm in ("original", "pooled"):
        step = step_of(rows, f"amp(kernel={kernel})+fltrust(norm={norm!r})", 0, form, layout=shapes, root=root)
        assert_step(step, oracles.fltrust(rows, root, view, seen, norm == "pooled"), rows, form)


@pytest.mark.trap("fang")
@pytest.mark.parametrize("rule", ["fang", "fang_lrr", "fang_err"])
@given(st.data(), FORMS)
def test_amplified_fang_applies_restored_updates_and_averages_originals(
    rule: str, data: st.DataObject, form: tuple[str, str]
) -> None:
    rows, shapes, kernel = draw_layered(data)
    f = draw_bound(data, rule, len(rows))
    measured = data.draw(evaluations(len(rows)))
    step = step_of(rows, f"amp(kernel={kernel})+{rule}", f, form, layout=shapes, evaluate=measured)
    assert_step(step, fang_weights(rule, measured.losses, measured.accuracies, f), rows, form)
    assert measured.applied is not None
    assert (measured.applied == oracles.restored_rows(rows, shapes, kernel)).all()


ALL_RULES = ["krum", "cosden", "euden", "mgden", "median", "trimmed_mean", "fltrust", "fang", "fang_lrr", "fang_err"]


@pytest.mark.parametrize("rule", ALL_RULES)
@given(st.data(), FORMS)
def test_amplifier_of_kernel_one_changes_nothing_on_linear_layers(
    rule: str, data: st.DataObject, form: tuple[str, str]
) -> None:
    shapes = data.draw(oracles.layouts(linear=True))
    width = oracles.parameters(shapes)
    rows = data.draw(oracles.updates((3, 12), (width, width)))
    more: dict[str, Any] = {"layout": shapes, "root": rows[0], "evaluate": by_size}
    # The view has the same values in the same order, so even the rounding is the same.
    assert (step_of(rows, f"amp(kernel=1)+{rule}", 0, form, **more) == step_of(rows, rule, 0, form, **more)).all()


@pytest.mark.parametrize("rule", [rule for rule in ALL_RULES if rule != "fltrust"])
@given(st.data())
def test_amplified_values_never_enter_the_step(rule: str, data: st.DataObject) -> None:
    """The views of these rows are 100 everywhere; a step made of originals stays below 1 on the other entries."""
    n = data.draw(st.integers(3, 9))
    small = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1))).uniform(-1, 1, size=(n, 4, 4))
    small[:, ::2, ::2] = 100
    step = step_of(small.reshape(n, 16), f"amp+{rule}", 0, layout=[(4, 4)], evaluate=by_size).reshape(4, 4)
    # 100 is a mean of hundreds, right to rounding; the rest is a mean of numbers between -1 and 1.
    assert step[::2, ::2] == pytest.approx(100, rel=1e-12)
    step[::2, ::2] = 0
    assert (np.abs(step) <= 1).all()


@pytest.mark.trap("krum")
def test_amplified_krum_sends_an_original_row_bit_by_bit() -> None:
    rows = np.random.default_rng(3).normal(size=(7, 12))
    step = step_of(rows, "amp+krum", 2, layout=[(4, 3)])
    assert any((step == row).all() for row in rows)


def test_fedavg_has_no_amplified_form() -> None:
    with pytest.raises(Inapplicable, match="fedavg"):
        step_of(np.ones((3, 4)), "amp+fedavg", layout=[(2, 2)])


# ---------------------------------------------------------------- what each rule is defined for


@pytest.mark.parametrize("rule", LARGEST_BOUND)
@pytest.mark.parametrize("n", range(1, 13))
def test_rule_works_up_to_the_largest_legal_bound_and_not_one_further(rule: str, n: int) -> None:
    rows = np.random.default_rng(n).normal(size=(n, 3))
    largest = LARGEST_BOUND[rule](n)
    if largest >= 0:
        assert np.isfinite(step_of(rows, rule, largest, evaluate=by_size)).all()
    for function in (agrbench.aggregate, agrbench.weigh):
        with pytest.raises(Inapplicable, match=f"{rule} requires .*n={n}, f={largest + 1}"):
            call(function, rows, rule, max(largest, -1) + 1, evaluate=by_size)


@pytest.mark.parametrize("rule", ["fedavg", "fltrust"])
def test_rule_without_a_bound_takes_any(rule: str) -> None:
    rows = np.ones((2, 3))
    # Two equal rows of the root's direction and norm: their mean, to the rounding of a square root.
    assert step_of(rows, rule, 50, root=rows[0]) == pytest.approx(1.0, rel=1e-12)


def test_negative_bound_is_refused() -> None:
    with pytest.raises(AgrbenchError):
        step_of(np.random.default_rng(0).normal(size=(5, 2)), "krum", -1)


@pytest.mark.parametrize("rule", ["cosden", "euden", "mgden"])
@pytest.mark.parametrize("neighbours", [0, 3, 7])
def test_density_refuses_a_neighbourhood_that_is_no_majority_of_the_rows(rule: str, neighbours: int) -> None:
    with pytest.raises(AgrbenchError, match=r"from 4 to 6|and here n=6"):
        step_of(np.ones((6, 2)), f"{rule}(neighbours={neighbours})")


# ---------------------------------------------------------------- ties


@pytest.mark.parametrize("rule", ["krum", "cosden", "euden", "mgden"])
def test_equal_rows_tie_and_the_first_are_kept(rule: str) -> None:
    rows = np.ones((6, 3))
    assert chosen_by(rows, rule, 1) == ([0] if rule == "krum" else [0, 1, 2, 3, 4])


def test_tied_coordinates_rank_by_row() -> None:
    """The pooled values tie, so the median of the view is the second row's; the originals tell the rows apart."""
    rows = np.array([[7.0, 1.0], [7.0, 2.0], [7.0, 3.0]])
    assert list(step_of(rows, "amp+median", layout=[(2,)])) == [7.0, 2.0]
    assert list(step_of(rows[[2, 0, 1]], "amp+median", layout=[(2,)])) == [7.0, 1.0]


# ---------------------------------------------------------------- mistakes seen in published code


@pytest.mark.trap("krum")
def test_krum_uses_n_minus_f_minus_2_neighbours_not_n_minus_f_minus_1() -> None:
    rows = line(0, 1, 2, 4, 5)  # f = 1: two neighbours give 5, 2, 5, 5, 10; three give 21, 11, 9, 14, 26
    assert chosen_by(rows, "krum", 1) == [1]
    with_one_more = [sum(sorted((a - b) ** 2 for b in rows[:, 0])[:4]) for a in rows[:, 0]]
    assert int(np.argmin(with_one_more)) == 2


@pytest.mark.trap("krum")
def test_krum_squares_distances() -> None:
    rows = line(0, 1, 2, 3, 7, 8, 9)  # f = 1, four neighbours: 30 at place 3 squared, 9 at place 2 unsquared
    assert chosen_by(rows, "krum", 1) == [3]
    unsquared = [sum(sorted(abs(a - b) for b in rows[:, 0])[1:5]) for a in rows[:, 0]]
    assert int(np.argmin(unsquared)) == 2


@pytest.mark.trap("krum")
def test_krum_does_not_count_itself() -> None:
    rows = line(0, 1, 2, 4, 5, 7)  # f = 1, three others: 9 at place 2; two others and itself: 2 at place 1
    assert chosen_by(rows, "krum", 1) == [2]
    counting_itself = [sum(sorted((a - b) ** 2 for b in rows[:, 0])[:3]) for a in rows[:, 0]]
    assert int(np.argmin(counting_itself)) == 1


@pytest.mark.trap("krum")
def test_krum_gives_one_update_not_an_average() -> None:
    rows = line(0, 1, 2, 4, 5)
    assert step_of(rows, "krum", 1).tolist() == [1.0]


def test_even_median_averages_the_two_middle_values() -> None:
    rows = line(1, 2, 3, 10)
    assert step_of(rows, "median").tolist() == [2.5]
    assert torch.from_numpy(rows).median().item() == 2.0  # the lower middle


@pytest.mark.trap("trimmed_mean")
def test_trimmed_mean_drops_f_rows_not_a_fraction() -> None:
    rows = line(0, 1, 2, 3, 1000)  # f = 1; a tenth of five rows would be none
    # A mean of three: weights of a third round.
    assert step_of(rows, "trimmed_mean", 1) == pytest.approx(2.0, rel=1e-12)


@pytest.mark.trap("trimmed_mean")
def test_trimmed_mean_drops_f_on_each_side() -> None:
    rows = line(-1000, 0, 1, 5, 1000)
    # A mean of three: weights of a third round. Of one nothing does.
    assert step_of(rows, "trimmed_mean", 1) == pytest.approx(2.0, rel=1e-12)
    assert step_of(rows, "trimmed_mean", 2).tolist() == [1.0]


@pytest.mark.trap("trimmed_mean")
def test_trimmed_mean_without_a_bound_is_the_mean_and_not_an_empty_slice() -> None:
    # A mean of three: weights of a third round.
    assert step_of(line(1, 2, 6), "trimmed_mean", 0) == pytest.approx(3.0, rel=1e-12)


@pytest.mark.trap("cosden")
def test_cosden_averages_originals_not_normalised_rows() -> None:
    rows = np.array([[1.0, 0.0], [2.0, 0.0], [9.0, 0.0]])
    # A mean of three: weights of a third round; the mean of normalised rows would be 1.
    assert step_of(rows, "cosden") == pytest.approx([4.0, 0.0], rel=1e-12)


@pytest.mark.trap("cosden")
def test_cosden_scores_sums_to_neighbours_not_pairs_inside() -> None:
    rows = rays(0, 10, 40, 60, 70)  # f = 1, three neighbours
    assert chosen_by(rows, "cosden", 1) == [1, 2, 3, 4]
    cosines = rows @ rows.T
    nearest = np.argsort(-cosines, axis=1)[:, :3]
    pairs = [cosines[np.ix_(near, near)].sum() for near in nearest]
    assert oracles.highest(pairs, 4) == [0, 1, 3, 4]


@pytest.mark.trap("cosden", "euden")
def test_density_counts_the_row_itself_among_its_neighbours() -> None:
    rows = rays(0, 10, 40, 50, 70)  # f = 1, three neighbours: two others and itself, not three others
    assert chosen_by(rows, "cosden", 1) == [1, 2, 3, 4]
    cosines = rows @ rows.T
    others = [np.sort(line)[::-1][1:4].sum() for line in cosines]
    assert oracles.highest(others, 4) == [0, 1, 2, 3]


def test_density_is_of_a_majority_by_default_not_of_35() -> None:
    rows = rays(*np.random.default_rng(8).uniform(0, 180, size=50))
    majority = oracles.highest(oracles.cosden_scores(rows, 26), 35)
    assert majority != oracles.highest(oracles.cosden_scores(rows, 35), 35)
    assert chosen_by(rows, "cosden", 15) == majority


@pytest.mark.trap("cosden")
def test_cosden_ignores_norms() -> None:
    rows = rays(0, 10, 40, 60, 70) * np.array([[1e-3], [1], [1e3], [5], [1e6]])
    assert chosen_by(rows, "cosden", 1) == [1, 2, 3, 4]


@pytest.mark.trap("euden")
def test_euden_sums_unsquared_distances() -> None:
    rows = line(0, 1, 4, 8, 9)  # f = 1, three neighbours
    assert chosen_by(rows, "euden", 1) == [0, 1, 3, 4]
    squared = [sum(sorted((a - b) ** 2 for b in rows[:, 0])[:3]) for a in rows[:, 0]]
    assert oracles.lowest(squared, 4) == [0, 1, 2, 3]


@pytest.mark.trap("mgden")
def test_mgden_intersects_and_does_not_unite() -> None:
    rows = np.vstack([rays(0, 5, 10, 15), [[-2.0, 0.0]], rays(8, length=50)])
    cosine, euclidean = chosen_by(rows, "cosden", 1), chosen_by(rows, "euden", 1)
    assert (4 in euclidean, 5 in euclidean, 4 in cosine, 5 in cosine) == (True, False, False, True)
    assert chosen_by(rows, "mgden", 1) == [0, 1, 2, 3]


def test_amplifier_kernel_reaches_cosden_and_is_not_always_three() -> None:
    rows = np.random.default_rng(0).normal(size=(9, 36))
    kept = {kernel: chosen_by(rows, f"amp(kernel={kernel})+cosden", 4, layout=[(6, 6)]) for kernel in (2, 3)}
    for kernel, chosen in kept.items():
        assert oracles.shares(chosen, 9) == pytest.approx(
            oracles.cosden(oracles.pooled_rows(rows, [(6, 6)], kernel), 4)
        )
    assert kept[2] != kept[3]


@pytest.mark.trap("fedavg")
@pytest.mark.parametrize("rule", ALL_RULES)
@pytest.mark.parametrize("amplified", ["", "amp+"])
def test_no_rule_silently_does_nothing(rule: str, amplified: str) -> None:
    """One of nine rows is far off in the other direction; the mean of all is off by more than 100."""
    rows = 1 + np.random.default_rng(0).uniform(-0.1, 0.1, size=(9, 4))
    rows[4] = -1000
    worse = lambda applied: ((applied - 1).square().sum(1), -(applied - 1).square().sum(1))  # noqa: E731
    step = step_of(rows, amplified + rule, 1, layout=[(2, 2)], root=np.ones(4), evaluate=worse)
    assert (np.abs(step - 1) < 0.11).all()
    assert (np.abs(step_of(rows, "fedavg", 1) - 1) > 100).all()


@pytest.mark.trap("fang_lrr", "fang_err")
def test_lrr_keeps_the_lowest_losses_and_err_the_highest_accuracies() -> None:
    rows = np.eye(5)
    measured = Evaluation([0.1, 0.9, 0.2, 0.3, 0.4], [0.5, 0.9, 0.1, 0.6, 0.7])
    assert chosen_by(rows, "fang_lrr", 1, evaluate=measured) == [0, 2, 3, 4]
    assert chosen_by(rows, "fang_err", 1, evaluate=measured) == [0, 1, 3, 4]
    assert chosen_by(rows, "fang", 1, evaluate=measured) == [0, 3, 4]


@pytest.mark.trap("fang_err")
def test_err_breaks_ties_by_loss_and_then_by_row() -> None:
    rows = np.eye(5)
    by_loss = Evaluation([0.5, 0.4, 0.3, 0.2, 0.1], [0.5] * 5)
    assert chosen_by(rows, "fang_err", 2, evaluate=by_loss) == [2, 3, 4]
    by_row = Evaluation([0.5] * 5, [0.5] * 5)
    assert chosen_by(rows, "fang_err", 2, evaluate=by_row) == [0, 1, 2]
    assert chosen_by(rows, "fang_lrr", 2, evaluate=by_row) == [0, 1, 2]


@pytest.mark.peer("fang", "fang_err", of="AgrAmplifier's code, restated")
@given(st.lists(st.integers(0, 3), min_size=3, max_size=60), st.data())
def test_released_err_leaves_ties_of_accuracy_to_torch_topk(right: list[int], data: st.DataObject) -> None:
    n, f = len(right), draw_bound(data, "fang", len(right))
    losses = [float(loss) for loss in np.random.default_rng(n).permutation(n)]
    measured = Evaluation(losses, [count / 3 for count in right])
    err = sorted(torch.tensor(measured.accuracies).topk(n - f).indices.tolist())
    lrr = [i for i in range(n) if losses[i] < n - f]
    assert chosen_by(np.eye(n), "fang_err(impact='released')", f, evaluate=measured) == err
    both = [i for i in err if i in lrr]
    assert chosen_by(np.eye(n), "fang(impact='released')", f, evaluate=measured) == both


@pytest.mark.trap("fang")
def test_fang_never_keeps_an_update_whose_loss_is_not_a_number() -> None:
    measured = Evaluation([float("nan"), 0.5, 0.5, 0.5, 0.5], [0.5] * 5)
    for rule in ("fang", "fang_lrr", "fang_err"):
        assert chosen_by(np.eye(5), rule, 1, evaluate=measured) == [1, 2, 3, 4]


@pytest.mark.trap("fang")
def test_fang_measures_each_update_alone_not_left_out() -> None:
    rows = np.array([[0.0, 0.0], [0.0, 1.0], [9.0, 9.0]])
    distance = lambda applied: (applied.square().sum(1), -applied.square().sum(1))  # noqa: E731
    assert chosen_by(rows, "fang", 1, evaluate=distance) == [0, 1]


@pytest.mark.trap("fltrust")
@pytest.mark.parametrize("form", [("torch", "float32"), ("numpy", "float64")])
@pytest.mark.parametrize("size", [1.0, 10.0, 1e6])
def test_fltrust_gives_a_zero_update_no_weight(form: tuple[str, str], size: float) -> None:
    rows = np.array([[0.0, 0.0], [2.0, 0.0]])
    # The other row has all the trust, at the root's norm.
    assert step_of(rows, "fltrust", 0, form, root=np.array([size, 0.0])) == pytest.approx([size, 0.0], rel=1e-6)
    weights = call(agrbench.weigh, rows, "fltrust", 0, form, root=np.array([size, 0.0])).weights
    assert weights[0] == 0


@pytest.mark.trap("fltrust")
def test_fltrust_survives_an_update_too_small_to_have_a_norm() -> None:
    """1e-30 squared is 0 in float32: whoever sends it has no weight, and breaks nothing."""
    rows = np.array([[1e-30, 0.0], [2.0, 0.0]])
    # As above, in float32.
    step = step_of(rows, "fltrust", 0, ("torch", "float32"), root=np.array([10.0, 0.0]))
    assert step == pytest.approx([10.0, 0.0], rel=1e-6)


@pytest.mark.trap("fltrust")
@pytest.mark.parametrize("form", [("torch", "float32"), ("numpy", "float64")])
def test_fltrust_is_zero_not_nan_when_every_score_is_zero(form: tuple[str, str]) -> None:
    rows = np.array([[-1.0, 0.0], [0.0, 3.0], [0.0, 0.0]])
    assert step_of(rows, "fltrust", 1, form, root=np.array([100.0, 0.0])).tolist() == [0.0, 0.0]
    assert step_of(rows, "fltrust", 1, form, root=np.array([0.0, 0.0])).tolist() == [0.0, 0.0]


@pytest.mark.trap("fltrust")
def test_fltrust_gives_an_opposed_update_no_weight_rather_than_a_negative_one() -> None:
    rows = np.array([[1.0, 0.0], [-1.0, 0.0]])
    # Exact but for a square root and a division.
    assert step_of(rows, "fltrust", root=np.array([1.0, 0.0])) == pytest.approx([1.0, 0.0], rel=1e-12)


@pytest.mark.trap("fltrust")
def test_fltrust_rescales_every_update_to_the_roots_norm() -> None:
    rows = np.array([[1e6, 0.0], [0.0, 1e-6]])
    # Both at 45 degrees to the root, so each has half of the trust: half of (2, 0) plus half of (0, 2).
    step = step_of(rows, "fltrust", root=np.array([np.sqrt(2), np.sqrt(2)]))
    assert step == pytest.approx([1.0, 1.0], rel=1e-12)


@pytest.mark.trap("fltrust")
def test_fltrust_divides_by_the_sum_of_trust_not_by_the_clients() -> None:
    rows = np.array([[3.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    # Only the first row is trusted.
    assert step_of(rows, "fltrust", root=np.array([1.0, 0.0])) == pytest.approx([1.0, 0.0], rel=1e-12)


@pytest.mark.trap("fltrust")
def test_amplified_fltrust_rescales_by_original_norms() -> None:
    rows, root = np.array([[3.0, -4.0]]), np.array([6.0, 8.0])
    # The view is (3) against (8): cosine 1, so the whole weight is |root| / |row| = 10 / 5 (in the view: 8 / 3).
    assert step_of(rows, "amp+fltrust", layout=[(2,)], root=root) == pytest.approx([6.0, -8.0], rel=1e-12)
    # AgrAmplifier's code takes the root's norm, 8, in the view, and the row's, 5, outside it.
    pooled = "fltrust(norm='pooled')"
    assert step_of(rows, f"amp+{pooled}", layout=[(2,)], root=root) == pytest.approx([4.8, -6.4], rel=1e-12)
    assert (step_of(rows, pooled, root=root) == step_of(rows, "fltrust", root=root)).all()


@pytest.mark.trap("fltrust")
def test_amplified_fltrust_gives_a_zero_view_no_weight() -> None:
    rows, root = np.array([[0.0, -4.0], [1.0, 0.0]]), np.array([1.0, 0.0])
    # The first row's largest entry is 0, so its cosine is none; the second has all the trust.
    assert step_of(rows, "amp+fltrust", layout=[(2,)], root=root) == pytest.approx([1.0, 0.0], rel=1e-12)


@pytest.mark.parametrize(("rule", "keyword"), [("fltrust", "root="), ("fang", "evaluate="), ("fang_lrr", "evaluate=")])
def test_missing_server_data_is_named_by_the_keyword_to_pass(rule: str, keyword: str) -> None:
    with pytest.raises(AgrbenchError, match=keyword):
        step_of(np.ones((3, 2)), rule)


def test_root_of_another_length_is_refused_by_name() -> None:
    with pytest.raises(AgrbenchError, match=r"root is of shape \(3,\); pass root= of shape \(2,\)"):
        step_of(np.ones((3, 2)), "fltrust", root=np.ones(3))


def test_amplifier_without_a_layout_asks_for_one() -> None:
    with pytest.raises(AgrbenchError, match="layout="):
        step_of(np.ones((3, 2)), "amp+median")
