"""Each shipped attack against its oracle: what malicious clients train on, and what they send."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Generator, Tensor

import agrbench
from agrbench.cli import list as listing
from agrbench.data.examples import Examples
from agrbench.errors import AgrbenchError, SpecError
from agrbench.plugins.registry import Registry
from tests.helpers import oracles
from tests.helpers.forging import images, poison, record, table, trigger
from tests.helpers.oracles import Array
from tests.helpers.updates import normal

DIRECTIONS = ["std", "sign", "unit"]


# ---------------------------------------------------------------- what is sent

ORACLES: dict[str, Callable[[Array, Array, int], Array]] = {
    "label_flip": lambda clean, poisoned, honest: oracles.label_flip(clean, poisoned),
    "gradient_ascent": lambda clean, poisoned, honest: oracles.gradient_ascent(clean, poisoned),
    "flip_ascent": lambda clean, poisoned, honest: oracles.flip_ascent(clean, poisoned),
    "scaling": lambda clean, poisoned, honest: oracles.scaling(poisoned, honest),
    "none": lambda clean, poisoned, honest: clean,
}


@pytest.mark.oracle(*ORACLES)
@pytest.mark.parametrize("attack", ORACLES)
@given(oracles.updates(), st.integers(1, 6), st.sampled_from(["float32", "float64"]))
def test_attack_relates_clean_and_poisoned_updates_as_defined(
    attack: str, honest: Array, malicious: int, dtype: str
) -> None:
    clean, poisoned = (normal(malicious, honest.shape[1], seed).astype(dtype) for seed in (1, 2))
    rows = agrbench.forge(attack, honest.astype(dtype), malicious, clean=clean, poisoned=poisoned)
    expected = ORACLES[attack](clean.astype(np.float64), poisoned.astype(np.float64), len(honest))
    assert rows.dtype == np.dtype(dtype)
    # One subtraction, or a product with a factor that is rounded itself.
    assert np.abs(rows - expected).max() <= 4 * np.finfo(dtype).eps * np.abs(expected).max()


@pytest.mark.trap("scaling")
@pytest.mark.parametrize(("honest", "malicious", "factor"), [(35, 15, 50 / 15), (9, 1, 10.0), (1, 3, 4 / 3)])
def test_scaling_multiplies_by_all_clients_over_the_malicious(honest: int, malicious: int, factor: float) -> None:
    assert oracles.scaling_factor(honest, malicious) == factor
    rows = agrbench.forge("scaling", np.ones((honest, 3)), malicious, poisoned=np.ones((malicious, 3)))
    # One product.
    assert rows == pytest.approx(factor, rel=1e-15)


@pytest.mark.trap("scaling")
def test_scaling_uses_the_actual_number_of_malicious_clients_not_the_servers_bound() -> None:
    rows = agrbench.forge("scaling", np.ones((6, 2)), 2, poisoned=np.ones((2, 2)), byzantine=3)
    assert rows.tolist() == [[4.0, 4.0], [4.0, 4.0]]


@pytest.mark.parametrize("attack", [*ORACLES, "min_max"])
@pytest.mark.parametrize("malicious", [0, 1, 20])
@pytest.mark.parametrize("kind", ["torch", "numpy"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_row_is_forged_for_each_malicious_client(attack: str, malicious: int, kind: str, dtype: str) -> None:
    arrays = [normal(n, 5).astype(dtype) for n in (4, malicious, malicious)]
    passed: list[Any] = [torch.from_numpy(a) if kind == "torch" else a for a in arrays]
    honest, clean, poisoned = passed
    rows: Any = agrbench.forge(attack, honest, malicious, clean=clean, poisoned=poisoned)
    assert tuple(rows.shape) == (malicious, 5)
    assert isinstance(rows, Tensor if kind == "torch" else np.ndarray)
    assert str(rows.dtype).removeprefix("torch.") == dtype


@pytest.mark.parametrize("attack", [*ORACLES, *(f"min_max(direction={d!r})" for d in DIRECTIONS)])
def test_forging_changes_nothing_that_was_passed(attack: str) -> None:
    given_arrays = [normal(n, 5, seed) for seed, n in enumerate((4, 2, 2))]
    before = [a.tobytes() for a in given_arrays]
    honest, clean, poisoned = given_arrays
    agrbench.forge(attack, honest, 2, clean=clean, poisoned=poisoned)
    tensors = [torch.from_numpy(a) for a in given_arrays]
    agrbench.forge(attack, tensors[0], 2, clean=tensors[1], poisoned=tensors[2])
    assert [a.tobytes() for a in given_arrays] == before


@pytest.mark.parametrize("attack", [*ORACLES, "min_max"])
@pytest.mark.parametrize("kind", ["torch", "numpy"])
def test_forged_rows_are_the_callers_own_to_change(attack: str, kind: str) -> None:
    arrays = [normal(n, 5, seed) for seed, n in enumerate((4, 2, 2))]
    before = [a.copy() for a in arrays]
    passed: list[Any] = [torch.from_numpy(a) if kind == "torch" else a for a in arrays]
    honest, clean, poisoned = passed
    rows: Any = agrbench.forge(attack, honest, 2, clean=clean, poisoned=poisoned)
    second = rows[1].tolist()
    rows[0] += 1
    assert rows[1].tolist() == second
    assert all((a == b).all() for a, b in zip(arrays, before, strict=True))


@pytest.mark.parametrize(
    ("attack", "keyword"),
    [("label_flip", "poisoned="), ("gradient_ascent", "clean="), ("flip_ascent", "(clean|poisoned)="),
     ("scaling", "poisoned="), ("none", "clean=")],
)  # fmt: skip
def test_missing_updates_are_named_by_the_keyword_to_pass(attack: str, keyword: str) -> None:
    with pytest.raises(AgrbenchError, match=f"pass {keyword}"):
        agrbench.forge(attack, np.ones((3, 2)), 2)


@pytest.mark.parametrize(("attack", "keyword"), [("gradient_ascent", "clean"), ("label_flip", "poisoned")])
@pytest.mark.parametrize("shape", [(3, 5), (2, 4)])
def test_updates_of_a_wrong_shape_are_the_callers_fault_and_named(
    attack: str, keyword: str, shape: tuple[int, int]
) -> None:
    more: dict[str, Any] = {keyword: np.ones(shape)}
    with pytest.raises(AgrbenchError, match=rf"\b{keyword}\b"):
        agrbench.forge(attack, np.ones((4, 5)), 2, **more)


# ---------------------------------------------------------------- min-max


def reach(row: Array, honest: Array) -> float:
    return max(oracles.distance(row, other) for other in honest)


@pytest.mark.trap("min_max")
@pytest.mark.parametrize("direction", DIRECTIONS)
@given(oracles.updates(), st.integers(1, 5))
def test_min_max_touches_the_honest_diameter_and_never_exceeds_it(
    direction: str, honest: Array, malicious: int
) -> None:
    rows = agrbench.forge(f"min_max(direction={direction!r})", honest, malicious)
    assert (rows == rows[0]).all()
    diameter = oracles.diameter(honest)
    # Where all updates lie far from the origin, a row's own rounding is a share of their size and not of the diameter.
    rounding = 8 * np.finfo(float).eps * np.abs(honest).max() * honest.shape[1] ** 0.5
    assert reach(rows[0], honest) <= diameter * (1 + 1e-12) + rounding
    if oracles.norm(oracles.directions(honest)[direction]) > 0 and rounding < 1e-9 * diameter:
        # The largest gamma makes one distance equal to the diameter.
        assert reach(rows[0], honest) >= diameter * (1 - 1e-6)


@pytest.mark.oracle("min_max")
@pytest.mark.parametrize("direction", DIRECTIONS)
@given(oracles.updates((2, 12)))
def test_min_max_equals_the_exact_gamma_and_the_bisected_one(direction: str, honest: Array) -> None:
    p = oracles.directions(honest)[direction]
    mean, diameter = honest.mean(axis=0), oracles.diameter(honest)
    assume(diameter > 1e-6 * np.abs(honest).max())  # below, gamma is made of rounding
    row = agrbench.forge(f"min_max(direction={direction!r})", honest, 1)[0]
    exact = mean + oracles.min_max_gamma(honest, p) * p
    halved = mean + oracles.bisect_gamma(honest, p) * p
    # gamma is a root of a difference: where that cancels, half of float64's digits are left.
    assert np.abs(row - exact).max() <= 1e-7 * diameter
    assert np.abs(row - halved).max() <= 1e-7 * diameter


@pytest.mark.trap("min_max")
@given(oracles.updates((2, 12)))
def test_min_max_in_float32_is_the_row_of_float64_rounded(honest: Array) -> None:
    single = agrbench.forge("min_max", honest.astype(np.float32), 2)
    assert single.dtype == np.float32
    # The updates are float32 numbers, so both start alike; the one rounding is the last.
    assert (single == agrbench.forge("min_max", honest, 2).astype(np.float32)).all()


@pytest.mark.trap("min_max")
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_min_max_of_equal_updates_is_their_mean(direction: str) -> None:
    honest = np.tile([1.0, -2.0, 0.5], (4, 1))
    # The diameter is 0, so there is nowhere else to go, whatever the direction; but for the mean's rounding.
    assert agrbench.forge(f"min_max(direction={direction!r})", honest, 2) == pytest.approx(honest[:2], rel=1e-15)


@pytest.mark.trap("min_max")
@pytest.mark.parametrize("direction", ["sign", "unit"])
def test_min_max_without_a_direction_is_the_mean(direction: str) -> None:
    honest = np.array([[1.0, 2.0], [-1.0, -2.0]])
    assert agrbench.forge(f"min_max(direction={direction!r})", honest, 1).tolist() == [[0.0, 0.0]]


@pytest.mark.trap("min_max")
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_min_max_of_one_honest_update_is_that_update(direction: str) -> None:
    # gamma is 0 but for the rounding of a unit vector.
    rows = agrbench.forge(f"min_max(direction={direction!r})", np.array([[3.0, -1.0]]), 2)
    assert rows == pytest.approx(np.array([[3.0, -1.0]] * 2), rel=1e-15)


@pytest.mark.trap("min_max")
def test_min_max_is_the_same_for_either_divisor_of_the_variance() -> None:
    """The direction's length cancels out of `gamma p`, so that dividing by `n` or by `n - 1` cannot show."""
    honest = normal(3, 4)
    p = oracles.directions(honest)["std"]
    # The definition divides by n - 1; two square roots in another order.
    assert -p == pytest.approx(honest.std(axis=0, ddof=1), rel=1e-14)
    row = agrbench.forge("min_max", honest, 1)[0]
    for divided in (p, -honest.std(axis=0, ddof=0)):
        # The largest gamma, see above.
        assert row == pytest.approx(oracles.min_max(honest, divided), rel=1e-9)


@pytest.mark.trap("min_max")
def test_min_max_compares_unsquared_distances_with_an_unsquared_diameter() -> None:
    """In units where distances are 100, a squared distance against an unsquared diameter leaves a tenth of the way."""
    honest = 100 * normal(6, 4)
    row, diameter = agrbench.forge("min_max", honest, 1)[0], oracles.diameter(honest)
    # As above: the largest gamma makes one distance equal to the diameter.
    assert reach(row, honest) == pytest.approx(diameter, rel=1e-6)
    p = oracles.directions(honest)["std"]
    mixed_up = oracles.bisect_gamma(honest, p, lambda v: all(oracles.distance(v, g) ** 2 <= diameter for g in honest))
    assert mixed_up < 0.5 * oracles.bisect_gamma(honest, p)


@pytest.mark.trap("min_max")
def test_min_max_is_centred_on_the_mean_of_the_honest_and_not_on_the_attackers_own() -> None:
    honest = normal(6, 4)
    alone = agrbench.forge("min_max", honest, 2)
    with_own = agrbench.forge("min_max", honest, 2, clean=normal(2, 4, 5), poisoned=normal(2, 4, 6))
    assert (alone == with_own).all()


@pytest.mark.trap("min_max")
def test_min_max_goes_against_the_mean() -> None:
    honest = 5 + 0.1 * normal(8, 3)
    for direction in DIRECTIONS:
        assert (agrbench.forge(f"min_max(direction={direction!r})", honest, 1)[0] < honest.mean(axis=0)).all()


@pytest.mark.trap("min_max")
@given(oracles.updates((2, 8), (1, 10), ties=False), st.integers(-20, 20))
def test_min_max_scales_with_the_updates(honest: Array, exponent: int) -> None:
    factor = 2.0**exponent
    for direction in DIRECTIONS:
        spec = f"min_max(direction={direction!r})"
        first, second = agrbench.forge(spec, honest, 1), agrbench.forge(spec, honest * factor, 1)
        # "sign" is not scaled itself, so gamma is, with its own rounding; see the exact gamma for its size.
        assert np.abs(first * factor - second).max() <= 1e-7 * factor * np.abs(honest).max()


def test_min_max_refuses_another_direction_with_the_three_it_has() -> None:
    with pytest.raises(SpecError, match=r"'std', 'sign', 'unit'"):
        agrbench.forge("min_max(direction='mean')", np.ones((3, 2)), 1)


# ---------------------------------------------------------------- what malicious clients train on


@pytest.mark.oracle("label_flip")
@pytest.mark.parametrize("attack", ["label_flip", "flip_ascent"])
@given(st.integers(1, 60), st.integers(0, 1000), st.integers(0, 9))
def test_label_flip_permutes_the_labels_and_keeps_their_multiset(
    attack: str, rows: int, seed: int, attacker: int
) -> None:
    shard = table(rows)
    wrong = poison(attack, shard, seed, attacker)
    assert sorted(wrong.labels.tolist()) == sorted(shard.labels.tolist())
    assert torch.equal(wrong.features, shard.features)
    assert wrong.classes == shard.classes


@pytest.mark.trap("label_flip", "flip_ascent")
@pytest.mark.parametrize("attack", ["label_flip", "flip_ascent"])
def test_label_permutation_is_drawn_by_the_generator_it_is_given(attack: str) -> None:
    shard = table(200)
    first, same, other = (poison(attack, shard, seed).labels for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert not torch.equal(first, shard.labels)


def test_label_permutation_reaches_every_order_equally_often() -> None:
    shard = Examples(torch.zeros(3, 1), torch.tensor([0, 1, 2]), 3)
    rng = Generator().manual_seed(0)
    function = record("label_flip").poison
    assert function is not None
    counts: dict[tuple[int, ...], int] = {}
    for _ in range(1200):
        order = tuple(function(shard, rng, 0).labels.tolist())
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 6
    # 200 expected of each, with a deviation of 13: five of them.
    assert all(abs(count - 200) < 65 for count in counts.values())


@given(st.integers(1, 40), st.integers(2, 9))
def test_reversed_labels_count_from_the_last_class(rows: int, classes: int) -> None:
    shard = table(rows, classes=classes)
    wrong = poison("label_flip(map='reverse')", shard)
    assert [a + b for a, b in zip(wrong.labels.tolist(), shard.labels.tolist(), strict=True)] == [classes - 1] * rows
    assert torch.equal(wrong.features, shard.features)


def test_label_map_is_one_of_two() -> None:
    with pytest.raises(SpecError, match=r"'shuffle', 'reverse'"):
        record("label_flip(map='rotate')")


@pytest.mark.trap("none")
@pytest.mark.parametrize("attack", ["min_max", "none"])
def test_attack_on_updates_leaves_the_data_alone(attack: str) -> None:
    assert record(attack).poison is None


@pytest.mark.trap("label_flip", "flip_ascent", "scaling")
@pytest.mark.parametrize("attack", ["label_flip", "label_flip(map='reverse')", "flip_ascent", "scaling"])
def test_poisoning_changes_no_clean_example_in_place(attack: str) -> None:
    for shard in (table(), images()):
        features, labels = shard.features.clone(), shard.labels.clone()
        poison(attack, shard)
        assert torch.equal(shard.features, features)
        assert torch.equal(shard.labels, labels)


# ---------------------------------------------------------------- the trigger of the scaling attack


@pytest.mark.parametrize("target", [0, 2])
def test_trigger_sets_features_7_and_8_of_a_table_counting_from_0(target: int) -> None:
    examples = table()
    stamped = trigger(f"scaling(target={target})", examples)
    changed = (stamped.features != examples.features).any(dim=0).nonzero().flatten().tolist()
    assert changed == [7, 8]
    assert (stamped.features[:, 7:9] == 0.5).all()
    assert stamped.labels.tolist() == [target] * 8
    assert stamped.classes == examples.classes


def test_trigger_is_a_white_3x3_square_in_the_lower_right_of_every_channel() -> None:
    examples = images()
    stamped = trigger("scaling", examples)
    expected = examples.features.clone()
    for row in (3, 4, 5):
        for column in (4, 5, 6):
            expected[:, :, row, column] = 1.0
    assert torch.equal(stamped.features, expected)
    assert stamped.labels.tolist() == [0] * 4


def test_triggering_leaves_the_given_examples_alone() -> None:
    for examples in (table(), images()):
        before = examples.features.clone(), examples.labels.clone()
        trigger("scaling(target=1)", examples)
        assert torch.equal(examples.features, before[0])
        assert torch.equal(examples.labels, before[1])


@pytest.mark.oracle("scaling")
@pytest.mark.parametrize("shard", [table(), images()], ids=["table", "images"])
@pytest.mark.parametrize("target", [0, 2])
def test_scaling_trains_on_clean_rows_and_triggered_copies_labelled_as_the_target(shard: Examples, target: int) -> None:
    spec = f"scaling(target={target})"
    poisoned, stamped = poison(spec, shard), trigger(spec, shard)
    n = len(shard.labels)
    assert len(poisoned.labels) == 2 * n
    plain = [*zip(shard.features.flatten(1).tolist(), shard.labels.tolist(), strict=True)]
    marked = [(row, target) for row in stamped.features.flatten(1).tolist()]
    both = [*zip(poisoned.features.flatten(1).tolist(), poisoned.labels.tolist(), strict=True)]
    assert sorted(both) == sorted(plain + marked)
    assert poisoned.classes == shard.classes


@pytest.mark.parametrize("features", [torch.ones(3, 7), torch.ones(3, 5, 12)], ids=["narrow_table", "no_channels"])
def test_trigger_that_would_mark_nothing_or_the_wrong_place_is_refused(features: Tensor) -> None:
    """A backdoor without a mark is a silent no-attack; a matrix per example has no features 7 and 8."""
    with pytest.raises(AgrbenchError):
        trigger("scaling", Examples(features, torch.zeros(3, dtype=torch.long), 2))


def test_attack_is_targeted_where_its_goal_says_so() -> None:
    registry = Registry()
    for name in registry.names("attack"):
        goal = listing.stated(registry.entry("attack", name), "Goal")
        assert goal.startswith("targeted") == (record(name).trigger is not None), name


@pytest.mark.trap("scaling")
def test_scaling_mixes_clean_and_triggered_rows_so_that_every_batch_has_both() -> None:
    """Batches are cut in order: with the copies behind, the last ones would be triggered throughout."""
    shard = Examples(torch.rand(80, 9), torch.ones(80, dtype=torch.long), 3)
    mixed = poison("scaling", shard)
    assert sorted(map(tuple, mixed.features[mixed.labels == 1].tolist())) == sorted(map(tuple, shard.features.tolist()))
    for part in mixed.labels.tensor_split(5):
        assert 0 < int((part == 0).sum()) < len(part)
