"""Weighted means of rows, kept as weights: their distances to the rows, and how the rows vary around them.

Weights add up to 1, so everything follows from the rows' squared distances, `(rows, rows)`: no mean is ever formed.
Unlike the Gram matrix, distances lose no digits to a part that all rows share. One limit: if some rows are many orders
of magnitude larger than the others, float32 resolves poorly how far the others are from a mean that contains a little
of the large ones, and `centered_clipping(steps=3)` loses digits.
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
    """Return the squared distance from the mean of these weights to each row: `(rows,)`."""
    across = distances @ weights
    return (across - 0.5 * (weights @ across)).clamp_(min=0)


def between_means(change: Tensor, distances: Tensor) -> Tensor:
    """Return the squared distance between two means whose weights differ by `change`: a scalar."""
    squared: Tensor = (-0.5 * (change @ distances @ change)).clamp_(min=0)
    return squared


def centred(distances: Tensor, weights: Tensor) -> Tensor:
    """Return the inner products of the rows, centred on the mean of these weights: `(rows, rows)`."""
    across = distances @ weights
    inner: Tensor = 0.5 * (across[:, None] + across - weights @ across - distances)
    return inner


def principal(distances: Tensor, weights: Tensor) -> Principal:
    """Find the direction in which the weighted rows vary most."""
    inner, root = centred(distances, weights), weights.sqrt()
    values, vectors = torch.linalg.eigh(root[:, None] * inner * root)
    along = inner @ (root * vectors[:, -1])
    largest = values[-1].clamp(min=0)
    return Principal(largest, torch.where(largest > 0, along.square() / largest, torch.zeros_like(along)))


def largest_eigenvalues(distances: Tensor) -> Tensor:
    """Return the top eigenvalue of each set's covariance, from distances `(sets, rows, rows)`: `(sets,)`."""
    rows = distances.mean(-1, keepdim=True)
    inner = 0.5 * (rows + rows.mT - rows.mean(-2, keepdim=True) - distances)
    values: Tensor = torch.linalg.eigvalsh(inner)
    return values[:, -1] / distances.shape[-1]
