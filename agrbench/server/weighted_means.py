"""Weighted means of rows as their weights: how far they lie from the rows, and how the rows spread around them.

Weights add up to 1, so that all follows from the squared distances of the rows, `(rows, rows)`: no mean is ever formed.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Principal(NamedTuple):
    """The largest eigenvalue of a covariance, and each row's squared projection on its eigenvector, `(rows,)`."""

    eigenvalue: Tensor
    projections: Tensor


def from_mean(weights: Tensor, distances: Tensor) -> Tensor:
    """Measure the squared distance of the mean of these weights to each row: `(rows,)`."""
    across = distances @ weights
    return (across - 0.5 * (weights @ across)).clamp_(min=0)


def between_means(change: Tensor, distances: Tensor) -> Tensor:
    """Measure the squared distance of two means whose weights differ by `change`: one number."""
    squared: Tensor = (-0.5 * (change @ distances @ change)).clamp_(min=0)
    return squared


def centred(distances: Tensor, weights: Tensor) -> Tensor:
    """Give the inner products of the rows around the mean of these weights: `(rows, rows)`."""
    across = distances @ weights
    inner: Tensor = 0.5 * (across[:, None] + across - weights @ across - distances)
    return inner


def principal(distances: Tensor, weights: Tensor) -> Principal:
    """Find the direction in which the rows, so weighted, vary most."""
    inner, root = centred(distances, weights), weights.sqrt()
    values, vectors = torch.linalg.eigh(root[:, None] * inner * root)
    along = inner @ (root * vectors[:, -1])
    largest = values[-1].clamp(min=0)
    return Principal(largest, torch.where(largest > 0, along.square() / largest, torch.zeros_like(along)))


def largest_eigenvalues(distances: Tensor) -> Tensor:
    """Give the largest eigenvalue of the covariance of each set of `rows` rows: `(sets, rows, rows)` to `(sets,)`."""
    rows = distances.mean(-1, keepdim=True)
    inner = 0.5 * (rows + rows.mT - rows.mean(-2, keepdim=True) - distances)
    values: Tensor = torch.linalg.eigvalsh(inner)
    return values[:, -1] / distances.shape[-1]
