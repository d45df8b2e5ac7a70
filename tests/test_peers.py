"""The rules that byzfl 0.0.11 has too, side by side: equal, or different in exactly the way that is said here."""

import importlib
import sys
import types
from typing import Any

import numpy as np
import oracles
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from oracles import Array

import agrbench


@pytest.fixture(scope="module")
def byzfl() -> Any:
    """Import byzfl without its benchmark subpackage, which needs torchvision and no aggregation rule needs."""
    sys.modules.setdefault("byzfl.benchmark", types.ModuleType("byzfl.benchmark"))
    return importlib.import_module("byzfl")


def same(ours: Array, theirs: Any, rows: Array, dtype: str) -> bool:
    # Both average at most 12 rows: some units in the last place of the largest. byzfl computes in float32 on tensors.
    return bool((np.abs(ours - np.asarray(theirs)) <= 64 * np.finfo(dtype).eps * np.abs(rows).max()).all())


def compare(rows: Array, spec: str, f: int, peer: Any) -> None:
    """Compare on numpy arrays in float64 and on tensors in float32."""
    assert same(agrbench.aggregate(rows, spec, f), peer(rows), rows, "float64")
    tensors = torch.from_numpy(rows.astype(np.float32))
    assert same(agrbench.aggregate(tensors, spec, f).numpy(), peer(tensors), rows, "float32")


@given(oracles.updates(), st.data())
def test_trimmed_mean_equals_the_peer(byzfl: Any, rows: Array, data: st.DataObject) -> None:
    f = data.draw(st.integers(0, (len(rows) - 1) // 2))
    compare(rows, "trimmed_mean", f, byzfl.TrMean(f))


@given(oracles.updates())
def test_median_equals_the_peer_for_odd_and_even_numbers_of_rows(byzfl: Any, rows: Array) -> None:
    compare(rows, "median", 0, byzfl.Median())


@given(oracles.updates())
def test_mean_equals_the_peer(byzfl: Any, rows: Array) -> None:
    compare(rows, "fedavg", 0, byzfl.Average())


@given(oracles.updates(ties=False), st.data())
def test_nnm_equals_the_peer(byzfl: Any, rows: Array, data: st.DataObject) -> None:
    f = data.draw(st.integers(0, (len(rows) - 1) // 2))
    ranked = np.sort(oracles.distances(rows), axis=1)
    # Where two neighbours are equally far, to float32's rounding of large close rows, either may be left out.
    assume(f == 0 or (ranked[:, -f] - ranked[:, -f - 1] > 1e-3 * np.abs(rows).max()).all())
    mixed = byzfl.NNM(f)(rows)
    assert same(oracles.nnm(rows, f) @ rows, mixed, rows, "float64")
    assert same(agrbench.aggregate(rows, "nnm+fedavg", f), mixed.mean(axis=0), rows, "float64")
    assert same(agrbench.aggregate(rows, "nnm+median", f), np.median(mixed, axis=0), rows, "float64")


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
    f = data.draw(st.integers(0, (len(rows) - 3) // 2))
    theirs = byzfl.Krum(f)(rows)
    scores = krum_with_one_more(rows, f)
    picked = [i for i in range(len(rows)) if (rows[i] == theirs).all()]
    # They pick some row of the lowest score; scores that tie to rounding are broken by it.
    assert min(scores[i] for i in picked) <= min(scores) + 1e-9 * max(scores)


def test_krum_and_the_peers_krum_pick_other_rows_where_the_extra_neighbour_matters(byzfl: Any) -> None:
    rows = np.array([[0.0], [1.0], [2.0], [4.0], [5.0]])
    assert oracles.krum_scores(rows, 1) == [5, 2, 5, 5, 10]
    assert krum_with_one_more(rows, 1) == [21, 11, 9, 14, 26]
    assert agrbench.aggregate(rows, "krum", 1).tolist() == [1.0]
    assert byzfl.Krum(1)(rows).tolist() == [2.0]


@given(oracles.updates((5, 12), ties=False), st.data())
def test_krum_equals_the_peers_krum_told_of_one_row_more(byzfl: Any, rows: Array, data: st.DataObject) -> None:
    """`n - (f + 1) - 1` is `n - f - 2`: given a bound larger by one, byzfl computes the published rule."""
    f = data.draw(st.integers(0, (len(rows) - 3) // 2))
    scores = sorted(oracles.krum_scores(rows, f))
    assume(scores[1] > scores[0] * (1 + 1e-6))  # not a tie
    assert same(agrbench.aggregate(rows, "krum", f), byzfl.Krum(f + 1)(rows), rows, "float64")


def test_peers_krum_and_published_krum_differ_often(byzfl: Any) -> None:
    rng = np.random.default_rng(0)
    draws = [rng.normal(size=(12, 5)) for _ in range(200)]
    other = sum((agrbench.aggregate(rows, "krum", 3) != byzfl.Krum(3)(rows)).any() for rows in draws)
    assert other > 10  # so that the difference is not a rounding matter
