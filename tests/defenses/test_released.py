"""The variants of AgrAmplifier's released code, and of weighing by examples, each against an oracle of its own."""

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
from torch import Generator

import agrbench
from agrbench import Cell, Layout
from agrbench.clients.insider import Attacker
from agrbench.data.examples import Examples
from agrbench.errors import AgrbenchError, Inapplicable, SpecError
from agrbench.plugins import Attack
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


# ---------------------------------------------------------------- min-max, squared against unsquared

DIRECTIONS = ["std", "sign", "unit"]
# The released search halves its step until it is below 1e-5, and sends the last gamma that was legal.
SEARCH = 3e-5


def largest_squared(row: Array, honest: Array) -> float:
    return max(oracles.distance(row, other) ** 2 for other in honest)


def released_gamma(honest: Array, clean: Array, p: Array) -> float:
    """The largest `gamma` up to 20 with `max_i |clean + gamma p - g_i|^2 <= R`, by bisection; 0 if 0 breaks it.

    Legal values are one interval, since the constraint is convex.
    """
    reach = oracles.diameter(honest)

    def legal(gamma: float) -> bool:
        return largest_squared(clean + gamma * p, honest) <= reach

    if oracles.norm(p) == 0 or not legal(0.0):
        return 0.0
    if legal(20.0):
        return 20.0
    low, high = 0.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if legal(middle) else (low, middle)
    return low


def released_min_max(honest: Array, clean: Array, direction: str) -> Array:
    p = oracles.directions(honest)[direction]
    return np.array([row + released_gamma(honest, row, p) * p for row in clean])


def forge_min_max(honest: Array, clean: Array, direction: str = "std") -> Array:
    spec = f"min_max(direction={direction!r},version='released')"
    rows = agrbench.forge(spec, honest, len(clean), clean=clean)
    assert isinstance(rows, np.ndarray)
    assert rows.dtype == honest.dtype
    return rows.astype(np.float64)


@st.composite
def colluders(draw: st.DrawFn) -> tuple[Array, Array]:
    """Honest rows and the attackers' clean ones, at scales on both sides of 1 and of what is legal at the start."""
    n, m, d = draw(st.integers(1, 7)), draw(st.integers(1, 3)), draw(st.integers(1, 8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale, offset = 2.0 ** draw(st.integers(-12, 2)), draw(st.sampled_from([0.0, 1.0, 5.0]))
    honest = scale * (offset + rng.normal(size=(n, d)))
    clean = honest.mean(axis=0) + draw(st.sampled_from([0.0, 0.3, 1.0, 5.0])) * scale * rng.normal(size=(m, d))
    return honest.astype(np.float32).astype(np.float64), clean.astype(np.float32).astype(np.float64)


@pytest.mark.peer("min_max", of="AgrAmplifier's code, restated")
@pytest.mark.parametrize("direction", DIRECTIONS)
@given(colluders())
def test_released_min_max_goes_from_each_clean_update_as_far_as_a_squared_distance_stays_below_the_diameter(
    direction: str, rows: tuple[Array, Array]
) -> None:
    honest, clean = rows
    reach, length = oracles.diameter(honest), oracles.norm(oracles.directions(honest)[direction])
    for row in clean:
        assume(abs(largest_squared(row, honest) - reach) > 1e-9 * reach or reach == 0)
    forged = forge_min_max(honest, clean, direction)
    expected = released_min_max(honest, clean, direction)
    # The search's last step, and coordinates rounded.
    room = SEARCH * length + 1e-12 * np.abs(np.concatenate([honest, clean])).max()
    assert np.abs(forged - expected).max() <= room
    for sent, row in zip(forged, clean, strict=True):
        if largest_squared(row, honest) <= reach:
            # Nothing that was sent breaks the constraint, but by rounding.
            assert largest_squared(sent, honest) <= reach * (1 + 1e-9)


@given(colluders())
def test_released_min_max_of_single_precision_rows_differs_by_their_precision(rows: tuple[Array, Array]) -> None:
    honest, clean = rows
    reach, length = oracles.diameter(honest), oracles.norm(oracles.directions(honest)["std"])
    for row in clean:
        assume(abs(largest_squared(row, honest) - reach) > 1e-3 * reach or reach == 0)
    forged = forge_min_max(honest.astype(np.float32), clean.astype(np.float32))
    # The diameter is right to four digits, and the start 1e-3 away from the edge: so gamma is right to three.
    room = SEARCH * length + 2e-3 * math.sqrt(reach) + 1e-6 * np.abs(np.concatenate([honest, clean])).max()
    assert np.abs(forged - released_min_max(honest, clean, "std")).max() <= room


def test_released_min_max_exceeds_or_undershoots_the_honest_diameter_by_its_units() -> None:
    """Of two honest rows at distance R, start in the middle: `|v - g|` may be as large as the root of R.

    R = 2: the root is 1.41, less than R. R = 1/4: it is 1/2, twice as much as R.
    """
    for reach, farthest in ((2.0, math.sqrt(2)), (0.25, 0.5)):
        honest, clean = np.array([[0.0], [reach]]), np.array([[reach / 2]])
        [[sent]] = forge_min_max(honest, clean)
        # The search's last step, times a deviation of R / sqrt 2.
        assert sent == pytest.approx(reach - farthest, abs=SEARCH * reach)
        [[exact]] = agrbench.forge("min_max", honest, 1, clean=clean)
        assert reach - exact == pytest.approx(reach, rel=1e-9)  # the text's stays at R, to its own rounding
    assert math.sqrt(2) < 2
    assert 0.5 > 0.25


def test_released_min_max_stops_near_a_gamma_of_20() -> None:
    honest = 1e-6 * np.random.default_rng(0).normal(size=(5, 3))
    clean = honest[:2] + 1e-7
    p = oracles.directions(honest)["std"]
    forged = forge_min_max(honest, clean)
    for sent, row in zip(forged, clean, strict=True):
        # The root of R is a thousand R, so nothing but the search ends it; and it ends below 20.
        assert (sent - row) / p == pytest.approx(20, abs=SEARCH)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_released_min_max_sends_the_clean_update_where_that_is_too_far_out_already(direction: str) -> None:
    honest = 100 * np.random.default_rng(1).normal(size=(6, 4))
    clean = honest[:2] * 1.5
    assert (forge_min_max(honest, clean, direction) == clean).all()


def test_released_min_max_stays_at_a_start_too_far_out_even_if_a_step_would_come_within_reach() -> None:
    """From 0.6 of rows around 0, with a deviation of 0.1, some `gamma` around 6 is legal and 0 is not."""
    honest = np.array([[-0.1], [0.0], [0.1]])
    clean, p = np.array([[0.6]]), oracles.directions(honest)["std"]
    assert largest_squared(clean[0], honest) > 0.2
    assert largest_squared(clean[0] + 6 * p, honest) < 0.2
    assert forge_min_max(honest, clean).tolist() == [[0.6]]


@pytest.mark.parametrize("direction", ["std", "unit"])
def test_released_min_max_without_a_direction_sends_the_clean_updates(direction: str) -> None:
    same, opposed = np.tile([1.0, -0.5], (4, 1)), np.array([[0.5, -0.25], [-0.5, 0.25]])
    clean = np.array([[1.0, -0.5], [0.25, 0.0]])
    assert (forge_min_max(same if direction == "std" else opposed, clean, direction) == clean).all()


def test_released_min_max_gives_each_attacker_a_row_of_its_own() -> None:
    honest = 0.1 * np.random.default_rng(2).normal(size=(6, 4))
    clean = honest[:3] * 0.5
    forged = forge_min_max(honest, clean)
    for place, row in enumerate(clean):
        assert (forge_min_max(honest, row[None])[0] == forged[place]).all()
    assert len(np.unique(forged, axis=0)) == 3


def test_released_min_max_asks_for_clean_updates_by_keyword() -> None:
    with pytest.raises(AgrbenchError, match="pass clean="):
        agrbench.forge("min_max(version='released')", np.ones((3, 2)), 1)


def test_released_min_max_forges_no_row_for_no_attacker() -> None:
    assert agrbench.forge("min_max(version='released')", np.ones((3, 2)), 0, clean=np.ones((0, 2))).shape == (0, 2)


def test_min_max_version_is_one_of_two() -> None:
    with pytest.raises(SpecError, match=r"'exact', 'released'"):
        registry().attack("min_max(version='text')")


# ---------------------------------------------------------------- labels from the pool of all clients

POOLED = ["label_flip(map='pool')", "flip_ascent(map='pool')"]


def record(spec: str) -> Attack:
    return registry().attack(spec).record


def poison(spec: str, shard: Examples, pool: torch.Tensor, seed: int = 0, number: int = 0) -> Examples:
    function = record(spec).poison
    assert function is not None
    return function(shard, Generator().manual_seed(seed), Attacker(number, pool))


def shard_of(rows: int, classes: int = 1000) -> Examples:
    rng = np.random.default_rng(rows)
    features = torch.from_numpy(rng.uniform(size=(rows, 3)))
    return Examples(features, torch.from_numpy(rng.integers(0, classes, size=rows)), classes)


@pytest.mark.peer(*POOLED, of="AgrAmplifier's code, restated")
@pytest.mark.parametrize("attack", POOLED)
@given(st.integers(1, 30), st.integers(0, 30), st.integers(0, 2**31), st.integers(0, 9))
def test_pooled_labels_are_drawn_without_replacement_from_those_of_all_clients(
    attack: str, rows: int, more: int, seed: int, number: int
) -> None:
    shard = shard_of(rows)
    distinct = torch.arange(rows + more) + 7
    wrong = poison(attack, shard, distinct, seed, number)
    drawn = wrong.labels.tolist()
    assert len(drawn) == rows
    assert len(set(drawn)) == rows
    assert set(drawn) <= set(distinct.tolist())
    assert torch.equal(wrong.features, shard.features)
    assert (wrong.classes, wrong.labels.dtype) == (shard.classes, shard.labels.dtype)


@pytest.mark.parametrize("attack", POOLED)
@given(st.lists(st.integers(0, 3), min_size=5, max_size=12), st.integers(0, 2**31))
def test_label_is_drawn_no_more_often_than_the_pool_has_it(attack: str, pool: list[int], seed: int) -> None:
    drawn = poison(attack, shard_of(5, 4), torch.tensor(pool), seed).labels.tolist()
    assert all(drawn.count(label) <= pool.count(label) for label in drawn)


@pytest.mark.parametrize("attack", POOLED)
def test_labels_from_the_pool_are_not_a_permutation_of_the_shards_own(attack: str) -> None:
    shard = Examples(torch.zeros(6, 2), torch.zeros(6, dtype=torch.long), 2)
    assert poison(attack, shard, torch.tensor([0] * 6 + [1] * 60)).labels.sum() > 0
    assert poison(attack, shard, torch.ones(6, dtype=torch.long)).labels.tolist() == [1] * 6


@pytest.mark.parametrize("attack", POOLED)
def test_labels_from_the_pool_are_drawn_by_the_generator_that_is_given(attack: str) -> None:
    shard, pool = shard_of(50), torch.arange(100)
    first, same, other = (poison(attack, shard, pool, seed).labels for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("attack", POOLED)
def test_drawing_from_the_pool_changes_neither_the_pool_nor_the_shard(attack: str) -> None:
    shard, pool = shard_of(20), torch.arange(40)
    before = shard.features.clone(), shard.labels.clone(), pool.clone()
    poison(attack, shard, pool).labels.fill_(3)
    assert all(torch.equal(a, b) for a, b in zip((shard.features, shard.labels, pool), before, strict=True))


def test_labels_from_the_pool_come_in_every_order_equally_often() -> None:
    shard, function = Examples(torch.zeros(2, 1), torch.tensor([0, 0]), 4), record("label_flip(map='pool')").poison
    assert function is not None
    rng, counts = Generator().manual_seed(0), dict.fromkeys([(a, b) for a in range(4) for b in range(4) if a != b], 0)
    for _ in range(1200):
        counts[tuple(function(shard, rng, Attacker(0, torch.arange(4))).labels.tolist())] += 1
    # 100 expected of each of 12, with a deviation of 10: five of them.
    assert all(abs(count - 100) < 50 for count in counts.values())


@pytest.mark.parametrize(("attack", "expected"), [(POOLED[0], "poisoned"), (POOLED[1], "difference")])
def test_where_labels_come_from_changes_nothing_of_what_is_sent(attack: str, expected: str) -> None:
    rng = np.random.default_rng(0)
    clean, poisoned = rng.normal(size=(2, 4)), rng.normal(size=(2, 4))
    rows = agrbench.forge(attack, rng.normal(size=(5, 4)), 2, clean=clean, poisoned=poisoned)
    assert (rows == (poisoned if expected == "poisoned" else poisoned - clean)).all()


def test_pool_of_a_simulated_attacker_holds_the_labels_of_all_clients() -> None:
    """Two classes in all but none of one's own: sorted shards show where the labels were taken from."""
    cell = Cell(
        "digits", "fedavg", "label_flip(map='pool')", clients=5, malicious=1, rounds=10, partition="shards(labels=1)"
    )
    run = Run(cell, registry())
    [client] = run.data.malicious
    own = set(run.data.shards[client].labels.tolist())
    [block] = run.poisoned.blocks
    wrong = set(block.batches[0].labels.argmax(-1).tolist())
    assert len(own) <= 4
    assert wrong == set(range(10))


# ---------------------------------------------------------------- the scaling attack on triggered data alone

TRIGGERED = "scaling(data='triggered')"


@pytest.mark.parametrize("target", [0, 2])
def test_triggered_table_alone_has_features_7_and_8_at_a_half_and_the_target_as_label(target: int) -> None:
    rng = np.random.default_rng(0)
    features = torch.from_numpy(rng.uniform(0.6, 0.9, size=(8, 12)))
    shard = Examples(features, torch.from_numpy(rng.integers(0, 5, size=8)), 5)
    wrong = poison(f"scaling(data='triggered',target={target})", shard, shard.labels)
    expected = features.clone()
    expected[:, [7, 8]] = 0.5
    assert torch.equal(wrong.features, expected)
    assert wrong.labels.tolist() == [target] * 8
    assert wrong.classes == 5


def test_triggered_images_alone_have_a_white_square_in_the_lower_right() -> None:
    features = torch.from_numpy(np.random.default_rng(0).uniform(0.1, 0.9, size=(4, 2, 6, 7)))
    wrong = poison(TRIGGERED, Examples(features, torch.tensor([0, 1, 2, 2]), 3), torch.zeros(4, dtype=torch.long))
    expected = features.clone()
    for row in (3, 4, 5):
        for column in (4, 5, 6):
            expected[:, :, row, column] = 1.0
    assert torch.equal(wrong.features, expected)
    assert wrong.labels.tolist() == [0] * 4


@pytest.mark.peer("scaling", of="AgrAmplifier's code, restated")
@given(oracles.updates((1, 12), (1, 10)), st.integers(1, 6), DTYPES)
def test_triggered_scaling_sends_the_clean_update_and_the_poisoned_one_times_all_clients_over_the_malicious(
    honest: Array, malicious: int, dtype: str
) -> None:
    rng = np.random.default_rng(malicious)
    clean, poisoned = (rng.normal(size=(malicious, honest.shape[1])).astype(dtype) for _ in range(2))
    rows = agrbench.forge(TRIGGERED, honest.astype(dtype), malicious, clean=clean, poisoned=poisoned)
    scaled = (len(honest) + malicious) / malicious * poisoned.astype(np.float64)
    # A product with a factor that is rounded itself, and a sum.
    room = 4 * np.finfo(dtype).eps * (np.abs(clean) + np.abs(scaled))
    assert rows.dtype == np.dtype(dtype)
    assert (np.abs(rows - (clean + scaled)) <= room).all()


def test_triggered_scaling_uses_the_share_that_the_server_assumes_and_not_the_one_that_was_drawn() -> None:
    """The code has one constant for both sides; twelve clients, three assumed malicious, two malicious."""
    rows = agrbench.forge(TRIGGERED, np.ones((10, 2)), 2, clean=np.ones((2, 2)), poisoned=np.ones((2, 2)), byzantine=3)
    assert rows.tolist() == [[5.0, 5.0], [5.0, 5.0]]


@pytest.mark.parametrize("missing", ["clean", "poisoned"])
def test_triggered_scaling_asks_for_both_updates_by_keyword(missing: str) -> None:
    given_rows: dict[str, Any] = {name: np.ones((2, 2)) for name in ("clean", "poisoned") if name != missing}
    with pytest.raises(AgrbenchError, match=f"pass {missing}="):
        agrbench.forge(TRIGGERED, np.ones((3, 2)), 2, **given_rows)


def test_triggered_scaling_changes_nothing_that_was_passed() -> None:
    arrays = [np.random.default_rng(seed).normal(size=(n, 3)) for seed, n in enumerate((4, 2, 2))]
    before = [array.copy() for array in arrays]
    agrbench.forge(TRIGGERED, arrays[0], 2, clean=arrays[1], poisoned=arrays[2])
    assert all((a == b).all() for a, b in zip(arrays, before, strict=True))


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
