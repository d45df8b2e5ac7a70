"""Summaries of datasets: rows, classes and the intra-label cosine, against a slow loop over all pairs."""

from __future__ import annotations

import importlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agrbench.data import summary
from agrbench.data.examples import Examples
from agrbench.plugins import Dataset
from agrbench.plugins.registry import Registry
from tests.helpers.datasets import Halves

synthetic = importlib.import_module("agrbench.datasets.synthetic")


def slow_cosine(examples: Examples) -> float:
    """Follow Equation 4 word by word: the mean over classes of the mean cosine of all pairs of their rows."""
    means = []
    for label in range(examples.classes):
        rows = [row for row in examples.features[examples.labels == label].flatten(1).double() if row.any()]
        pairs = [float(a @ b / (a.norm() * b.norm())) for a in rows for b in rows]
        means += [sum(pairs) / len(pairs)] if pairs else []
    return sum(means) / len(means)


@given(st.integers(2, 12), st.integers(1, 4), st.integers(0, 10**6))
def test_the_intra_label_cosine_is_the_mean_over_all_pairs(rows: int, classes: int, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    features = torch.randn(rows, 2, 3, generator=rng) * (torch.rand(rows, generator=rng) > 0.2)[:, None, None]
    features[0] = 1  # one row that is not zero
    examples = Examples(features, torch.randint(classes, (rows,), generator=rng), classes)
    halves = examples.take(torch.arange(rows // 2)), examples.take(torch.arange(rows // 2, rows))
    assert summary.intra_label_cosine(halves) == pytest.approx(slow_cosine(examples), abs=1e-6)


def test_the_intra_label_cosine_does_not_depend_on_how_rows_are_cut_into_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    halves = synthetic.load()
    whole = summary.intra_label_cosine(halves)
    monkeypatch.setattr(summary, "BLOCK", 7 * 20)
    assert summary.intra_label_cosine(halves) == pytest.approx(whole, rel=1e-12)


def test_the_intra_label_cosine_of_equal_rows_is_one_and_of_no_row_is_no_number() -> None:
    labels = torch.tensor([0, 0, 1, 1])
    assert summary.intra_label_cosine([Examples(torch.ones(4, 5), labels, 3)]) == pytest.approx(1)
    assert torch.tensor(summary.intra_label_cosine([Examples(torch.zeros(4, 5), labels, 3)])).isnan()


def test_mnist_and_location30_have_their_measured_intra_label_cosine() -> None:
    mnist = Registry().dataset("mnist").record.load()
    location = Registry().dataset("location30").record.load()
    assert summary.intra_label_cosine(location) == pytest.approx(0.353, abs=5e-4)
    assert summary.intra_label_cosine(mnist[1:]) == pytest.approx(0.537, abs=5e-4)


def test_a_summary_counts_rows_and_classes_of_both_halves() -> None:
    train = Examples(torch.ones(3, 2, 4), torch.tensor([0, 1, 1]), 3)
    test = Examples(torch.ones(2, 2, 4), torch.tensor([2, 1]), 3)
    *counts, cosine = summary.summarise(train, test)
    assert counts == [3, 2, (2, 4), 3, 1, 3]
    assert cosine == pytest.approx(1)


def test_a_dataset_whose_loading_fails_is_described_by_the_failure() -> None:
    record: Dataset = Registry().dataset("digits").record

    def load() -> Halves:
        raise RuntimeError("no such column")

    broken = Dataset(load, record.model, record.rate, record.root_size, record.source)
    assert summary.describe("mine", broken.source, broken.load) == (
        None,
        "it cannot be loaded: RuntimeError: no such column",
    )
