"""How stages and verdicts compose, what a stack remembers, and what it does with rows and plugins that are broken."""

import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

import agrbench
from agrbench import Cell, Layout, Verdict
from agrbench.errors import AgrbenchError, Inapplicable, PluginError
from agrbench.plugins.registry import Registry
from agrbench.randomness import generator
from agrbench.server.judge import Judge
from agrbench.server.rounds import Server
from agrbench.simulation.run import Run
from agrbench.threads import using
from tests.helpers import oracles
from tests.helpers.oracles import Array, Shapes
from tests.helpers.updates import by_size, normal

Write = Callable[[str, str], str]

HEAD = '''"""Try something out."""
import torch
from agrbench.errors import Inapplicable
from agrbench.layout import Layer, Layout
from agrbench.plugins import Defense, Stage
from agrbench.plugins.contract import Columns, Verdict
from agrbench.server.rounds import Round

'''

# A step in float64 is a sum of at most 12 products of products, each right to 1e-16 of the largest of them.
CLOSE = 1e-12


@pytest.fixture
def plugin(tmp_path: Path) -> Write:
    """Give a function that writes a plugin file and says where it lies."""

    def write(name: str, body: str) -> str:
        path = tmp_path / f"{name}.py"
        path.write_text(HEAD + textwrap.dedent(body))
        return str(path)

    return write


def judge(spec: str, width: int, *plugins: str, layout: Shapes | None = None, seed: int = 0) -> Judge:
    layers = Layout.read([(1, width)] if layout is None else layout, width)
    return Judge(Registry(plugins).stack(spec), layers, partial(generator, seed))


def assert_close(step: Array, expected: Array, rows: Array) -> None:
    # See CLOSE: relative to what was summed, not to the sum.
    assert np.abs(step - expected).max() <= CLOSE * np.abs(rows).max(), (step, expected)


# ---------------------------------------------------------------- shipped stages compose left to right


def expected_krum(mixing: Array, view: Array, rows: Array, f: int) -> Array:
    """Krum's pick by a view of mixed rows, having made sure that no other row comes near its score."""
    scores = oracles.krum_scores(view, f)
    order = np.argsort(scores)
    best = mixing[order[0]]
    for other in order[1:]:
        # Rows mixed alike are the same row; others must differ by more than rounding.
        assume((mixing[other] == best).all() or scores[other] > scores[order[0]] + 1e-9 * max(scores))
    return oracles.weighted(best, rows)


@st.composite
def mixable(draw: st.DrawFn) -> tuple[Array, list[tuple[int, ...]], int]:
    """Rows without ties, their layers, and a bound that Krum is defined for."""
    shapes = draw(oracles.layouts())
    width = oracles.parameters(shapes)
    rows = draw(oracles.updates((3, 10), (width, width), ties=False))
    return rows, shapes, draw(st.integers(0, (len(rows) - 3) // 2))


@pytest.mark.oracle("nnm")
@given(mixable())
def test_nnm_krum_picks_among_mixed_rows(drawn: tuple[Array, list[tuple[int, ...]], int]) -> None:
    rows, _, f = drawn
    mixing = oracles.nnm(rows, f)
    expected = expected_krum(mixing, mixing @ rows, rows, f)
    assert_close(agrbench.aggregate(rows, "nnm+krum", f), expected, rows)


@given(mixable())
def test_amp_nnm_krum_mixes_amplified_rows(drawn: tuple[Array, list[tuple[int, ...]], int]) -> None:
    rows, shapes, f = drawn
    view = oracles.pooled_rows(rows, shapes, 2)
    mixing = oracles.nnm(view, f)
    expected = expected_krum(mixing, mixing @ view, rows, f)
    assert_close(agrbench.aggregate(rows, "amp+nnm+krum", f, shapes), expected, rows)


@given(mixable())
def test_nnm_amp_krum_amplifies_mixed_rows(drawn: tuple[Array, list[tuple[int, ...]], int]) -> None:
    rows, shapes, f = drawn
    mixing = oracles.nnm(rows, f)
    view = oracles.pooled_rows(mixing @ rows, shapes, 2)
    expected = expected_krum(mixing, view, rows, f)
    assert_close(agrbench.aggregate(rows, "nnm+amp+krum", f, shapes), expected, rows)


@pytest.mark.trap("nnm")
def test_amp_nnm_and_nnm_amp_differ() -> None:
    rows, shapes = normal(7, 12, seed=1), [(4, 3)]
    first = agrbench.aggregate(rows, "amp+nnm+krum", 2, shapes)
    second = agrbench.aggregate(rows, "nnm+amp+krum", 2, shapes)
    assert np.abs(first - second).max() > 0.01


@pytest.mark.oracle("nnm")
@given(mixable())
def test_nnm_trimmed_mean_trims_mixed_rows(drawn: tuple[Array, list[tuple[int, ...]], int]) -> None:
    rows, _, f = drawn
    expected = oracles.trimmed_mean(oracles.nnm(rows, f) @ rows, f)
    assert_close(agrbench.aggregate(rows, "nnm+trimmed_mean", f), expected, rows)


@given(mixable())
def test_amp_nnm_trimmed_mean_takes_a_patchs_weights_back_through_the_mixing(
    drawn: tuple[Array, list[tuple[int, ...]], int],
) -> None:
    rows, shapes, f = drawn
    view = oracles.pooled_rows(rows, shapes, 2)
    mixing = oracles.nnm(view, f)
    wide = oracles.spread(mixing.T @ oracles.trimmed_weights(mixing @ view, f), shapes, 2)
    assert_close(agrbench.aggregate(rows, "amp+nnm+trimmed_mean", f, shapes), (wide * rows).sum(axis=0), rows)


@given(mixable())
def test_mixing_twice_multiplies_the_matrices(drawn: tuple[Array, list[tuple[int, ...]], int]) -> None:
    rows, _, f = drawn
    once = oracles.nnm(rows, f)
    table = np.sort(oracles.distances(once @ rows), axis=1)
    # Where the n - f nearest of the mixed rows are not clear, another pick is as right.
    assume(f == 0 or (table[:, -f] - table[:, -f - 1] > 1e-6 * table.max()).all())
    expected = (oracles.nnm(once @ rows, f) @ once @ rows).mean(axis=0)
    assert_close(agrbench.aggregate(rows, "nnm+nnm+fedavg", f), expected, rows)


@given(mixable())
def test_mixed_fltrust_rescales_by_the_norms_of_mixed_originals(
    drawn: tuple[Array, list[tuple[int, ...]], int],
) -> None:
    rows, shapes, f = drawn
    view, root = oracles.pooled_rows(rows, shapes, 2), rows[0]
    mixing = oracles.nnm(view, f)
    weights = oracles.fltrust(mixing @ rows, root, mixing @ view, oracles.pooled(root, shapes, 2))
    # Mixed rows may nearly cancel, and then nothing of their norm is right to 1e-12 of it.
    assume(min(oracles.norm(row) for row in mixing @ rows) > 1e-3 * np.abs(rows).max())
    step = agrbench.aggregate(rows, "amp+nnm+fltrust", f, shapes, root=root)
    # The weights carry norms and cosines of sums; the step is as large as they are.
    assert np.abs(step - oracles.weighted(weights, mixing @ rows)).max() <= 1e-9 * weights.sum() * np.abs(rows).max()


def test_mixed_fang_applies_mixed_restored_rows() -> None:
    rows, shapes = normal(6, 12), [(4, 3)]
    restored = oracles.restored_rows(rows, shapes, 2)
    mixing = oracles.nnm(restored, 2)
    applied: list[Array] = []

    def evaluate(updates: Tensor) -> tuple[Tensor, Tensor]:
        applied.append(updates.numpy().copy())
        return by_size(updates)

    step = agrbench.aggregate(rows, "amp+nnm+fang", 2, shapes, evaluate=evaluate)
    assert_close(applied[0], mixing @ restored, rows)
    sizes = by_size(torch.from_numpy(mixing @ restored))
    weights = oracles.fang(sizes[0].tolist(), sizes[1].tolist(), 2)
    assert_close(step, oracles.weighted(weights, mixing @ rows), rows)


@pytest.mark.parametrize("rule", ["krum", "cosden", "trimmed_mean", "median"])
def test_amplifying_twice_is_amplifying_once_with_the_product_of_kernels(rule: str) -> None:
    rows, shapes = normal(9, 77, seed=4), [(7, 5), (5,), (37,)]
    twice = agrbench.aggregate(rows, f"amp(kernel=2)+amp(kernel=3)+{rule}", 3, shapes)
    assert (twice == agrbench.aggregate(rows, f"amp(kernel=6)+{rule}", 3, shapes)).all()


@pytest.mark.parametrize("stage", ["sample", "mean_pool"])
def test_control_stage_judges_its_own_view_and_averages_originals(stage: str) -> None:
    rows, shapes = normal(9, 24, seed=5), [(6, 4)]
    step = agrbench.aggregate(rows, f"{stage}+krum", 3, shapes)
    assert any((step == row).all() for row in rows)


def test_mean_pool_is_skipped_with_the_reason_where_a_restored_view_is_needed() -> None:
    with pytest.raises(Inapplicable, match="fang needs a restored view, which mean_pool lacks"):
        agrbench.aggregate(normal(5, 4), "mean_pool+fang", 1, [(2, 2)], evaluate=by_size)


# ---------------------------------------------------------------- every shape of weights


def rising(n: int, columns: int) -> Array:
    """Weights of both signs that sum to nothing special."""
    return np.linspace(-1.0, 2.0, n * columns).reshape(n, columns)


RISING = "torch.linspace(-1, 2, {n} * {b}, dtype=torch.float64).view({n}, {b})"


def weighing(expression: str) -> str:
    return f"""
        def weigh(round: Round):
            n, b = round.view.shape
            layers = len(round.layout.layers)
            return {expression}

        defense = Defense(weigh)
    """


def test_row_weights_of_any_sign_and_sum_are_taken_as_they_are(plugin: Write) -> None:
    rows = normal(5, 4)
    file = plugin("by_row", weighing("torch.linspace(-1, 2, n, dtype=torch.float64)"))
    step = agrbench.aggregate(rows, "by_row", plugins=(file,))
    assert_close(step, oracles.weighted(np.linspace(-1, 2, 5), rows), rows)


@pytest.mark.parametrize("amplified", [False, True])
def test_feature_weights_are_spread_over_the_features_coordinates(plugin: Write, amplified: bool) -> None:
    rows, shapes = normal(5, 12), [(2, 3), (3,), (3,)]
    file = plugin("by_feature", weighing(RISING.format(n="n", b="b")))
    step = agrbench.aggregate(rows, "amp+by_feature" if amplified else "by_feature", 0, shapes, plugins=(file,))
    kernel = 2 if amplified else 1
    wide = oracles.spread(rising(5, len(oracles.patches(shapes, kernel))), shapes, kernel)
    assert_close(step, (wide * rows).sum(axis=0), rows)


@pytest.mark.parametrize("spec", ["by_layer", "amp+by_layer", "amp(kernel=5)+by_layer"])
def test_layer_weights_are_spread_over_the_layers_coordinates(plugin: Write, spec: str) -> None:
    rows, shapes = normal(5, 12), [(2, 3), (3,), (3,)]  # two layers: a matrix with its bias, and three numbers
    file = plugin("by_layer", weighing(RISING.format(n="n", b="layers")))
    weights = np.repeat(rising(5, 2), [9, 3], axis=1)
    assert_close(agrbench.aggregate(rows, spec, 0, shapes, plugins=(file,)), (weights * rows).sum(axis=0), rows)


def test_weights_by_column_go_back_through_the_mixing(plugin: Write) -> None:
    rows = normal(5, 12)
    file = plugin("by_feature", weighing(RISING.format(n="n", b="b")))
    wide = oracles.nnm(rows, 2).T @ rising(5, 12)
    assert_close(agrbench.aggregate(rows, "nnm+by_feature", 2, plugins=(file,)), (wide * rows).sum(axis=0), rows)


def test_boolean_columns_are_equal_shares_and_a_column_without_any_is_zero(plugin: Write) -> None:
    rows = np.array([[1.0, 10, 100], [3, 30, 300], [8, 80, 800]])
    table = "torch.tensor([[True, False, True], [True, False, True], [False, False, True]])"
    file = plugin("some", weighing(table))
    assert_close(agrbench.aggregate(rows, "some", plugins=(file,)), np.array([2.0, 0.0, 400.0]), rows)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_boolean_rows_without_any_give_a_zero_step(plugin: Write, dtype: torch.dtype) -> None:
    file = plugin("nobody", weighing("torch.zeros(n, dtype=torch.bool)"))
    assert agrbench.aggregate(torch.ones(3, 2, dtype=dtype), "nobody", plugins=(file,)).tolist() == [0.0, 0.0]


def test_boolean_shares_are_as_exact_as_the_updates(plugin: Write) -> None:
    file = plugin("everybody", weighing("torch.ones(n, b, dtype=torch.bool)"))
    rows = normal(3, 4)
    for spec in ("everybody", "fedavg"):
        assert_close(agrbench.aggregate(rows, spec, plugins=(file,)), rows.mean(axis=0), rows)


def test_function_weights_are_asked_block_by_block_and_the_rule_once(plugin: Write) -> None:
    body = """
        def weigh(round: Round):
            round.memory["rounds"] = round.memory.get("rounds", 0) + 1
            round.memory["widths"] = []

            def largest(block):
                round.memory["widths"].append(block.shape[1])
                return block == block.amax(0)

            return largest

        defense = Defense(weigh)
    """
    wide = 60_000
    rows = torch.from_numpy(normal(5, wide))
    court = judge("largest", wide, plugin("largest", body))
    step = court.step(rows, 0, Server(), 1).step
    assert torch.equal(step, rows.amax(0))
    assert court.memories[0]["rounds"] == 1
    assert sum(court.memories[0]["widths"]) == wide
    assert len(court.memories[0]["widths"]) > 1  # a (clients, parameters) matrix of weights never exists


@pytest.mark.parametrize("amplified", [False, True])
def test_function_weights_may_be_boolean_or_numbers(plugin: Write, amplified: bool) -> None:
    rows, shapes = normal(4, 12), [(4, 3)]
    flags = plugin("flags", weighing("lambda block: block > 0"))
    numbers = plugin("numbers", weighing("lambda block: (block > 0) / (block > 0).sum(0).clamp(min=1)"))
    prefix = "amp+" if amplified else ""
    first = agrbench.aggregate(rows, f"{prefix}flags", 0, shapes, plugins=(flags,))
    second = agrbench.aggregate(rows.astype(np.float32), f"{prefix}numbers", 0, shapes, plugins=(numbers,))
    view = oracles.pooled_rows(rows, shapes, 2) if amplified else rows
    positive = (view > 0) / np.maximum((view > 0).sum(axis=0), 1)
    wide = oracles.spread(positive, shapes, 2) if amplified else positive
    assert_close(first, (wide * rows).sum(axis=0), rows)
    # Shares such as 1/3, and the updates, were rounded to float32.
    assert second == pytest.approx((wide * rows).sum(axis=0), abs=1e-6 * np.abs(rows).max())


# ---------------------------------------------------------------- the rest of a verdict

MEAN = "torch.ones(len(round.view), dtype=torch.bool)"


def verdict(more: str) -> str:
    return f"""
        def weigh(round: Round):
            return Verdict({MEAN}, {more})

        defense = Defense(weigh)
    """


def test_verdict_adds_the_previous_step(plugin: Write) -> None:
    rows, previous = normal(3, 4), normal(1, 4, 1)[0]
    file = plugin("memory_of", verdict("previous=-0.5"))
    step = agrbench.aggregate(rows, "memory_of", plugins=(file,), previous=previous)
    assert_close(step, rows.mean(axis=0) - 0.5 * previous, rows)


def test_previous_step_is_zero_unless_given_and_a_root_must_be_given(plugin: Write) -> None:
    rows = normal(3, 4)
    last = plugin("last", verdict("previous=0.5"))
    assert_close(agrbench.aggregate(rows, "last", plugins=(last,)), rows.mean(axis=0), rows)
    with pytest.raises(AgrbenchError, match="root="):
        agrbench.aggregate(rows, "fltrust")


def test_previous_step_goes_in_unamplified(plugin: Write) -> None:
    rows, previous = normal(3, 4), normal(1, 4, 1)[0]
    file = plugin("memory_of", verdict("previous=1.0"))
    step = agrbench.aggregate(rows, "amp+memory_of", 0, [(2, 2)], plugins=(file,), previous=previous)
    assert_close(step, rows.mean(axis=0) + previous, rows)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_noise_has_the_deviation_that_the_verdict_names(plugin: Write, dtype: torch.dtype) -> None:
    file = plugin("noisy", verdict("noise=0.5"))
    rows = torch.zeros(3, 40_000, dtype=dtype)
    step = agrbench.aggregate(rows, "noisy", plugins=(file,))
    assert step.dtype == dtype
    # Of 40,000 draws the sample deviation is within 2% and the mean within 0.0125 at five sigma.
    assert float(step.std()) == pytest.approx(0.5, rel=0.02)
    assert abs(float(step.mean())) < 0.0125


def test_noise_depends_on_the_seed_and_the_round_and_on_nothing_else(plugin: Write) -> None:
    file = plugin("noisy", verdict("noise=1.0"))
    rows = torch.zeros(3, 8)

    def noise(seed: int, number: int) -> list[float]:
        step: list[float] = judge("noisy", 8, file, seed=seed).step(rows, 0, Server(), number).step.tolist()
        return step

    assert noise(0, 1) == noise(0, 1)
    assert noise(0, 1) != noise(1, 1)
    assert noise(0, 1) != noise(0, 2)


def test_bare_weights_and_a_verdict_of_them_are_the_same(plugin: Write) -> None:
    rows = normal(4, 3)
    file = plugin("plain", verdict(""))
    assert (agrbench.aggregate(rows, "plain", plugins=(file,)) == agrbench.aggregate(rows, "fedavg")).all()
    given = agrbench.weigh(rows, "krum", 0)
    assert isinstance(given, Verdict)
    assert (given.previous, given.noise, tuple(given.exclude)) == (0, 0, ())


# ---------------------------------------------------------------- stages of one's own

DROP = """
    def keep(layout, rng, restore, *, first: int = 2):
        feature_of = torch.full((layout.parameters,), -1)
        feature_of[:first] = torch.arange(first)
        return Columns(
            lambda rows, out=None: torch.index_select(rows, 1, torch.arange(first), out=out),
            feature_of,
            Layout((Layer(1, first),)),
        )

    stage = Stage(columns=keep)
"""

PAIRS = """
    def pairs(round: Round):
        n = len(round.view)
        mix = torch.zeros((n + 1) // 2, n, dtype=torch.float64)
        for client in range(n):
            mix[client // 2, client] = 1.0
        return mix / mix.sum(1, keepdim=True)

    stage = Stage(mix=pairs, rows=lambda n: (n + 1) // 2)
"""

WATCH = """
    def watch(round: Round):
        round.memory.update(
            clients=round.clients, byzantine=round.byzantine, number=round.number, norms=round.norms.clone(),
            view=round.view.clone(), updates=round.updates.clone(), distances=round.geometry.distances.clone(),
            layers=len(round.layout.layers), view_layers=len(round.view_layout.layers),
            seen=round.see(round.updates.clone()), draw=float(torch.rand((), generator=round.rng)),
        )
        return torch.ones(len(round.view), dtype=torch.bool)

    defense = Defense(watch)
"""


def test_dropped_coordinate_gets_the_mean_of_its_rows_weights(plugin: Write) -> None:
    rows = normal(5, 4)
    files = (plugin("keep", DROP), plugin("by_feature", weighing(RISING.format(n="n", b="b"))))
    step = agrbench.aggregate(rows, "keep+by_feature", 0, [(1, 4)], plugins=files)
    kept = rising(5, 2)
    wide = np.hstack([kept, np.repeat(kept.mean(axis=1, keepdims=True), 2, axis=1)])
    assert_close(step, (wide * rows).sum(axis=0), rows)


def test_dropped_coordinate_of_a_coordinate_rule_gets_the_mean_of_its_weights(plugin: Write) -> None:
    rows = normal(5, 6, seed=2)
    kept = oracles.trimmed_weights(rows[:, :2], 1)
    wide = np.hstack([kept, np.repeat(kept.mean(axis=1, keepdims=True), 4, axis=1)])
    step = agrbench.aggregate(rows, "keep+trimmed_mean", 1, [(1, 6)], plugins=(plugin("keep", DROP),))
    assert_close(step, (wide * rows).sum(axis=0), rows)


def test_what_one_stage_drops_stays_dropped_in_the_next(plugin: Write) -> None:
    rows = normal(5, 6, seed=3)
    kept = oracles.trimmed_weights(rows[:, :4].reshape(5, 2, 2).max(axis=2), 1)
    average = np.repeat(kept.mean(axis=1, keepdims=True), 2, axis=1)
    wide = np.hstack([np.repeat(kept, 2, axis=1), average])
    files = (plugin("keep", DROP),)
    step = agrbench.aggregate(rows, "keep(first=4)+amp+trimmed_mean", 1, [(1, 6)], plugins=files)
    assert_close(step, (wide * rows).sum(axis=0), rows)


def test_row_weights_reach_dropped_coordinates_as_they_are(plugin: Write) -> None:
    rows = normal(5, 6)
    step = agrbench.aggregate(rows, "keep+krum", 1, [(1, 6)], plugins=(plugin("keep", DROP),))
    assert (step == rows[int(np.argmax(oracles.krum(rows[:, :2], 1)))]).all()


def test_dropped_coordinates_go_back_through_the_mixing(plugin: Write) -> None:
    rows = normal(6, 4, seed=6)
    mixing = np.kron(np.eye(3), [0.5, 0.5])
    kept = oracles.trimmed_weights((mixing @ rows)[:, :2], 1)
    wide = mixing.T @ np.hstack([kept, np.repeat(kept.mean(axis=1, keepdims=True), 2, axis=1)])
    files = (plugin("keep", DROP), plugin("pairs", PAIRS))
    step = agrbench.aggregate(rows, "pairs+keep+trimmed_mean", 1, [(1, 4)], plugins=files)
    assert_close(step, (wide * rows).sum(axis=0), rows)


def test_stage_that_is_not_square_leaves_no_client_ids(plugin: Write) -> None:
    rows = torch.from_numpy(normal(5, 3))
    court = judge("pairs+watch", 3, plugin("pairs", PAIRS), plugin("watch", WATCH))
    outcome = court.step(rows, 2, Server(), 1)
    seen = court.memories[1]
    assert seen["clients"] is None
    assert seen["byzantine"] == 2
    mixed = np.stack([rows[:2].mean(0), rows[2:4].mean(0), rows[4]])
    assert_close(seen["updates"].numpy(), mixed, rows.numpy())
    assert_close(outcome.step.numpy(), mixed.mean(axis=0), rows.numpy())
    # M^T w: a client in a pair has half of a third, the one alone a third.
    assert outcome.weights.tolist() == pytest.approx([1 / 6] * 4 + [1 / 3], rel=CLOSE)
    assert outcome.distrusted is None


def test_square_stage_keeps_client_ids(plugin: Write) -> None:
    court = judge("nnm+watch", 3, plugin("watch", WATCH))
    court.step(torch.from_numpy(normal(5, 3)), 1, Server(), 1)
    assert court.memories[1]["clients"] == (0, 1, 2, 3, 4)


def test_requirement_is_checked_for_the_rows_that_a_stage_leaves(plugin: Write) -> None:
    file = plugin("pairs", PAIRS)
    with pytest.raises(Inapplicable, match="n=3, f=1"):
        agrbench.aggregate(normal(6, 3), "pairs+krum", 1, plugins=(file,))
    assert np.isfinite(agrbench.aggregate(normal(9, 3), "pairs+krum", 1, plugins=(file,))).all()


@pytest.mark.parametrize("spec", ["watch", "amp+watch", "nnm+watch", "amp+nnm+watch", "nnm+amp+watch", "pairs+watch"])
def test_rule_sees_the_view_the_mixed_originals_and_their_norms(plugin: Write, spec: str) -> None:
    rows, shapes = normal(5, 9, seed=7), [(2, 3), (3,)]
    files = (plugin("watch", WATCH), plugin("pairs", PAIRS))
    court = judge(spec, 9, *files, layout=shapes)
    court.step(torch.from_numpy(rows), 2, Server(), 7)
    seen = court.memories[spec.count("+")]
    view, updates = rows, rows
    for stage in spec.split("+")[:-1]:
        if stage == "amp":
            view = oracles.pooled_rows(view, shapes, 2)
        else:
            mixing = oracles.nnm(view, 2) if stage == "nnm" else np.kron(np.eye(3), [0.5, 0.5])[:, :5]
            mixing = mixing / mixing.sum(axis=1, keepdims=True)
            view, updates = mixing @ view, mixing @ updates
    assert_close(seen["view"].numpy(), view, rows)
    assert_close(seen["updates"].numpy(), updates, rows)
    assert_close(seen["norms"].numpy(), np.linalg.norm(updates, axis=1), rows)
    # Squared distances of mixed rows come from the unmixed ones: 1e-12 of those.
    assert np.abs(seen["distances"].numpy() - oracles.distances(view) ** 2).max() < 1e-11
    assert (seen["byzantine"], seen["number"], seen["layers"], seen["view_layers"]) == (2, 7, 1, 1)
    through = oracles.pooled_rows(updates, shapes, 2) if "amp" in spec else updates
    assert_close(seen["seen"].numpy(), through, rows)


# ---------------------------------------------------------------- plugins that are broken

BROKEN = {
    "nan": weighing("torch.full((n,), float('nan'))"),
    "infinite": weighing("torch.full((n, b), float('inf'))"),
    "short": weighing("torch.ones(n - 1)"),
    "transposed": weighing("torch.ones(b, n)"),
    "list": weighing("[1.0] * n"),
    "nothing": weighing("None"),
    "raising": weighing("round.no_such_thing"),
    "dividing": weighing("1 / 0"),
    "verdict_of_nan": weighing("Verdict(torch.full((n,), float('nan')))"),
    "function_of_nan": weighing("lambda block: block * float('nan')"),
    "function_too_narrow": weighing("lambda block: block[:, 1:]"),
    "function_of_one_weight_a_row": weighing("lambda block: block[:, 0]"),
    "function_raising": weighing("lambda block: block.no_such_thing"),
    "function_of_nothing": weighing("lambda block: None"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_rule_is_blamed_by_its_file(plugin: Write, name: str) -> None:
    file = plugin(name, BROKEN[name])
    for spec in (name, f"nnm+{name}"):
        with pytest.raises(PluginError) as caught:
            agrbench.aggregate(normal(4, 3), spec, 1, plugins=(file,))
        assert file in str(caught.value)


def mixing(expression: str) -> str:
    return f"""
        def mix(round: Round):
            n = len(round.view)
            return {expression}

        stage = Stage(mix=mix)
    """


BROKEN_STAGES = {
    "mix_of_nan": mixing("torch.full((n, n), float('nan'))"),
    "mix_short": mixing("torch.eye(n)[1:]"),
    "mix_of_weights": mixing("torch.ones(n)"),
    "mix_of_nothing": mixing("None"),
    "mix_raising": mixing("round.no_such_thing"),
    "columns_raising": """
        def columns(layout, rng, restore):
            raise ValueError("no columns today")

        stage = Stage(columns=columns)
    """,
    "view_raising": """
        def view(rows, out=None):
            raise ValueError("no view today")

        def columns(layout, rng, restore):
            return Columns(view, None, layout)

        stage = Stage(columns=columns)
    """,
}


@pytest.mark.parametrize("name", BROKEN_STAGES)
def test_broken_stage_is_blamed_by_its_file(plugin: Write, name: str) -> None:
    file = plugin(name, BROKEN_STAGES[name])
    with pytest.raises(PluginError) as caught:
        agrbench.aggregate(normal(4, 3), f"{name}+krum", 0, [(1, 3)], plugins=(file,))
    assert file in str(caught.value)


@pytest.mark.parametrize("banned", [99, -1])
def test_rule_that_bans_a_client_who_does_not_exist_is_blamed_by_its_file(plugin: Write, banned: int) -> None:
    file = plugin("ban", verdict(f"exclude=({banned},)"))
    court, rows = judge("ban", 3, file), torch.from_numpy(normal(4, 3))
    with pytest.raises(PluginError) as caught:
        court.step(rows, 0, Server(), 2, court.step(rows, 0, Server(), 1).exclude)
    assert file in str(caught.value)


# ---------------------------------------------------------------- rows that are not finite

SPECS = ["fedavg", "krum", "cosden", "euden", "mgden", "median", "trimmed_mean", "fltrust", "fang", "fang_lrr"]
STACKED = [
    *SPECS,
    "fang_err",
    "amp+cosden",
    "amp+median",
    "amp+fltrust",
    "amp+fang",
    "nnm+krum",
    "amp+nnm+trimmed_mean",
]


@pytest.mark.parametrize("spec", STACKED)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("f", [0, 1, 2, 3])
def test_row_of_no_finite_norm_is_left_out_and_the_bound_lowered(spec: str, bad: float, f: int) -> None:
    rows = normal(10, 6, seed=9).astype(np.float32)
    broken = rows.copy()
    broken[[2, 5]] = bad
    more: dict[str, Any] = {"layout": [(2, 3)], "root": rows[0], "evaluate": by_size}
    left = agrbench.aggregate(np.delete(rows, [2, 5], axis=0), spec, max(f - 2, 0), **more)
    assert (agrbench.aggregate(broken, spec, f, **more) == left).all()


@pytest.mark.parametrize("place", [0, 299_999])
def test_a_step_of_one_entry_that_is_not_finite_is_not_taken(place: int, plugin: Write) -> None:
    rows = torch.zeros(3, 300_000)
    rows[1, place] = 1e19
    court = judge("huge", 300_000, plugin("huge", "defense = Defense(lambda round: torch.full((3,), 1e30))"))
    outcome = court.step(rows, 0, Server(), 1)
    assert outcome.empty == "the step is not finite"
    assert not outcome.step.any()


def test_one_entry_that_is_not_finite_is_enough_to_reject_a_row() -> None:
    rows = normal(4, 3)
    for bad in (np.nan, np.inf, -np.inf, 1e200):
        broken = rows.copy()
        broken[1, 2] = bad
        assert (agrbench.aggregate(broken, "fedavg") == agrbench.aggregate(rows[[0, 2, 3]], "fedavg")).all()


def test_large_row_of_finite_norm_is_not_rejected() -> None:
    rows = np.array([[1.0, 0.0], [2.0, 0.0], [1e30, 0.0]])
    assert agrbench.aggregate(rows, "median").tolist() == [2.0, 0.0]
    # In float32 its square overflows, and the median of the other two is left.
    assert agrbench.aggregate(rows.astype(np.float32), "median").tolist() == [1.5, 0.0]
    # So it does for updates of one parameter, whose norm alone is finite.
    assert agrbench.aggregate(rows[:, :1].astype(np.float32), "median").tolist() == [1.5]


@given(oracles.updates((3, 8), (1, 12)), st.data())
def test_step_is_never_nan(rows: Array, data: st.DataObject) -> None:
    hostile = (rows * 2.0 ** -int(np.log2(np.abs(rows).max() + 1e-300))).astype(np.float32)
    entries = st.sampled_from([np.nan, np.inf, -np.inf, 1e30, 1e19, -1e19, 1e-30, -1e-45, 0.0])
    for _ in range(data.draw(st.integers(1, 6))):
        hostile[data.draw(st.integers(0, len(rows) - 1)), data.draw(st.integers(0, rows.shape[1] - 1))] = data.draw(
            entries
        )
    spec, f = data.draw(st.sampled_from(STACKED)), data.draw(st.integers(0, 2))
    root = np.ones(rows.shape[1], dtype=np.float32) * np.float32(data.draw(st.sampled_from([0.0, 1e-3, 100.0])))
    try:
        step = agrbench.aggregate(hostile, spec, f, [(1, rows.shape[1])], root=root, evaluate=by_size)
    except Inapplicable:
        return
    assert np.isfinite(step).all()


@pytest.mark.parametrize("spec", ["fedavg", "krum", "fltrust"])
def test_aggregate_says_so_when_no_row_remains(spec: str) -> None:
    with pytest.raises(Inapplicable):
        agrbench.aggregate(np.full((5, 3), np.nan), spec, 1, root=np.ones(3), evaluate=by_size)


def test_aggregate_says_so_when_the_rule_is_not_defined_for_the_rows_that_remain() -> None:
    rows = normal(4, 3)
    rows[:2] = np.nan
    with pytest.raises(Inapplicable, match="n=2, f=0"):
        agrbench.aggregate(rows, "krum", 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_weigh_refuses_rows_whose_squared_norm_is_not_finite(bad: float) -> None:
    rows = normal(4, 3).astype(np.float32)
    rows[1] = bad
    with pytest.raises(AgrbenchError, match="rows"):
        agrbench.weigh(rows, "cosden", 1)


def test_judge_gives_a_zero_step_and_the_reason_when_the_rule_is_not_defined_for_the_rest() -> None:
    rows = torch.from_numpy(normal(4, 3))
    rows[:2] = torch.nan
    outcome = judge("krum", 3).step(rows, 0, Server(), 1)
    assert outcome.step.tolist() == [0.0, 0.0, 0.0]
    assert outcome.weights.tolist() == [0.0, 0.0, 0.0, 0.0]
    assert outcome.empty is not None
    assert "n=2, f=0" in outcome.empty
    assert outcome.rejected.tolist() == [True, True, False, False]
    empty = judge("fedavg", 3).step(torch.full((2, 3), torch.nan), 0, Server(), 1)
    assert (empty.step.tolist(), empty.empty is None) == ([0.0, 0.0, 0.0], False)


def test_rejected_rows_keep_the_others_ids(plugin: Write) -> None:
    rows = torch.from_numpy(normal(5, 3))
    rows[[0, 3]] = torch.inf
    court = judge("watch", 3, plugin("watch", WATCH))
    outcome = court.step(rows, 1, Server(), 1)
    assert court.memories[0]["clients"] == (1, 2, 4)
    assert court.memories[0]["byzantine"] == 0
    assert outcome.weights.tolist() == pytest.approx([0, 1 / 3, 1 / 3, 0, 1 / 3], rel=1e-6)
    assert outcome.rejected.tolist() == [True, False, False, True, False]
    assert outcome.empty is None


# ---------------------------------------------------------------- what a judge remembers

COUNT = """
    def count(round: Round):
        past = round.memory.setdefault("past", torch.zeros(3, dtype=round.view.dtype))
        past += round.view.sum(0)
        round.memory["rounds"] = round.memory.get("rounds", 0) + 1
        share = torch.zeros(len(round.view))
        share[0] = round.memory["rounds"] + float(torch.rand((), generator=round.rng))
        return share

    defense = Defense(count)
"""


def test_memory_lives_from_round_to_round_and_no_longer_than_its_judge(plugin: Write) -> None:
    file = plugin("count", COUNT)
    rows = torch.ones(2, 3)
    court = judge("count", 3, file)
    steps = [int(court.step(rows, 0, Server(), number).step[0]) for number in (1, 2, 3)]
    assert steps == [1, 2, 3]
    assert court.memories[0]["past"].tolist() == [6.0, 6.0, 6.0]
    assert int(judge("count", 3, file).step(rows, 0, Server(), 1).step[0]) == 1


def test_aggregate_remembers_nothing(plugin: Write) -> None:
    file = plugin("count", COUNT)
    steps = [agrbench.aggregate(np.ones((2, 3)), "count", plugins=(file,)).tolist() for _ in range(2)]
    assert steps[0] == steps[1]


def test_every_part_of_a_stack_has_its_own_memory(plugin: Write) -> None:
    body = """
        def remember(round: Round):
            round.memory["rounds"] = round.memory.get("rounds", 0) + 1
            return torch.eye(len(round.view))

        stage = Stage(mix=remember)
    """
    court = judge("remember+remember+count", 3, plugin("remember", body), plugin("count", COUNT))
    for number in (1, 2):
        court.step(torch.ones(2, 3), 0, Server(), number)
    assert [court.memories[place]["rounds"] for place in range(3)] == [2, 2, 2]


def test_rehearsal_decides_alike_and_leaves_memory_untouched(plugin: Write) -> None:
    court = judge("amp(kernel=1)+count", 3, plugin("count", COUNT), layout=[(1, 3)])
    rows = torch.ones(2, 3)
    court.step(rows, 0, Server(), 1)
    trials = [court.rehearse().step(5 * rows, 0, Server(), 2).step for _ in range(3)]
    assert court.memories[1]["rounds"] == 1
    assert court.memories[1]["past"].tolist() == [2.0, 2.0, 2.0]
    real = court.step(5 * rows, 0, Server(), 2).step
    assert all(torch.equal(trial, real) for trial in trials)


def test_insider_is_answered_by_the_whole_stack_and_nothing_of_it_is_kept(tmp_path: Path, plugin: Write) -> None:
    body = """
        from agrbench.plugins import Attack

        def forge(insider):
            rows = torch.full((insider.malicious, 3), 9.0)
            first, second = insider.respond(rows), insider.respond(rows)
            assert torch.equal(first, second)
            return first.expand(insider.malicious, -1)

        attack = Attack(forge=forge)
    """
    files = (plugin("ask", body), plugin("count", COUNT))
    honest = normal(3, 3).astype(np.float32)
    forged = agrbench.forge("ask", honest, 2, defense="count", rng=4, plugins=files)
    together = np.vstack([honest, np.full((2, 3), 9.0, dtype=np.float32)])
    assert (forged[1] == agrbench.aggregate(together, "count", 2, seed=4, plugins=files)).all()
    with pytest.raises(AgrbenchError, match="defense="):
        agrbench.forge("ask", honest, 2, plugins=files)


def test_buffers_of_one_round_do_not_show_in_the_next() -> None:
    court = judge("amp+median", 4, layout=[(2, 2)])
    first, second = torch.from_numpy(normal(5, 4, 1)), torch.from_numpy(normal(3, 4, 2))
    court.step(first, 0, Server(), 1)
    fresh = judge("amp+median", 4, layout=[(2, 2)])
    assert torch.equal(court.step(second, 0, Server(), 2).step, fresh.step(second, 0, Server(), 2).step)


def test_excluded_clients_are_left_out_and_the_bound_lowered(plugin: Write) -> None:
    rows = torch.from_numpy(normal(7, 3))
    rest = torch.cat([rows[:2], rows[3:]])
    outcome = judge("trimmed_mean", 3).step(rows, 2, Server(), 1, excluded=[2])
    assert torch.equal(outcome.step, judge("trimmed_mean", 3).step(rest, 1, Server(), 1).step)
    assert outcome.weights[2] == 0
    assert not outcome.rejected.any()
    court = judge("watch", 3, plugin("watch", WATCH))
    court.step(rows, 2, Server(), 1, excluded=[2])
    assert (court.memories[0]["clients"], court.memories[0]["byzantine"]) == ((0, 1, 3, 4, 5, 6), 1)


def test_row_both_excluded_and_not_finite_lowers_the_bound_once(plugin: Write) -> None:
    rows = torch.from_numpy(normal(7, 3))
    rows[2] = torch.nan
    court = judge("watch", 3, plugin("watch", WATCH))
    court.step(rows, 2, Server(), 1, excluded=[2])
    assert court.memories[0]["byzantine"] == 1


def test_exclusion_begins_with_the_next_round_and_lasts(plugin: Write) -> None:
    body = """
        def ban(round: Round):
            everybody = torch.ones(len(round.view), dtype=torch.bool)
            return Verdict(everybody, exclude=(round.number,) if round.number < 3 else ())

        defense = Defense(ban)
    """
    file = plugin("ban", body)
    run = Run(Cell("digits", "ban", "none", clients=5, malicious=0, rounds=4), Registry([file]))
    heard = [(run.round(number)[0].weights > 0).tolist() for number in (1, 2, 3, 4)]
    assert heard == [
        [True, True, True, True, True],
        [True, False, True, True, True],
        [True, False, False, True, True],
        [True, False, False, True, True],
    ]


def test_distrusted_are_those_to_whom_a_yes_or_no_verdict_says_no_and_those_rejected() -> None:
    rows = torch.from_numpy(normal(6, 3))
    rows[4] = torch.nan
    outcome = judge("krum", 3).step(rows, 1, Server(), 1)
    pick = int(outcome.weights.argmax())
    assert outcome.distrusted is not None
    assert outcome.distrusted.tolist() == [client != pick for client in range(6)]
    assert judge("nnm+krum", 3).step(rows, 1, Server(), 1).distrusted is None
    assert judge("median", 3).step(rows, 1, Server(), 1).distrusted is None


def test_outcome_weights_are_each_clients_share_of_the_step() -> None:
    rows = normal(7, 12, seed=3)
    mixed = judge("nnm+krum", 12).step(torch.from_numpy(rows), 2, Server(), 1)
    mixing_of = oracles.nnm(rows, 2)
    assert any(mixed.weights.numpy() == pytest.approx(line, abs=CLOSE) for line in mixing_of)
    assert_close(oracles.weighted(mixed.weights.numpy(), rows), mixed.step.numpy(), rows)
    # By column: the mean absolute weight over all coordinates.
    trimmed = judge("trimmed_mean", 12).step(torch.from_numpy(rows), 2, Server(), 1)
    assert trimmed.weights.numpy() == pytest.approx(oracles.trimmed_weights(rows, 2).mean(axis=1), rel=CLOSE)


# ---------------------------------------------------------------- the caller's arrays

EVERY = [*STACKED, "sample+cosden", "mean_pool+krum", "nnm+fltrust", "nnm+amp+median"]


@pytest.mark.parametrize("spec", EVERY)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nothing_that_the_caller_passed_is_changed(spec: str, dtype: str) -> None:
    rows, root = normal(7, 6, seed=1).astype(dtype), normal(1, 6, seed=2).astype(dtype)[0]
    before = rows.tobytes(), root.tobytes()
    more: dict[str, Any] = {"layout": [(2, 3)], "evaluate": by_size}
    agrbench.aggregate(rows, spec, 2, root=root, previous=root, model=root, **more)
    agrbench.weigh(rows, spec, 2, root=root, **more)
    assert (rows.tobytes(), root.tobytes()) == before
    tensors = torch.from_numpy(rows), torch.from_numpy(root)
    agrbench.aggregate(tensors[0], spec, 2, root=tensors[1], **more)
    assert (rows.tobytes(), root.tobytes()) == before


@pytest.mark.parametrize("spec", EVERY)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_result_has_the_kind_and_dtype_of_the_updates(spec: str, dtype: str) -> None:
    rows = normal(7, 6, seed=1).astype(dtype)
    root = rows.sum(axis=0).astype("float32")  # of another dtype, even
    array = agrbench.aggregate(rows, spec, 2, [(2, 3)], root=root, evaluate=by_size)
    assert (type(array), array.dtype, array.shape) == (np.ndarray, np.dtype(dtype), (6,))
    roots = torch.from_numpy(root)
    tensor = agrbench.aggregate(torch.from_numpy(rows), spec, 2, [(2, 3)], root=roots, evaluate=by_size)
    assert (type(tensor), tensor.dtype, tuple(tensor.shape)) == (Tensor, getattr(torch, dtype), (6,))
    assert (tensor.numpy() == array).all()


@pytest.mark.parametrize("spec", ["krum", "trimmed_mean", "amp+cosden", "nnm+median"])
def test_step_shares_no_memory_with_the_updates(spec: str) -> None:
    rows = normal(7, 6)
    step = agrbench.aggregate(rows, spec, 1, [(2, 3)])
    assert not np.shares_memory(step, rows)


def locked(rows: Array) -> Array:
    rows = rows.copy()
    rows.flags.writeable = False
    return rows


STORED: dict[str, Callable[[Array], Array]] = {
    "by_column": np.asfortranarray,
    "with_gaps": lambda rows: np.repeat(rows, 2, axis=1)[:, ::2],
    "backwards": lambda rows: np.ascontiguousarray(rows[::-1])[::-1],
    "read_only": locked,
    "other_byte_order": lambda rows: rows.astype(">f8"),
}


@pytest.mark.parametrize("stored", STORED)
def test_any_numpy_array_of_floats_will_do(stored: str) -> None:
    rows = normal(7, 6)
    for spec in ("fedavg", "krum", "amp+median"):
        step = agrbench.aggregate(STORED[stored](rows), spec, 1, [(2, 3)])
        assert_close(step, agrbench.aggregate(rows, spec, 1, [(2, 3)]), rows)


@pytest.mark.parametrize("spec", EVERY)
def test_thread_count_is_never_touched(spec: str) -> None:
    with using(2):
        rows = normal(7, 6)
        agrbench.aggregate(rows, spec, 2, [(2, 3)], root=rows[0], evaluate=by_size)
        agrbench.weigh(rows, spec, 2, [(2, 3)], root=rows[0], evaluate=by_size)
        assert torch.get_num_threads() == 2


@pytest.mark.parametrize("bad", [np.ones(3), np.ones((2, 2, 2)), np.ones((2, 3), dtype=int), np.ones((0, 3))])
def test_updates_that_are_no_matrix_of_floats_are_refused(bad: Any) -> None:
    with pytest.raises(AgrbenchError, match="pass floats of shape"):
        agrbench.aggregate(bad, "fedavg")


def test_complex_weights_are_refused(plugin: Write) -> None:
    """torch would drop the imaginary part and only warn."""
    file = plugin("complex", weighing("torch.ones(n, dtype=torch.complex64)"))
    with pytest.raises(AgrbenchError, match="weights are complex numbers"):
        agrbench.aggregate(normal(5, 4), "complex", plugins=(file,))


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_root_update_that_is_not_finite_is_refused(wrong: float) -> None:
    """fltrust would give every client weight 0 and return a step of zeros."""
    with pytest.raises(AgrbenchError, match="root holds NaN or infinity"):
        agrbench.aggregate(normal(5, 4), "fltrust", byzantine=1, root=np.array([1.0, wrong, 0.0, 0.0]))
