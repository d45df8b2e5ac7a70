"""Keep the smallest scores, or the middle of each column: what many rules end with."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from agrbench.errors import AgrbenchError


def smallest(scores: Tensor, count: int) -> Tensor:
    """Mark the `count` smallest of `(rows,)` scores, the first rows on ties: Boolean `(rows,)`."""
    kept = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
    kept[scores.argsort(stable=True)[:count]] = True
    return kept


def between(block: Tensor, low: int, high: int) -> Tensor:
    """Mark each column's values of rank `low` to `high - 1`: Boolean `(rows, b)`.

    Ranks count from 0 for the smallest value; equal values rank in the order of their rows.
    """
    ranked = _sorted(block)
    kept = (block >= ranked[low]) & (block <= ranked[high - 1])
    tied = kept.sum(0) != high - low
    if tied.any():
        order = block[:, tied].argsort(dim=0, stable=True)[low:high]
        kept[:, tied] = torch.zeros_like(kept[:, tied]).scatter_(0, order, True)
    return kept


def _sorted(block: Tensor) -> Tensor:
    """Sort each column; numpy's sort is vectorised and ten times as fast as torch's on a CPU."""
    if block.device.type == "cpu" and block.dtype in (torch.float32, torch.float64):
        return torch.from_numpy(np.sort(block.numpy(), axis=0))
    return block.sort(dim=0).values


def densest(closeness: Tensor, byzantine: int, neighbours: int | None, pairs: bool = False) -> Tensor:
    """Mark the `n - f` rows of the densest neighbourhoods: Boolean `(rows,)`.

    A neighbourhood is a row's `neighbours` closest rows, itself included. It is as dense as the sum of the row's
    `closeness` `(rows, rows)` to them; or, with `pairs`, the sum over all pairs among them.
    """
    nearest = closeness.topk(_neighbours(neighbours, len(closeness)), dim=1)
    density = nearest.values.sum(1)
    if pairs:
        inside = torch.zeros_like(closeness).scatter_(1, nearest.indices, 1.0)
        density = (inside @ closeness * inside).sum(1)
    return smallest(-density, len(closeness) - byzantine)


def at_unit_norm(kept: Tensor, norms: Tensor) -> Tensor:
    """Share evenly among the rows kept, each scaled to norm 1; a row of norm 0 stays as it is: `(rows,)`."""
    return torch.where(norms > 0, kept / norms, 0.0) / kept.sum()


def lowest_loss(loss: Tensor, byzantine: int) -> Tensor:
    """Mark the `n - f` rows of lowest loss, ties by row (Fang's LRR)."""
    return smallest(loss, len(loss) - byzantine)


def highest_accuracy(loss: Tensor, accuracy: Tensor, byzantine: int) -> Tensor:
    """Mark the `n - f` rows of highest accuracy, ties by loss, then by row (Fang's ERR)."""
    by_loss = loss.argsort(stable=True)
    ranked = by_loss[accuracy[by_loss].argsort(descending=True, stable=True)]
    return torch.zeros_like(loss, dtype=torch.bool).index_fill(0, ranked[: len(loss) - byzantine], True)


def _neighbours(neighbours: int | None, n: int) -> int:
    if neighbours is None:
        return n // 2 + 1
    if not n < 2 * neighbours <= 2 * n:
        raise AgrbenchError(f"neighbours={neighbours} of {n} rows; write a number from {n // 2 + 1} to {n}")
    return neighbours
