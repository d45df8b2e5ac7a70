"""Combine the original updates by a verdict's weights, whatever the stages made of rows and columns.

A row stage acts by a matrix `M` and a column stage by a map of coordinates to features, so the step is `(M^T W)`
spread over
the coordinates, times the originals. Weights by column are made and used block by block: a `(clients, parameters)`
matrix of weights never exists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import torch
from torch import Tensor

from agrbench.selection import Ranks
from agrbench.threads import each, finish

R = TypeVar("R")

BLOCK = 1 << 17  # entries worked on at once


@dataclass(frozen=True)
class Spread:
    """The coordinates of each feature, features in order; `dropped` coordinates belong to none."""

    coordinates: Tensor | None
    starts: Tensor | None
    dropped: Tensor | None

    @classmethod
    @lru_cache(maxsize=2)  # by the very map, which stages keep for a layout
    def of(cls, feature_of: Tensor | None, features: int) -> Spread:
        """Read a map from coordinates to features; `None` is the identity."""
        if feature_of is None:
            return cls(None, None, None)
        ordered, coordinates = feature_of.sort(stable=True)
        starts = torch.searchsorted(ordered, torch.arange(features + 1, device=feature_of.device))
        dropped = coordinates[: int(starts[0])]
        return cls(coordinates, starts.cpu(), dropped if len(dropped) else None)

    def place(self, weights: Tensor, first: int) -> tuple[slice | Tensor, Tensor]:
        """Give the coordinates of the features from `first` on, and the weights of each: `(rows, coordinates)`."""
        last = first + weights.shape[1]
        if self.coordinates is None or self.starts is None:
            return slice(first, last), weights
        sizes = self.starts[first + 1 : last + 1] - self.starts[first:last]
        where = self.coordinates[self.starts[first] : self.starts[last]]
        return where, weights.repeat_interleave(sizes.to(weights.device), dim=1)


def shares(weights: Tensor, like: Tensor) -> Tensor:
    """Turn Boolean weights into equal shares among the True of each column; numbers take the updates' dtype."""
    if weights.dtype != torch.bool:
        return weights.to(like)
    numbers = weights.contiguous().view(torch.uint8).to(like)  # five times as fast as from truth values
    return numbers.div_(numbers.sum(0).clamp(min=1))


def by_client(weights: Tensor, mixing: Tensor | None, updates: Tensor) -> tuple[Tensor, Tensor]:
    """Combine by one weight a row: the step `(parameters,)` and each client's weight `(clients,)`.

    Rows of weight 0 are not read.
    """
    weights = shares(weights, updates)
    if mixing is not None:
        weights = mixing.T.to(weights) @ weights
    heard = weights.nonzero().flatten()
    if len(heard) == len(weights):
        return weights @ updates, weights
    taken, step = weights[heard], updates.new_zeros(updates.shape[1])

    def block(columns: slice) -> None:
        torch.mv(updates[:, columns].index_select(0, heard).T, taken, out=step[columns])

    finish(each(block, _cut(updates.shape[1], max(BLOCK // max(len(heard), 1), 64)), updates.device))
    return step, weights


def by_column(
    weigh: Callable[[int, int], Tensor], features: int, spread: Spread, mixing: Tensor | None, updates: Tensor
) -> tuple[Tensor, Tensor]:
    """Combine by weights that differ from feature to feature: the step, and each client's mean absolute weight.

    `weigh(first, last)` gives the weights of those features, `(rows, last - first)`, and may be called from several
    threads; a coordinate of no feature gets the mean of its row's weights.
    """
    step = updates.new_zeros(updates.shape[1])

    def block(columns: slice) -> tuple[Tensor, Tensor]:
        weights = shares(weigh(columns.start, columns.stop), updates)
        if mixing is not None:
            weights = mixing.T.to(weights) @ weights
        where, spread_weights = spread.place(weights, columns.start)
        step[where] = (spread_weights * updates[:, where]).sum(0)
        return weights.sum(1) / features, spread_weights.abs().sum(1)

    mean, absolute = updates.new_zeros(len(updates)), updates.new_zeros(len(updates))
    for part, size in _columns(block, features, updates):
        mean += part
        absolute += size
    if spread.dropped is not None:
        step[spread.dropped] = mean @ updates[:, spread.dropped]
        absolute += mean.abs() * len(spread.dropped)
    return step, absolute / updates.shape[1]


def by_rank(choose: Callable[[Tensor], Ranks], updates: Tensor, tell: bool) -> tuple[Tensor, Tensor]:
    """Average some ranks of each column: the step, and each client's mean weight, NaN unless it is to `tell`."""
    step = updates.new_empty(updates.shape[1])
    held = updates.new_zeros(len(updates)) if tell else updates.new_full((len(updates),), torch.nan)

    def block(columns: slice) -> Tensor | float:
        ranks = choose(updates[:, columns])
        step[columns] = ranks.mean()
        return ranks.shares.sum(1) if tell else 0.0

    for part in _columns(block, updates.shape[1], updates):
        held += part
    return step, held / updates.shape[1]


def _columns(work: Callable[[slice], R], columns: int, updates: Tensor) -> Iterator[R]:
    """Work on blocks of columns; a power of two would lay the entries of a column onto each other in the cache."""
    return each(work, _cut(columns, max(BLOCK // len(updates), 64) | 1), updates.device)


def _cut(columns: int, width: int) -> list[slice]:
    return [slice(first, min(first + width, columns)) for first in range(0, columns, width)]
