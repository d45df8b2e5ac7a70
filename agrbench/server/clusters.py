"""One cluster of numbers or two: the gap statistic, and the best split (Tibshirani et al., 2001).

In one dimension the best two clusters are a cut of the sorted numbers, which is found by trying all: k-means, which
searches from random starts, could only find the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator

REFERENCES = 10  # uniform sets that the numbers are compared with


def upper_cluster(scores: NDArray[np.float64], rng: Generator) -> NDArray[np.bool_]:
    """Mark the higher of two clusters, or nobody where the gap statistic sees one (Tibshirani et al., 2001)."""
    nobody = np.zeros(len(scores), dtype=bool)
    if len(scores) < 3 or scores.min() == scores.max():  # two always fit two clusters
        return nobody
    low, high = scores.min(), scores.max()
    scaled = (scores - low) / (high - low)
    references = torch.rand(REFERENCES, len(scores), generator=rng, dtype=torch.float64).numpy()
    one, two, cut = _dispersions(np.vstack([scaled, references]))
    gaps = [np.log(each[1:]).mean() - np.log(each[0]) for each in (one, two)]
    wobble = np.log(two[1:]).std() * np.sqrt(1 + 1 / REFERENCES)
    if gaps[0] >= gaps[1] - wobble:
        return nobody
    above: NDArray[np.bool_] = scaled >= np.sort(scaled)[cut[0]]
    return above


def _dispersions(sets: NDArray[np.float64]) -> Sequence[NDArray[np.float64]]:
    """Sum squares within one cluster and within the best two, and count the lower of the two: each `(sets,)`."""
    ranked = np.sort(sets, axis=1)
    counts, sums, squares = np.arange(1, ranked.shape[1]), ranked.cumsum(1), (ranked**2).sum(1)
    below, total = sums[:, :-1], sums[:, -1:]
    halves = squares[:, None] - below**2 / counts - (total - below) ** 2 / (ranked.shape[1] - counts)
    one = squares - total[:, 0] ** 2 / ranked.shape[1]
    least = np.finfo(np.float64).tiny  # so that numbers of two values, which two clusters fit exactly, have a logarithm
    return one, halves.min(1).clip(min=least), halves.argmin(1) + 1
