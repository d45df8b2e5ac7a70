"""Rules of AgrAmplifier's released code, and weighing by examples, each against an oracle of its own."""

import math
from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

import agrbench
from agrbench import Cell, Layout
from agrbench.errors import AgrbenchError, Inapplicable, SpecError
from agrbench.plugins.registry import Registry
from agrbench.randomness import generator
from agrbench.server.judge import Judge
from agrbench.server.rounds import Server
from agrbench.simulation.run import Run
from tests.helpers import oracles
from tests.helpers.oracles import Array

DENSE = ["cosden", "euden", "mgden"]
DTYPES = st.sampled_from(["float32", "float64"])
# The package promises four digits of a distance in float32; in float64 nine are plenty for a few dozen terms.
SLACK = {"float32": 1e-4, "float64": 1e-9}
# A norm adds up 40 squares, a step 12 products; each rounds by half a unit in the last place, and so do the square root
# and the division of a weight.
ULPS = 64

Span = tuple[float, float]


@cache
def registry() -> Registry:
    return Registry()


def released(rule: str, neighbours: int | None = None, prefix: str = "") -> str:
    count = "" if neighbours is None else f"neighbours={neighbours},"
    return f"{prefix}{rule}({count}score='released')"


def aggregate(rows: Array, spec: str, f: int = 0, dtype: str = "float64", **more: Any) -> Array:
    step = agrbench.aggregate(rows.astype(dtype), spec, f, **more)
    assert isinstance(step, np.ndarray)
    assert step.dtype == dtype
    return step.astype(np.float64)


# ---------------------------------------------------------------- the densest neighbourhoods, all pairs counted


def unit(rows: Array) -> Array:
    """Each row at norm 1; a zero row stays zero."""
    return np.array([row / oracles.norm(row) if oracles.norm(row) > 0 else row for row in rows])


def at_unit_norm(view: Array, rows: Array) -> Array:
    """Each row of the view divided by the norm of the original."""
    lengths = [oracles.norm(row) or 1.0 for row in rows]
    return np.array([seen / length for seen, length in zip(view, lengths, strict=True)])


def neighbourhoods(near: Sequence[float], own: int, count: int, room: float) -> list[tuple[int, ...]]:
    """List every choice of the `count` nearest rows, `own` always among them, where those within `room` tie."""
    others = sorted((j for j in range(len(near)) if j != own), key=lambda j: -near[j])
    if count == len(near):
        return [tuple(range(len(near)))]
    first_outside, last_inside = near[others[count - 1]], near[others[count - 2]] if count > 1 else math.inf
    sure = [j for j in others if near[j] > first_outside + room and near[j] >= last_inside]
    tied = [j for j in others if j not in sure and near[j] >= last_inside - room]
    return [(own, *sure, *chosen) for chosen in combinations(tied, count - 1 - len(sure))]


def pair_sums(near: Array, table: Array, count: int, room: float) -> list[Span]:
    """Give the sum over all ordered pairs of each row's neighbourhood, the least and the largest that ties allow."""
    spans = []
    for own in range(len(near)):
        sums = [
            float(table[np.ix_(chosen, chosen)].sum())
            for chosen in neighbourhoods(near[own].tolist(), own, count, room)
        ]
        spans.append((min(sums), max(sums)))
    return spans


def cosden_costs(view: Array, rows: Array, count: int, dtype: str) -> tuple[list[Span], float]:
    """Give scores of which the lowest are kept, and how far one may be off: each of its cosines by the slack."""
    table = oracles.cosines(view)
    spans = [(-high, -low) for low, high in pair_sums(table, table, count, 2 * SLACK[dtype])]
    return spans, 2 * count * count * SLACK[dtype]


def euden_costs(view: Array, rows: Array, count: int, dtype: str) -> tuple[list[Span], float]:
    """As for cosines; a distance is off by a share of itself, and by the rounding of coordinates of norm 1."""
    scaled = at_unit_norm(view, rows)
    table = oracles.distances(scaled)
    size = max(map(oracles.norm, scaled))
    room = 2 * (SLACK[dtype] * float(table.max()) + 16 * float(np.finfo(dtype).eps) * size)
    return pair_sums(-table, table, count, room), count * count * room


Costs = Callable[[Array, Array, int, str], tuple[list[Span], float]]
COSTS: dict[str, Costs] = {"cosden": cosden_costs, "euden": euden_costs}


def clear_choice(costs: Costs, view: Array, rows: Array, f: int, count: int, dtype: str = "float64") -> list[int]:
    """Give the rows that are kept, where nothing ties; elsewhere reject the example."""
    spans, room = costs(view, rows, count, dtype)
    order = sorted(range(len(rows)), key=lambda i: spans[i])
    kept, dropped = order[: len(rows) - f], order[len(rows) - f :]
    assume(not dropped or max(spans[i][1] for i in kept) + room < min(spans[i][0] for i in dropped))
    return sorted(kept)


def assert_mean_of_units(step: Array, kept: Sequence[int], rows: Array, dtype: str, count: int | None = None) -> None:
    """Check that a step is the mean over `kept` of the rows at norm 1, `count` in all (the others being zero)."""
    units = unit(rows)[list(kept)]
    shares = np.full(len(kept), 1 / (count or len(kept)))
    # See ULPS: relative to the products and not to their sum.
    room = ULPS * np.finfo(dtype).eps * (shares[:, None] * np.abs(units)).sum(axis=0)
    expected = oracles.weighted(shares, units) if len(kept) else np.zeros(rows.shape[1])
    assert (np.abs(step - expected) <= room).all(), (step, expected)


def assert_keeps_and_averages(
    rule: str, spec: str, view: Array, rows: Array, f: int, count: int, dtype: str, **more: Any
) -> None:
    """Check the rows that a rule keeps, any of those that tie, and the step that it makes of them."""
    weights = agrbench.weigh(rows.astype(dtype), spec, f, **more).weights
    assert isinstance(weights, torch.Tensor)
    kept = [int(i) for i in weights.nonzero().flatten()]
    spans, room = COSTS[rule](view, rows, count, dtype)
    # The weight of a zero row says nothing: whether it was kept shows in what the others are divided by.
    zeros = sorted((i for i in range(len(rows)) if not rows[i].any()), key=lambda i: spans[i])
    moving = [i for i in kept if i not in zeros]
    still = zeros[: len(rows) - f - len(moving)]
    assert len(moving) + len(still) == len(rows) - f
    dropped = [spans[i][1] for i in range(len(rows)) if i not in moving and i not in still]
    assert not dropped or max(spans[i][0] for i in [*moving, *still]) <= min(dropped) + room
    step = aggregate(rows, spec, f, dtype, **more)
    assert_mean_of_units(step, moving, rows, dtype, len(rows) - f)


def draw_bound_and_count(data: st.DataObject, n: int) -> tuple[int, int]:
    return data.draw(st.integers(0, (n - 1) // 2), label="f"), data.draw(st.integers(n // 2 + 1, n), label="neighbours")


@pytest.mark.peer(*DENSE, of="AgrAmplifier's code, restated")
@pytest.mark.parametrize("rule", COSTS)
@given(st.data(), oracles.updates((1, 9), (1, 12)), DTYPES)
def test_released_density_counts_every_pair_of_a_neighbourhood_and_averages_unit_rows(
    rule: str, data: st.DataObject, rows: Array, dtype: str
) -> None:
    f, count = draw_bound_and_count(data, len(rows))
    assert_keeps_and_averages(rule, released(rule, count), rows, rows, f, count, dtype)


@pytest.mark.parametrize("rule", COSTS)
@given(st.data(), DTYPES)
def test_amplified_released_density_judges_pooled_rows_and_averages_originals_at_unit_original_norm(
    rule: str, data: st.DataObject, dtype: str
) -> None:
    shapes, kernel = data.draw(oracles.layouts(), label="layout"), data.draw(st.integers(1, 3), label="kernel")
    width = oracles.parameters(shapes)
    rows = data.draw(oracles.updates((1, 9), (width, width)), label="rows")
    f, count = draw_bound_and_count(data, len(rows))
    spec = released(rule, count, f"amp(kernel={kernel})+")
    view = oracles.pooled_rows(rows, shapes, kernel)
    assert_keeps_and_averages(rule, spec, view, rows, f, count, dtype, layout=shapes)


@pytest.mark.peer("mgden", of="AgrAmplifier's code, restated")
@given(st.data(), oracles.updates((1, 9), (2, 12), ties=False), st.booleans())
def test_released_mgden_averages_the_unit_rows_that_both_released_lists_keep(
    data: st.DataObject, rows: Array, amplified: bool
) -> None:
    f, count = draw_bound_and_count(data, len(rows))
    shapes = [(1, rows.shape[1])]
    view = oracles.pooled_rows(rows, shapes, 2) if amplified else rows
    by_cosine, by_distance = (clear_choice(COSTS[rule], view, rows, f, count) for rule in ("cosden", "euden"))
    kept = [i for i in by_cosine if i in by_distance]
    spec = released("mgden", count, "amp+" if amplified else "")
    assert_mean_of_units(aggregate(rows, spec, f, layout=shapes), kept, rows, "float64")


@pytest.mark.parametrize("rule", DENSE)
@given(oracles.updates((1, 9), (1, 12)), st.integers(0, 4))
def test_released_density_looks_at_just_over_half_of_the_rows_by_default(rule: str, rows: Array, f: int) -> None:
    assume(2 * f < len(rows))
    counted = aggregate(rows, released(rule, oracles.most(len(rows))), f)
    assert (aggregate(rows, released(rule), f) == counted).all()


@pytest.mark.parametrize("rule", DENSE)
@given(oracles.updates(), DTYPES, st.booleans())
def test_released_density_that_fears_nobody_averages_every_row_at_norm_1(
    rule: str, rows: Array, dtype: str, amplified: bool
) -> None:
    spec = released(rule, len(rows), "amp+" if amplified else "")
    step = aggregate(rows, spec, 0, dtype, layout=[(1, rows.shape[1])])
    assert_mean_of_units(step, range(len(rows)), rows, dtype)


@pytest.mark.parametrize("rule", DENSE)
@given(st.data(), oracles.updates((1, 9), (2, 12), ties=False), st.floats(1e-3, 1e3))
def test_length_of_one_update_changes_nothing_of_a_released_density(
    rule: str, data: st.DataObject, rows: Array, factor: float
) -> None:
    f, count = draw_bound_and_count(data, len(rows))
    for name in ("cosden", "euden") if rule == "mgden" else (rule,):
        clear_choice(COSTS[name], rows, rows, f, count)
    longer = rows.copy()
    longer[data.draw(st.integers(0, len(rows) - 1), label="row")] *= factor
    first, second = (aggregate(given_rows, released(rule, count), f) for given_rows in (rows, longer))
    # Both are means of numbers up to 1, see ULPS.
    assert np.abs(first - second).max() <= 2 * ULPS * np.finfo(float).eps


@pytest.mark.parametrize("rule", DENSE)
def test_length_changes_the_step_of_the_texts_density(rule: str) -> None:
    rows = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    assert (aggregate(rows, rule) != aggregate(rows * [[1.0], [1.0], [4.0]], rule)).any()


@pytest.mark.parametrize("rule", DENSE)
def test_zero_row_stays_zero_and_counts_in_the_mean(rule: str) -> None:
    rows = np.array([[4.0, 0.0], [0.0, 0.0], [0.5, 0.0], [0.0, 2.0]])
    # All four are kept: (1 + 0 + 1 + 0) / 4 and (0 + 0 + 0 + 1) / 4, halves and quarters being exact.
    assert aggregate(rows, released(rule)).tolist() == [0.5, 0.25]


@pytest.mark.parametrize("rule", DENSE)
@pytest.mark.parametrize("prefix", ["", "amp+"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_zero_rows_alone_or_among_others_never_make_a_step_that_is_not_finite(
    rule: str, prefix: str, dtype: str
) -> None:
    rng = np.random.default_rng(4)
    for zeros in range(8):
        rows = rng.normal(size=(7, 6))
        rows[:zeros] = 0
        for f in range(4):
            step = aggregate(rows, released(rule, prefix=prefix), f, dtype, layout=[(2, 3)])
            assert np.isfinite(step).all()
            # A mean of rows of norm 1 or 0 is no longer than 1, to rounding.
            assert oracles.norm(step) <= 1 + 1e-6
        assert zeros < 7 or not step.any()


@pytest.mark.parametrize("rule", DENSE)
@given(st.integers(1, 9), st.integers(0, 4), st.integers(0, 2**32 - 1))
def test_released_density_of_copies_of_one_update_is_that_update_at_norm_1(
    rule: str, n: int, f: int, seed: int
) -> None:
    assume(2 * f < n)
    row = np.random.default_rng(seed).normal(size=5)
    # See ULPS.
    assert np.abs(aggregate(np.tile(row, (n, 1)), released(rule), f) - unit(row[None])[0]).max() <= ULPS * 2.0**-52


@pytest.mark.parametrize("rule", DENSE)
def test_released_density_drops_the_stranger_among_copies_in_one_direction(rule: str) -> None:
    rows = np.array([[1.0, 0.0], [2.0, 0.0], [-1.0, 0.0], [8.0, 0.0], [4.0, 0.0]])
    assert aggregate(rows, released(rule), 1).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("rule", DENSE)
@given(st.data())
def test_kernel_of_1_changes_nothing_of_a_released_density_on_linear_layers(rule: str, data: st.DataObject) -> None:
    shapes = data.draw(oracles.layouts(linear=True), label="layout")
    rows = data.draw(oracles.updates((1, 9), (oracles.parameters(shapes),) * 2), label="rows")
    f, count = draw_bound_and_count(data, len(rows))
    base, amplified = (
        aggregate(rows, released(rule, count, prefix), f, layout=shapes) for prefix in ("", "amp(kernel=1)+")
    )
    assert (base == amplified).all()


@pytest.mark.parametrize("rule", DENSE)
def test_released_density_leaves_out_rows_that_are_not_finite_with_a_bound_lowered_by_them(rule: str) -> None:
    rows = np.random.default_rng(0).normal(size=(9, 4))
    broken = np.insert(rows, [2, 6], [[math.nan] * 4, [math.inf] * 4], axis=0)
    assert (aggregate(broken, released(rule), 4) == aggregate(rows, released(rule), 2)).all()


def at_degrees(*angles: float) -> Array:
    return np.array([[math.cos(math.radians(angle)), math.sin(math.radians(angle))] for angle in angles])


def dropped_by(rows: Array, spec: str, f: int) -> list[int]:
    weights = agrbench.weigh(rows, spec, f).weights
    assert isinstance(weights, torch.Tensor)
    return [int(i) for i in (weights == 0).nonzero().flatten()]


def test_released_cosden_is_not_the_texts_cosden() -> None:
    """A row between two far neighbours is close to both, but its neighbourhood is not close within itself.

    Of 3 neighbours: 340 degrees sees 50 and 90, so the text gives it 1 + cos 70 + cos 110 = 1, the lowest; these two
    are close to each other, so the released code gives it 3 + 2 cos 40 = 4.53. 90 degrees sees 50 and 180: 1 + cos 40 +
    cos 90 = 1.77 in the text, but 3 + 2 (cos 40 + cos 90 + cos 130) = 3.25, the lowest, in the released code.
    """
    rows = at_degrees(50, 90, 180, 190, 340)
    text = oracles.cosden_scores(rows, 3)
    all_pairs = [low for low, _ in pair_sums(oracles.cosines(rows), oracles.cosines(rows), 3, 1e-9)]
    # The numbers above, by hand, to their two decimals.
    assert [text[4], text[1], all_pairs[4], all_pairs[1]] == pytest.approx([1.0, 1.77, 4.53, 3.25], abs=0.005)
    assert text[4] == min(text)
    assert all_pairs[1] == min(all_pairs)
    assert dropped_by(rows, "cosden(neighbours=3)", 1) == [4]
    assert dropped_by(rows, "cosden(neighbours=3,score='released')", 1) == [1]


def test_released_euden_measures_directions_where_the_texts_measures_updates() -> None:
    """Long in the common direction is a stranger to the text alone; short in another is one to the released code."""
    rows = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, -0.1], [50.0, 0.0], [-0.1, 0.0]])
    assert dropped_by(rows, "euden", 1) == [3]
    assert dropped_by(rows, released("euden"), 1) == [4]


def test_released_mgden_keeps_only_what_both_of_its_lists_keep() -> None:
    rng = np.random.default_rng(0)
    strict = 0
    for _ in range(50):
        rows = rng.normal(size=(11, 3))
        by_cosine, by_distance = (dropped_by(rows, released(rule), 4) for rule in ("cosden", "euden"))
        assert dropped_by(rows, released("mgden"), 4) == sorted({*by_cosine, *by_distance})
        strict += by_cosine != by_distance
    assert strict  # or the two lists were the same, and nothing was seen


@pytest.mark.parametrize("rule", DENSE)
def test_density_score_is_one_of_those_it_names(rule: str) -> None:
    with pytest.raises(SpecError, match="'released'"):
        registry().stack(f"{rule}(score='squared')")


# ---------------------------------------------------------------- federated averaging by examples

WEIGHTED = "fedavg(weighted=True)"
SIZES = st.lists(st.integers(1, 1000), min_size=12, max_size=12).map(np.array)


def by_size(sizes: Array) -> Array:
    return sizes / math.fsum(sizes)


def assert_weighted(step: Array, weights: Array, rows: Array, dtype: str) -> None:
    # See ULPS: relative to the products and not to their sum.
    room = ULPS * np.finfo(dtype).eps * (np.abs(weights)[:, None] * np.abs(rows)).sum(axis=0)
    assert (np.abs(step - oracles.weighted(weights, rows)) <= room).all()


@given(oracles.updates(), SIZES, DTYPES, st.integers(0, 12), st.sampled_from(["int64", "float64", "float32"]))
def test_weighted_fedavg_weighs_each_client_by_its_examples_whatever_the_bound(
    rows: Array, sizes: Array, dtype: str, f: int, kind: str
) -> None:
    sizes = sizes[: len(rows)]
    step = aggregate(rows, WEIGHTED, f, dtype, sizes=sizes.astype(kind))
    assert_weighted(step, by_size(sizes), rows, dtype)


@pytest.mark.trap("fedavg")
@given(oracles.updates(), SIZES)
def test_plain_fedavg_does_not_look_at_the_examples(rows: Array, sizes: Array) -> None:
    plain = aggregate(rows, "fedavg")
    assert (aggregate(rows, "fedavg", sizes=sizes[: len(rows)]) == plain).all()
    assert (aggregate(rows, "fedavg(weighted=False)", sizes=sizes[: len(rows)]) == plain).all()
    assert_weighted(plain, oracles.fedavg(rows), rows, "float64")


@pytest.mark.trap("fedavg")
@given(oracles.updates(), st.integers(1, 1000))
def test_weighted_fedavg_of_equal_clients_is_the_mean(rows: Array, size: int) -> None:
    step = aggregate(rows, WEIGHTED, sizes=np.full(len(rows), size))
    assert_weighted(step, oracles.fedavg(rows), rows, "float64")


@given(oracles.updates((2, 9), (1, 10), ties=False), SIZES, st.integers(0, 4))
def test_sizes_are_mixed_like_the_rows(rows: Array, sizes: Array, f: int) -> None:
    assume(2 * f < len(rows))
    for line in oracles.distances(rows):  # where two rows are equally near, either may be mixed in
        ordered = sorted(line)
        assume(f == 0 or ordered[len(rows) - f] - ordered[len(rows) - f - 1] > 1e-9 * ordered[-1])
    mixing = oracles.nnm(rows, f)
    of_mixed = by_size(mixing @ sizes[: len(rows)])
    step = aggregate(rows, f"nnm+{WEIGHTED}", f, sizes=sizes[: len(rows)])
    assert_weighted(step, mixing.T @ of_mixed, rows, "float64")


def test_sizes_that_are_not_mixed_give_another_step() -> None:
    """Three rows, f = 1: the far one is mixed with its neighbour, and has a share of that one's examples.

    Nearest two: 0 and 1, 1 and 0, 10 and 1. Mixed rows 0.5, 0.5, 5.5; mixed sizes 50.5, 50.5, 2: so the step is
    (50.5 * 0.5 * 2 + 2 * 5.5) / 103. Sizes 100, 1, 3 as they were would give 67 / 104.
    """
    rows = np.array([[0.0], [1.0], [10.0]])
    # One division.
    step = aggregate(rows, f"nnm+{WEIGHTED}", 1, sizes=np.array([100, 1, 3]))
    assert step == pytest.approx((50.5 * 0.5 * 2 + 2 * 5.5) / 103, rel=1e-14)
    assert abs(step[0] - 67 / 104) > 0.01


@pytest.mark.parametrize("prefix", ["", "nnm+"])
def test_rows_that_are_not_finite_take_their_sizes_with_them(prefix: str) -> None:
    rng = np.random.default_rng(0)
    rows, sizes = rng.normal(size=(6, 3)), rng.integers(1, 100, size=6)
    broken = np.insert(rows, [1, 4], [[math.nan] * 3, [math.inf] * 3], axis=0)
    counted = np.insert(sizes, [1, 4], [10_000, 20_000])
    without = aggregate(rows, prefix + WEIGHTED, 1, sizes=sizes)
    assert (aggregate(broken, prefix + WEIGHTED, 3, sizes=counted) == without).all()


def test_clients_that_are_heard_no_more_take_their_sizes_with_them() -> None:
    rows = np.random.default_rng(1).normal(size=(5, 3))
    judge = Judge(registry().stack(WEIGHTED), Layout.read([(1, 3)], 3), partial(generator, 0))
    server = Server(sizes=lambda: torch.tensor([1, 500, 2, 3, 700]), previous=lambda: torch.zeros(3))
    step = judge.step(torch.from_numpy(rows), 0, server, 1, [1, 4]).step
    assert_weighted(step.numpy(), by_size(np.array([1, 2, 3])), rows[[0, 2, 3]], "float64")


def test_weighted_fedavg_asks_for_the_sizes_by_keyword() -> None:
    with pytest.raises(AgrbenchError, match="sizes="):
        agrbench.aggregate(np.ones((3, 2)), WEIGHTED)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_sizes_of_a_wrong_number_of_clients_are_the_callers_fault_and_named(count: int) -> None:
    with pytest.raises(AgrbenchError, match=r"\bsizes\b"):
        agrbench.aggregate(np.ones((3, 2)), WEIGHTED, sizes=np.ones(count))


def test_weighted_fedavg_has_no_amplified_form() -> None:
    with pytest.raises(Inapplicable, match="fedavg"):
        agrbench.aggregate(np.ones((3, 4)), f"amp+{WEIGHTED}", layout=[(2, 2)], sizes=np.ones(3))


def test_weighted_round_of_unequal_clients_is_one_gradient_step_on_all_their_examples() -> None:
    """Each sends a step along its own mean loss: weighed by examples, they make one along the mean over all."""
    cell = Cell("digits", WEIGHTED, "none", clients=5, malicious=1, rounds=10, partition="quantity(sigma=1)")
    run = Run(cell, registry())
    sizes = [len(shard.labels) for shard in run.data.shards]
    assert len(set(sizes)) == 5
    model = run.state.model.clone().requires_grad_()
    features = torch.cat([shard.features for shard in run.data.shards])
    labels = torch.cat([shard.labels for shard in run.data.shards])
    loss = forward(model, list(run.learner.layout.layers), features)
    [gradient] = torch.autograd.grad(torch.nn.functional.cross_entropy(loss, labels), [model])
    rate = run.schedule.rate
    step = run.round(1)[0].step
    # float32 sums of a thousand examples in another order, relative to the largest coordinate.
    assert float((step + rate * gradient).abs().max()) <= 1e-5 * float(step.abs().max())
    by_hand = by_size(np.array(sizes)) @ run.clean.updates.double().numpy()
    # A sum of five products.
    assert np.abs(step.double().numpy() - by_hand).max() <= ULPS * np.finfo("float32").eps * np.abs(by_hand).max()
    plain = run.clean.updates.mean(dim=0)
    assert float((step - plain).abs().max()) > 1e-3 * float(step.abs().max())


def forward(model: torch.Tensor, layers: Sequence[Any], features: torch.Tensor) -> torch.Tensor:
    """Score examples by a multilayer perceptron in a flat vector, each layer's bias below its weights."""
    seen, start = features.flatten(1), 0
    for place, layer in enumerate(layers):
        weights = model[start : start + layer.size].view(layer.rows, layer.columns)
        seen = seen @ weights[:-1] + weights[-1]
        seen = seen.relu() if place + 1 < len(layers) else seen
        start += layer.size
    return seen
