"""The rules that byzfl 0.0.11 has too, side by side: equal, or different in exactly the way that is said here."""

import importlib
import itertools
import math
import sys
import types
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

import agrbench
from agrbench.errors import AgrbenchError, Inapplicable
from tests.helpers import oracles
from tests.helpers.oracles import Array
from tests.helpers.updates import line, normal32

Draw = Callable[[int], Array]
# The package promises four digits of a distance in float32; byzfl computes in float32 on tensors, whatever it is given.
CLEAR = 1e-3


@pytest.fixture(scope="module")
def byzfl() -> Any:
    """Import byzfl without its benchmark subpackage, which needs torchvision and no aggregation rule needs."""
    sys.modules.setdefault("byzfl.benchmark", types.ModuleType("byzfl.benchmark"))
    return importlib.import_module("byzfl")


def same(ours: Array, theirs: Any, rows: Array, dtype: str, units: float = 64) -> bool:
    # Both average at most 12 rows: some units in the last place of the largest. byzfl computes in float32 on tensors.
    return bool((np.abs(ours - np.asarray(theirs)) <= units * np.finfo(dtype).eps * np.abs(rows).max()).all())


def compare(rows: Array, spec: str, f: int, peer: Any, units: float = 64, root: Array | None = None) -> None:
    """Compare on numpy arrays in float64 and on tensors in float32, each of them a copy that the peer may spoil."""
    assert same(agrbench.aggregate(rows, spec, f, root=root), peer(rows.copy()), rows, "float64", units)
    tensors = torch.from_numpy(rows.astype(np.float32))
    pivot = None if root is None else torch.from_numpy(root.astype(np.float32))
    ours = agrbench.aggregate(tensors, spec, f, root=pivot).numpy()
    assert same(ours, peer(tensors.clone()), rows, "float32", units)


def assume_clear(scores: Array, count: int) -> None:
    """Leave out draws where rounding could turn which `count` scores are the lowest, row by row."""
    ranked = np.sort(scores, axis=-1)
    if count < ranked.shape[-1]:
        assume((ranked[..., count] - ranked[..., count - 1] > CLEAR * ranked[..., count]).all())


def bound(data: st.DataObject, rows: Array, less: int = 1) -> int:
    """Draw an `f` with `2 f + less <= n`."""
    return data.draw(st.integers(0, (len(rows) - less) // 2), label="f")


# ---------------------------------------------------------------- equal


@pytest.mark.peer("trimmed_mean", of="byzfl.TrMean")
@given(oracles.updates(), st.data())
def test_trimmed_mean_equals_the_peer(byzfl: Any, rows: Array, data: st.DataObject) -> None:
    f = bound(data, rows)
    compare(rows, "trimmed_mean", f, byzfl.TrMean(f))


@pytest.mark.peer("median", of="byzfl.Median")
@given(oracles.updates())
def test_median_equals_the_peer_for_odd_and_even_numbers_of_rows(byzfl: Any, rows: Array) -> None:
    """On tensors too: byzfl asks for the quantile of a half, not for `torch.median`, the lower middle."""
    compare(rows, "median", 0, byzfl.Median())


@pytest.mark.peer("fedavg", of="byzfl.Average")
@given(oracles.updates())
def test_mean_equals_the_peer(byzfl: Any, rows: Array) -> None:
    compare(rows, "fedavg", 0, byzfl.Average())


@pytest.mark.peer("meamed", of="byzfl.Meamed")
@given(oracles.updates(), st.data())
def test_meamed_equals_the_peer_where_the_nearest_values_are_clear(
    byzfl: Any, rows: Array, data: st.DataObject
) -> None:
    f = bound(data, rows)
    away = np.sort(np.abs(rows - np.median(rows, axis=0)), axis=0)
    # The median of float32 numbers rounds; where two values are equally far from it either may be left out.
    clear = away[-f] - away[-f - 1] > 1e-6 * np.abs(rows).max(axis=0) if f else np.ones(rows.shape[1], dtype=bool)
    assume(clear.any())
    compare(rows[:, clear], "meamed", f, byzfl.Meamed(f))


@pytest.mark.peer("nnm", of="byzfl.NNM")
@given(oracles.updates(ties=False), st.data())
def test_nnm_equals_the_peer(byzfl: Any, rows: Array, data: st.DataObject) -> None:
    f = bound(data, rows)
    ranked = np.sort(oracles.distances(rows), axis=1)
    # Where two neighbours are equally far, to float32's rounding of large close rows, either may be left out.
    assume(f == 0 or (ranked[:, -f] - ranked[:, -f - 1] > 1e-3 * np.abs(rows).max()).all())
    mixed = byzfl.NNM(f)(rows)
    assert same(oracles.nnm(rows, f) @ rows, mixed, rows, "float64")
    compare(rows, "nnm+fedavg", f, lambda given: byzfl.Average()(byzfl.NNM(f)(given)))
    compare(rows, "nnm+median", f, lambda given: byzfl.Median()(byzfl.NNM(f)(given)))


@pytest.mark.peer("mda", of="byzfl.MDA")
@given(oracles.updates((1, 9), ties=False), st.data())
def test_mda_equals_the_peer(byzfl: Any, rows: Array, data: st.DataObject) -> None:
    """With one row left too, whose diameter is that of no pair."""
    f = bound(data, rows)
    table = np.sort(oracles.distances(rows)[np.triu_indices(len(rows), 1)])
    assume((np.diff(table) > 1e-5 * table[1:]).all())  # diameters of other pairs are told apart in float32
    compare(rows, "mda", f, byzfl.MDA(f))


@pytest.mark.peer("monna", of="byzfl.MoNNA")
@given(oracles.updates((1, 12), ties=False), st.data())
def test_monna_equals_the_peer_where_the_server_sent_the_first_row(
    byzfl: Any, rows: Array, data: st.DataObject
) -> None:
    f = bound(data, rows)
    assume_clear(oracles.distances(rows)[0], len(rows) - f)
    compare(rows, "monna", f, byzfl.MoNNA(f, idx=0), root=rows[0])


@pytest.mark.peer("clip", of="byzfl.Clipping")
@given(oracles.updates(), st.data())
def test_clipping_equals_the_peer_at_its_radius(byzfl: Any, rows: Array, data: st.DataObject) -> None:
    radius = float(np.abs(rows).max()) * data.draw(st.sampled_from([0.1, 1.0, 10.0])) or 2.0
    for rule, peer in (("fedavg", byzfl.Average()), ("median", byzfl.Median())):
        compare(
            rows, f"clip(radius={radius!r})+{rule}", 0, lambda given, peer=peer: peer(byzfl.Clipping(radius)(given))
        )


@pytest.mark.peer("arc", of="byzfl.ARC")
@given(oracles.updates(), st.data())
def test_arc_equals_the_peer(byzfl: Any, rows: Array, data: st.DataObject) -> None:
    f = bound(data, rows)
    for rule, peer in (("fedavg", byzfl.Average()), ("median", byzfl.Median())):
        compare(rows, f"arc+{rule}", f, lambda given, peer=peer: peer(byzfl.ARC(f)(given)))


def test_the_peer_answers_in_float32_to_tensors_of_float64(byzfl: Any) -> None:
    rows = torch.tensor([[1.0], [1.0 + 2**-30]], dtype=torch.float64)
    assert (byzfl.Average()(rows).dtype, byzfl.Average()(rows).item()) == (torch.float32, 1.0)
    ours = agrbench.aggregate(rows, "fedavg")
    assert (ours.dtype, ours.item()) == (torch.float64, 1 + 2**-31)


# ---------------------------------------------------------------- krum, multi_krum


def krum_with_one_more(rows: Array, f: int) -> list[float]:
    """The scores over `n - f - 1` others, where Blanchard et al. (NeurIPS 2017) sum over `n - f - 2`.

    byzfl takes the `n - f` nearest of all rows and drops the nearest of them, the row itself: one neighbour more than
    published. Ours is the paper's: its proof rests on `n - f - 2` neighbours, of which at least `n - 2f - 2` are
    honest, and that number is positive exactly where `2f + 2 < n`, the paper's condition and ours.
    """
    n = len(rows)
    return [
        sum(sorted(oracles.distance(rows[i], rows[j]) ** 2 for j in range(n) if j != i)[: n - f - 1]) for i in range(n)
    ]


@given(oracles.updates((3, 12)), st.data())
def test_peers_krum_sums_over_one_neighbour_more_than_published(byzfl: Any, rows: Array, data: st.DataObject) -> None:
    f = bound(data, rows, 3)
    theirs = byzfl.Krum(f)(rows)
    scores = krum_with_one_more(rows, f)
    picked = [i for i in range(len(rows)) if (rows[i] == theirs).all()]
    # They pick some row of the lowest score; scores that tie to rounding are broken by it.
    assert min(scores[i] for i in picked) <= min(scores) + 1e-9 * max(scores)


def test_krum_and_the_peers_krum_pick_other_rows_where_the_extra_neighbour_matters(byzfl: Any) -> None:
    rows = line(0, 1, 2, 4, 5)
    assert oracles.krum_scores(rows, 1) == [5, 2, 5, 5, 10]
    assert krum_with_one_more(rows, 1) == [21, 11, 9, 14, 26]
    assert agrbench.aggregate(rows, "krum", 1).tolist() == [1.0]
    assert byzfl.Krum(1)(rows).tolist() == [2.0]


def test_multi_krum_and_the_peers_average_other_rows_where_the_extra_neighbour_matters(byzfl: Any) -> None:
    rows = line(0, 1, 4, 5, 7)
    assert oracles.krum_scores(rows, 1) == [17, 10, 10, 5, 13]
    assert krum_with_one_more(rows, 1) == [42, 26, 19, 21, 49]
    assert agrbench.aggregate(rows, "multi_krum", 1).tolist() == [(1 + 4 + 5 + 7) / 4]
    assert byzfl.MultiKrum(1)(rows).tolist() == [(0 + 1 + 4 + 5) / 4]


@given(oracles.updates((3, 12), ties=False), st.data())
def test_our_variant_equals_the_peers_krum(byzfl: Any, rows: Array, data: st.DataObject) -> None:
    f = bound(data, rows, 3)
    assume_clear(np.array(krum_with_one_more(rows, f)), 1)
    compare(rows, 'krum(neighbours="byzfl")', f, byzfl.Krum(f))


@pytest.mark.peer("multi_krum", of="byzfl.MultiKrum")
@given(oracles.updates((3, 12), ties=False), st.data())
def test_our_variant_equals_the_peers_multi_krum(byzfl: Any, rows: Array, data: st.DataObject) -> None:
    f = bound(data, rows, 3)
    assume_clear(np.array(krum_with_one_more(rows, f)), len(rows) - f)
    compare(rows, 'multi_krum(neighbours="byzfl")', f, byzfl.MultiKrum(f))


@pytest.mark.peer("krum", of="byzfl.Krum")
@given(oracles.updates((5, 12), ties=False), st.data())
def test_krum_equals_the_peers_krum_told_of_one_row_more(byzfl: Any, rows: Array, data: st.DataObject) -> None:
    """`n - (f + 1) - 1` is `n - f - 2`: given a bound larger by one, byzfl computes the published scores."""
    f = bound(data, rows, 3)
    scores = np.array(oracles.krum_scores(rows, f))
    assume_clear(scores, 1)
    compare(rows, "krum", f, byzfl.Krum(f + 1))
    assume_clear(scores, len(rows) - f - 1)
    compare(rows, f"multi_krum(m={len(rows) - f - 1})", f, byzfl.MultiKrum(f + 1))


def test_peers_krum_and_published_krum_differ_often(byzfl: Any) -> None:
    rng = np.random.default_rng(0)
    draws = [rng.normal(size=(12, 5)) for _ in range(200)]
    other = sum((agrbench.aggregate(rows, "krum", 3) != byzfl.Krum(3)(rows)).any() for rows in draws)
    assert other > 10  # so that the difference is not a rounding matter


def test_peers_krum_is_offered_to_as_many_malicious_rows_as_are_fewer_than_half(byzfl: Any) -> None:
    rows = line(0, 1, 5, 9)
    assert byzfl.Krum(1)(rows).tolist() == [1.0]
    with pytest.raises(Inapplicable):  # the paper: 2f + 2 < n
        agrbench.aggregate(rows, "krum", 1)


@pytest.mark.parametrize(("n", "right"), [(25, True), (26, False)])
def test_the_peer_loses_the_distances_of_more_than_25_tensors_that_nearly_coincide(
    byzfl: Any, n: int, right: bool
) -> None:
    """From 26 rows on `torch.cdist` multiplies matrices: `|x|^2 + |y|^2 - 2 x.y` in float32, which keeps no digit."""
    rows = line(*(4096 + i * i / 1024 for i in range(n)))  # all of them float32 numbers
    tensors = torch.from_numpy(rows.astype(np.float32))
    expected = byzfl.Krum(2)(rows).tolist()
    assert agrbench.aggregate(tensors, 'krum(neighbours="byzfl")', 2).tolist() == expected
    assert (byzfl.Krum(2)(tensors).tolist() == expected) == right
    mixed = byzfl.NNM(2)(rows)
    assert agrbench.aggregate(tensors, "nnm+median", 2).item() == pytest.approx(np.median(mixed), rel=1e-6)
    # Means of rows that are not the nearest are off by far more than float32's rounding, 2.4e-4.
    assert (np.abs(byzfl.NNM(2)(tensors).numpy() - mixed).max() < 1e-3) == right


# ---------------------------------------------------------------- geometric_median


def weiszfeld(rows: Array, nu: float, steps: int, start: Array) -> list[Array]:
    """The centres passed: rows weighed by `1 / max(|g_i - v|, nu)`."""
    centres = [start]
    for _ in range(steps):
        pulls = [1 / max(oracles.distance(row, centres[-1]), nu) for row in rows]
        centres.append(np.array(pulls) @ rows / math.fsum(pulls))
    return centres


@given(oracles.updates())
def test_peers_geometric_median_is_three_steps_from_zero_with_an_absolute_radius(byzfl: Any, rows: Array) -> None:
    theirs = weiszfeld(rows, 0.1, 3, np.zeros(rows.shape[1]))[-1]
    assert same(theirs, byzfl.GeometricMedian()(rows), rows, "float64")
    # Distances of float32 rows to a centre that nearly coincides with them have four digits.
    tensors = torch.from_numpy(rows.astype(np.float32))
    assert same(theirs, byzfl.GeometricMedian()(tensors), rows, "float32", 4096)


@pytest.mark.peer("geometric_median", of="byzfl.GeometricMedian")
@given(oracles.updates((3, 12)))
def test_our_variant_equals_the_peers_geometric_median(byzfl: Any, rows: Array) -> None:
    ours = agrbench.aggregate(rows, "geometric_median(steps=3,nu=0.1)", 1)
    # Further steps measure roots of differences, of which half of the digits remain.
    room = 1e-6 * np.abs(rows).max() * math.sqrt(rows.shape[1])
    assert np.abs(ours - byzfl.GeometricMedian()(rows)).max() <= room


def test_peers_geometric_median_depends_on_the_unit_and_on_the_origin(byzfl: Any) -> None:
    rows, median = line(0, 0, 1), byzfl.GeometricMedian()
    # Within 0.1 of each other all weigh the same: the mean. Ours is where two of three rows lie, in any unit.
    assert median(rows / 1024).item() == pytest.approx(1 / 3072, rel=1e-12)
    assert median(rows * 1024).item() / 1024 < 1e-4
    # Far from the origin the first step is lost on reaching the mean.
    assert median(rows + 1024).item() - 1024 > 2 * median(rows).item()
    for scale, shift in ((1 / 1024, 0), (1, 0), (1024, 0), (1, 1024)):
        ours = agrbench.aggregate(rows * scale + shift, "geometric_median", 1).item()
        assert (ours - shift) / scale == pytest.approx(0, abs=1e-12)  # the row itself, times a weight of 1


@pytest.mark.peer("geometric_median", of="byzfl.GeometricMedian")
@given(oracles.updates((3, 12), (2, 40), ties=False), st.sampled_from([3, 8]))
def test_geometric_median_equals_the_peers_started_at_the_mean_with_a_small_radius(
    byzfl: Any, rows: Array, steps: int
) -> None:
    rows = rows - rows.mean(axis=0)
    passed = weiszfeld(rows, 0.0, steps, rows.mean(axis=0))
    away = np.array([[oracles.distance(row, centre) for row in rows] for centre in passed])
    typical = np.median(away, axis=1)
    assume((away.min(axis=1) > 1e-2 * typical).all())  # so that no radius is at work
    moved = np.array([oracles.distance(*pair) for pair in itertools.pairwise(passed)])
    assume((moved[:-1] > 1e-5 * typical[:-2]).all())  # where a step is shorter than 1e-6 of it ours ends
    peer = byzfl.GeometricMedian(nu=float(1e-4 * typical.min()), T=steps)
    # Rounds of weights, each from the last.
    compare(rows, f"geometric_median(steps={steps})", 0, peer, units=4096)
    ours, theirs = (
        sum(oracles.distance(row, point) for row in rows)
        for point in (agrbench.aggregate(rows, "geometric_median", 0), peer(rows))
    )
    assert ours <= theirs * (1 + 1e-12)  # the minimum, to rounding


# ---------------------------------------------------------------- centered_clipping


@pytest.mark.peer("centered_clipping", of="byzfl.CenteredClipping")
@given(oracles.updates(), st.data())
def test_centered_clipping_equals_the_peer_round_after_round(byzfl: Any, rows: Array, data: st.DataObject) -> None:
    """The peer keeps the last aggregate in the object; ours is given it."""
    steps = data.draw(st.integers(1, 3), label="steps")
    tau = float(np.abs(rows).max()) * data.draw(st.sampled_from([0.1, 1.0, 10.0]), label="tau") or 1.0
    spec = f"centered_clipping(tau={tau!r},steps={steps})"
    for dtype in ("float64", "float32"):
        # Further steps of ours take distances from all pairs, in float32 to four digits.
        units = 64 if dtype == "float64" else 4096
        peer, previous = byzfl.CenteredClipping(L=steps, tau=tau), np.zeros(rows.shape[1], dtype)
        for now in (rows, rows[::-1] / 2, rows / 4):
            given = now.astype(dtype)
            with np.errstate(divide="ignore"):  # theirs divides by the distance of a row at the centre
                theirs = np.asarray(peer(given if dtype == "float64" else torch.from_numpy(given)))
            assert same(agrbench.aggregate(given, spec, 0, previous=previous), theirs, rows, dtype, units)
            previous = theirs.copy()


def test_peers_centered_clipping_answers_the_same_question_in_another_way_the_second_time(byzfl: Any) -> None:
    """Our rule remembers nothing by itself, so that two runs cannot disturb each other."""
    rows, peer = line(0, 0, 9), byzfl.CenteredClipping(tau=3.0)
    with np.errstate(divide="ignore"):  # by the distance of a row at the centre
        assert [peer(rows).item(), peer(rows).item()] == [1.0, 1 + (-1 - 1 + 3) / 3]
    ours = [agrbench.aggregate(rows, "centered_clipping(tau=3.0)", 1).item() for _ in range(2)]
    assert ours == pytest.approx([1.0, 1.0], rel=1e-12)


def test_peers_centered_clipping_is_the_mean_unless_told_a_radius(byzfl: Any) -> None:
    rows = line(0, 0, 0, 90)
    with np.errstate(divide="ignore"):  # by the distance of a row at the centre
        assert byzfl.CenteredClipping()(rows).tolist() == byzfl.Average()(rows).tolist() == [22.5]
    assert agrbench.aggregate(rows, "centered_clipping", 1).tolist() == [0.0]  # the median distance is 0


def test_the_peer_takes_no_centre_to_start_from(byzfl: Any) -> None:
    """Nothing is of both kinds that it demands."""
    for centre in (np.zeros(2), torch.zeros(2)):
        with pytest.raises(TypeError, match="m must be"):
            byzfl.CenteredClipping(m=centre)


# ---------------------------------------------------------------- smea, caf


def directions(seed: int) -> Draw:
    rng = np.random.default_rng(seed)
    return lambda width: rng.normal(size=width)


def pushed(rows: Array, weights: Array, draw: Draw) -> Array:
    """One step of the power method on the weighted scatter of the rows around their mean, from a random direction."""
    centred = rows - weights @ rows / weights.sum()
    start = draw(rows.shape[1])
    return np.asarray((weights * (centred @ (start / oracles.norm(start)))) @ centred)


def peers_smea(rows: Array, f: int, draw: Draw) -> list[float]:
    """The sizes that byzfl takes for the largest eigenvalues: of one power step, from another direction each."""
    ones, subsets = np.ones(len(rows) - f), itertools.combinations(range(len(rows)), len(rows) - f)
    return [oracles.norm(pushed(rows[list(subset)], ones, draw)) for subset in subsets]


def peers_caf(rows: Array, f: int, draw: Draw) -> Array | None:
    """byzfl's CAF: as in SMEA; and rows without weight still count for the largest projection."""
    weights, best, least = np.ones(len(rows)), None, math.inf
    while weights.sum() > len(rows) - 2 * f:
        mean = weights @ rows / weights.sum()
        along = pushed(rows, weights, draw) / weights.sum()
        size = oracles.norm(along)
        if size < least:
            best, least = mean, size
        projections = ((rows - mean) @ along) ** 2
        weights = weights * (1 - projections / projections.max())
    return best


SEEDS = st.integers(0, 2**32 - 1)


@given(SEEDS, st.integers(3, 8), st.integers(1, 10), st.data())
def test_peers_smea_and_caf_take_one_power_step_from_a_random_direction(
    byzfl: Any, seed: int, n: int, width: int, data: st.DataObject
) -> None:
    rows = normal32(n, width, seed)
    f = data.draw(st.integers(1, (n - 1) // 2))
    sizes = np.array(peers_smea(rows, f, directions(seed)))
    assume_clear(sizes, 1)
    chosen = list(itertools.combinations(range(n), n - f))[sizes.argmin()]
    with patch("numpy.random.randn", directions(seed)):
        assert same(rows[list(chosen)].mean(axis=0), byzfl.SMEA(f)(rows), rows, "float64")
    expected = peers_caf(rows, f, directions(seed))
    assert expected is not None
    with patch("numpy.random.randn", directions(seed)):
        # A few rounds of weights, each from the last.
        assert same(expected, byzfl.CAF(f)(rows), rows, "float64", 1 << 20)


@pytest.mark.parametrize("spec", ["smea", "caf"])
def test_the_peer_draws_smea_and_caf_from_the_global_state_and_ours_draw_nothing(byzfl: Any, spec: str) -> None:
    rows = normal32(8, 30, 0)
    rule = {"smea": byzfl.SMEA, "caf": byzfl.CAF}[spec](2)
    answers = set()
    for seed in range(20):
        with patch("numpy.random.randn", directions(seed)):
            answers.add(tuple(rule(rows)))
    assert len(answers) > 1
    assert len({tuple(agrbench.aggregate(rows, spec, 2, seed=seed)) for seed in range(20)}) == 1


@pytest.mark.peer("smea", of="byzfl.SMEA")
@given(SEEDS, st.integers(3, 9), st.data())
def test_smea_equals_the_peer_where_there_is_but_one_direction(
    byzfl: Any, seed: int, n: int, data: st.DataObject
) -> None:
    rows = normal32(n, 1, seed)
    f = bound(data, rows)
    spreads = [rows[list(subset)].var() for subset in itertools.combinations(range(n), n - f)]
    assume_clear(np.array(spreads), 1)
    compare(rows, "smea", f, byzfl.SMEA(f))


@pytest.mark.peer("caf", of="byzfl.CAF")
@given(SEEDS, st.integers(3, 9), st.data())
def test_caf_equals_the_peer_where_there_is_but_one_direction_and_one_step(
    byzfl: Any, seed: int, n: int, data: st.DataObject
) -> None:
    """After it rows without weight count there, and not here."""
    rows = normal32(n, 1, seed)
    f = data.draw(st.integers(1, (n - 1) // 2))
    projections = (rows - rows.mean()) ** 2
    left = float((1 - projections / projections.max()).sum())
    assume(left < n - 2 * f - 1e-4)
    compare(rows, "caf", f, byzfl.CAF(f))


def test_smea_finds_the_flattest_rows_where_the_peer_mistakes_one_direction_for_all(byzfl: Any) -> None:
    """Without the last row they vary by 2/3 at most, without the third by more than 2, but little of it sideways."""
    rows = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [0.0, 3.0]])
    assert agrbench.aggregate(rows, "smea", 1) == pytest.approx(np.array([1.0, 0.0]), abs=1e-12)
    with patch("numpy.random.randn", lambda width: np.array([1.0, 0.0])):
        assert byzfl.SMEA(1)(rows) == pytest.approx(np.array([1 / 3, 1.0]), rel=1e-12)


def test_the_peer_cannot_take_rows_that_coincide(byzfl: Any) -> None:
    rows = line(0, 0, 0, 1)
    with np.errstate(invalid="ignore"):  # 0 / 0: the direction in which equal rows vary
        assert byzfl.SMEA(1)(rows).tolist() == [1 / 3]  # the first subset is not less than anything
        assert byzfl.CAF(1)(np.ones((4, 2))) is None
        with pytest.raises(IndexError):
            byzfl.SMEA(0)(np.ones((4, 2)))
    assert agrbench.aggregate(rows, "smea", 1).tolist() == [0.0]
    for spec in ("smea", "caf"):
        assert agrbench.aggregate(np.ones((4, 2)), spec, 1) == pytest.approx(np.ones(2), rel=1e-12)


def test_the_peers_caf_of_no_malicious_row_is_nothing(byzfl: Any) -> None:
    rows = line(0, 1, 5)
    assert byzfl.CAF(0)(rows) is None
    assert agrbench.aggregate(rows, "caf", 0).item() == pytest.approx(2.0, rel=1e-12)


def test_one_far_row_keeps_the_peers_caf_busy_for_good(byzfl: Any) -> None:
    """Without weight it still has the largest projection: beside it those of the others are too small to matter.

    The steps grow with the square of its distance; from about 1e8 times the others' on, weights stay what they are.
    """

    def counted(times: int) -> Draw:
        left = iter(range(times))
        return lambda width: np.ones(width) * (next(left) >= 0)

    rows = line(0, 1, 2, 100)
    with patch("numpy.random.randn", counted(5000)):
        assert byzfl.CAF(1)(rows) == pytest.approx(1.0, abs=0.02)
    with patch("numpy.random.randn", counted(4000)), pytest.raises(StopIteration):
        byzfl.CAF(1)(rows)
    for far in (1e3, 1e9):
        rows = line(0, 1, 2, far)
        with patch("numpy.random.randn", counted(5000)), pytest.raises(StopIteration):
            byzfl.CAF(1)(rows)
        assert agrbench.aggregate(rows, "caf", 1) == pytest.approx(1.0, abs=0.02)


# ---------------------------------------------------------------- bucketing


@pytest.mark.peer("bucketing", of="byzfl.Bucketing")
@given(st.integers(1, 12), st.integers(1, 13), SEEDS)
def test_bucketing_equals_the_peer_but_for_what_is_drawn_and_in_which_order(
    byzfl: Any, n: int, size: int, seed: int
) -> None:
    """Each row is a coordinate of its own, so that means show who was in them."""
    rows, spec = np.eye(n), f"bucketing(size={size})"
    means = byzfl.Bucketing(size)(rows)
    buckets = [np.flatnonzero(mean) for mean in means]
    assert sorted(np.concatenate(buckets)) == list(range(n))
    assert [len(bucket) for bucket in buckets] == [size] * (n // size) + [n % size] * (n % size > 0)
    for rule, peer in (("fedavg", byzfl.Average()), ("median", byzfl.Median()), ("trimmed_mean", byzfl.TrMean(0))):
        ours = agrbench.aggregate(rows, f"{spec}+{rule}", 0, seed=seed)
        # The mean of the buckets' means weighs the rows of the last one more, whoever they are.
        assert np.sort(ours) == pytest.approx(np.sort(peer(means)), rel=1e-12)
    tensors = byzfl.Bucketing(size)(torch.eye(n))
    assert sorted(tensors.sum(0).tolist()) == pytest.approx(sorted(means.sum(axis=0)), rel=1e-6)


def test_the_peers_buckets_are_drawn_from_the_global_state_and_ours_from_the_seed(byzfl: Any) -> None:
    rows = normal32(11, 3, 0)
    with patch("numpy.random.permutation", lambda rows: rows[::-1]):
        assert byzfl.Bucketing(4)(rows)[0] == pytest.approx(rows[-4:].mean(axis=0), rel=1e-12)
        assert byzfl.Bucketing(1)(rows).tolist() == rows[::-1].tolist()  # and of one row each they are not in order
    steps = [agrbench.aggregate(rows, "bucketing(size=4)+median", 0, seed=seed) for seed in (0, 0, 1)]
    assert (steps[0] == steps[1]).all()
    assert (steps[0] != steps[2]).any()
    single = agrbench.aggregate(rows, "bucketing(size=1)+krum", 2)
    assert single.tolist() == agrbench.aggregate(rows, "krum", 2).tolist()


# ---------------------------------------------------------------- clipping


@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize("name", ["Clipping", "ARC"])
def test_the_peer_clips_its_callers_updates_and_ours_do_not(byzfl: Any, name: str, kind: str) -> None:
    peer = {"Clipping": byzfl.Clipping(3.0), "ARC": byzfl.ARC(1)}[name]
    spec = {"Clipping": "clip(radius=3.0)+fedavg", "ARC": "arc+fedavg"}[name]
    rows: Any = line(1, 3, 9) if kind == "numpy" else torch.tensor([[1.0], [3.0], [9.0]])
    assert agrbench.aggregate(rows, spec, 1).item() == pytest.approx(7 / 3, rel=1e-6)
    assert rows.ravel().tolist() == [1.0, 3.0, 9.0]
    peer(rows)
    assert rows.ravel().tolist() == [1.0, 3.0, 3.0]


def test_the_peer_clips_whole_numbers_to_whole_numbers(byzfl: Any) -> None:
    assert byzfl.Clipping(1.0)(np.array([[3, 4]])).tolist() == [[0, 0]]
    assert byzfl.ARC(1)(np.array([[3, 4], [1, 0], [1, 0]])).tolist() == [[0, 0], [1, 0], [1, 0]]
    with pytest.raises(AgrbenchError, match="floats"):
        agrbench.aggregate(np.array([[3, 4]]), "clip(radius=1.0)+fedavg", 0)


def test_the_peers_arc_clips_one_row_less_where_a_product_falls_short_of_a_whole_number(byzfl: Any) -> None:
    """`floor(2 f (n - f) / n)` is 57 for 33 of 242; in floating point `2 * 33 / 242 * 209` is less."""
    short = [
        (n, f) for n in range(1, 251) for f in range((n + 1) // 2) if int(2 * f / n * (n - f)) < 2 * f * (n - f) // n
    ]
    assert short == [(242, 33)]
    rows = np.arange(1.0, 243.0)[:, None]
    theirs = byzfl.ARC(33)(rows.copy())
    assert np.flatnonzero(theirs.ravel() < rows.ravel()).tolist() == list(range(186, 242))  # 56 of them
    assert theirs.max() == 186
    kept = agrbench.aggregate(rows, "arc+fedavg", 33)
    assert kept.item() == pytest.approx((sum(range(1, 186)) + 57 * 185) / 242, rel=1e-12)


# ---------------------------------------------------------------- what is not a number

OURS = {
    "Average": "fedavg",
    "Median": "median",
    "TrMean": "trimmed_mean",
    "Meamed": "meamed",
    "GeometricMedian": "geometric_median",
    "CenteredClipping": "centered_clipping",
    "MultiKrum": "multi_krum",
    "MDA": "mda",
    "MoNNA": "monna",
}


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_a_row_that_is_not_a_number_is_the_one_that_the_peers_krum_picks(byzfl: Any, kind: str) -> None:
    rows = line(0, 1, 3, 7, math.nan)
    given: Any = rows if kind == "numpy" else torch.from_numpy(rows)
    assert math.isnan(byzfl.Krum(1)(given).item())
    assert agrbench.aggregate(given, "krum", 1).item() == 1.0  # the row is dropped, and f with it


@pytest.mark.parametrize(
    ("name", "value", "spoiled"),
    [
        *((name, math.nan, True) for name in ("Average", "Median", "Meamed", "GeometricMedian", "CenteredClipping")),
        *((name, math.nan, False) for name in ("TrMean", "MultiKrum", "MDA", "MoNNA")),
        *((name, math.inf, True) for name in ("Average", "CenteredClipping")),
        *((name, math.inf, False) for name in ("Median", "Meamed", "GeometricMedian", "TrMean", "MDA", "MoNNA")),
    ],
)
def test_of_the_peers_rules_some_pass_on_one_row_that_is_not_finite(
    byzfl: Any, name: str, value: float, spoiled: bool
) -> None:
    bare = ("Average", "Median", "GeometricMedian", "CenteredClipping")
    peer = getattr(byzfl, name)(*(() if name in bare else (1,)))
    rows = line(0, 1, 3, 7, value)
    with np.errstate(invalid="ignore", divide="ignore"):  # inf - inf, and a row at the centre
        theirs = peer(rows)
    assert np.isfinite(theirs).all() != spoiled
    assert np.isfinite(agrbench.aggregate(rows, OURS[name], 1, root=np.zeros(1))).all()


# ---------------------------------------------------------------- attacks


@pytest.mark.peer("ipm", of="byzfl.InnerProductManipulation")
@given(oracles.updates(), st.sampled_from([0.1, 0.5, 100.0]))
def test_ipm_equals_the_peer(byzfl: Any, rows: Array, epsilon: float) -> None:
    (ours,) = agrbench.forge(f"ipm(epsilon={epsilon})", rows, 1)
    assert same(ours, epsilon * byzfl.InnerProductManipulation(1.0)(rows), max(epsilon, 1) * rows, "float64")


@pytest.mark.peer("lie", of="byzfl.ALittleIsEnough")
@given(oracles.updates((2, 12)), st.sampled_from([0.25, 1.5]))
def test_lie_equals_the_peer_told_of_the_opposite_factor(byzfl: Any, rows: Array, z: float) -> None:
    """Theirs adds its factor times the deviation, and so goes above the mean; the published attack goes below."""
    (ours,) = agrbench.forge(f"lie(z={z})", rows, 1)
    assert same(ours, byzfl.ALittleIsEnough(-z)(rows), rows, "float64", 512)


@pytest.mark.peer("sign_flip", of="byzfl.SignFlipping")
@given(oracles.updates())
def test_peers_sign_flip_reverses_the_honest_mean_and_ours_each_own_update(byzfl: Any, rows: Array) -> None:
    mean = rows.mean(axis=0, keepdims=True)
    (ours,) = agrbench.forge("sign_flip", rows, 1, clean=mean)
    assert same(ours, byzfl.SignFlipping()(rows), rows, "float64")


@pytest.mark.peer("mimic", of="byzfl.Mimic")
def test_peers_mimic_copies_whom_it_is_told_and_ours_who_stands_out(byzfl: Any) -> None:
    rows = np.array([[0.0, 0.1], [0.1, 0.0], [9.0, 9.0], [0.0, 0.0]])
    assert (byzfl.Mimic()(rows) == rows[0]).all()
    ours = agrbench.forge("mimic(warmup=0)", rows, 1, clean=rows[:1])
    assert (ours == byzfl.Mimic(2)(rows)).all()


@pytest.mark.peer("gaussian", of="byzfl.Gaussian")
def test_gaussian_draws_from_the_peers_distribution(byzfl: Any) -> None:
    """Two samples of 4,000: deviations of a mean by a fifth of a percent of 200 and of a deviation by five percent."""
    rows = np.zeros((1, 4000))
    for draws in (byzfl.Gaussian(0.0, 200.0)(rows), agrbench.forge("gaussian", rows, 1)[0]):
        assert abs(np.mean(draws)) < 20
        assert abs(np.std(draws) - 200) < 10
