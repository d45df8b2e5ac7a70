"""The attacks of AgrAmplifier's released code, each against an oracle of its own."""

import math
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Generator

import agrbench
from agrbench import Cell
from agrbench.clients.insider import Attacker
from agrbench.data.examples import Examples
from agrbench.errors import AgrbenchError, SpecError
from agrbench.plugins import Attack
from agrbench.plugins.registry import Registry
from agrbench.simulation.run import Run
from tests.helpers import oracles
from tests.helpers.oracles import Array

DTYPES = st.sampled_from(["float32", "float64"])


@cache
def registry() -> Registry:
    return Registry()


# ---------------------------------------------------------------- the densest neighbourhoods, all pairs counted


def unit(rows: Array) -> Array:
    """Each row at norm 1; a zero row stays zero."""
    return np.array([row / oracles.norm(row) if oracles.norm(row) > 0 else row for row in rows])


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
    [block] = run.training.poisoned(run.cohort, run.attack).blocks
    [poisoned] = block.batches([])
    wrong = set(poisoned.labels.argmax(-1).tolist())
    assert len(own) <= 4
    assert wrong == set(range(10))


# ---------------------------------------------------------------- ascent, whose attackers train on wrong labels too

ADAM = "adam(rate=0.01,epochs=2,batches=2,poisoned='after')"


def test_released_ascent_sends_minus_the_clean_update_and_trains_on_labels_of_all() -> None:
    clean = np.array([[1.0, -2.0]])
    rows = agrbench.forge("gradient_ascent(version='released')", np.ones((3, 2)), 1, clean=clean, poisoned=9 * clean)
    assert rows.tolist() == (-clean).tolist()
    shard = Examples(torch.zeros(6, 2), torch.zeros(6, dtype=torch.long), 3)
    wrong = poison("gradient_ascent(version='released')", shard, torch.tensor([1, 1, 2, 2, 1, 2, 1]))
    assert torch.equal(wrong.features, shard.features)
    assert set(wrong.labels.tolist()) == {1, 2}


@pytest.mark.trap("gradient_ascent")
def test_only_released_ascent_trains_on_wrong_labels() -> None:
    clean = np.array([[1.0, -2.0]])
    assert agrbench.forge("gradient_ascent", np.ones((3, 2)), 1, clean=clean).tolist() == (-clean).tolist()
    with pytest.raises(AgrbenchError, match="pass poisoned="):
        agrbench.forge("gradient_ascent(version='released')", np.ones((3, 2)), 1, clean=clean)


@pytest.mark.peer("gradient_ascent", of="AgrAmplifier's code, restated")
def test_released_ascent_leaves_its_wrong_steps_in_the_state_of_adam() -> None:
    """The first attacked round sends the same; then the attackers' own optimizers differ. Plain sgd has no state."""
    settings: dict[str, Any] = {"clients": 4, "malicious": 1, "rounds": 3, "start": 1}
    for schedule, differ in ((ADAM, True), ("sgd(rate=0.1)", False)):
        curves = []
        for attack in ("gradient_ascent", "gradient_ascent(version='released')"):
            run = Run(Cell("digits", "fedavg", attack, schedule=schedule, **settings), registry())
            models = []
            for number in (1, 2, 3):
                run.round(number)
                models.append(run.state.model.clone())
            curves.append(models)
        assert torch.equal(curves[0][0], curves[1][0])
        assert torch.equal(curves[0][2], curves[1][2]) == (not differ)


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
