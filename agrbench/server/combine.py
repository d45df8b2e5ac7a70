"""Turn a verdict's weights into a step: a combination of the original updates, whatever the stages did to them.

Row stages multiply the rows by a matrix `M`, and column stages map coordinates to features. The step is therefore
`M^T W`, spread over the coordinates, times the originals. Per-column weights are made and used block by block, so a
`(clients, parameters)` matrix of weights never exists.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor

from agrbench.server.ranks import Ranks
from agrbench.threads import each, finish

BLOCK = 1 << 17  # entries processed at once


@dataclass(frozen=True)
class FeatureMap:
    """The coordinates of each feature, in feature order; `dropped` coordinates belong to none.

    `lowest` is the lowest coordinate of a feature and all later ones, `highest` the highest of it and all earlier ones.
    """

    feature_of: Tensor
    coordinates: Tensor
    starts: Tensor
    lowest: Tensor
    highest: Tensor

    @classmethod
    @lru_cache(maxsize=2)  # keyed by the tensor object, which stages reuse for a layout
    def of(cls, feature_of: Tensor, features: int) -> FeatureMap:
        """Build from a map of coordinates to features."""
        ordered, coordinates = feature_of.sort(stable=True)
        starts = torch.searchsorted(ordered, torch.arange(features + 1, device=feature_of.device))
        first, last = (
            coordinates[starts[:-1].clamp(max=len(coordinates) - 1)],
            coordinates[(starts[1:] - 1).clamp(min=0)],
        )
        lowest, highest = first.flip(0).cummin(0).values.flip(0), last.cummax(0).values
        return cls(feature_of, coordinates, starts.cpu(), lowest.cpu(), highest.cpu())

    @property
    def dropped(self) -> Tensor:
        """Return the coordinates that belong to no feature."""
        return self.coordinates[: int(self.starts[0])]

    def cut(self, width: int) -> list[slice]:
        """Cut the features into blocks of at most `width`, if possible between disjoint ranges of coordinates."""
        features = len(self.lowest)
        seams = torch.cat([(self.highest[:-1] < self.lowest[1:]).nonzero().flatten() + 1, torch.tensor([features])])
        bounds = [0]
        while bounds[-1] < features:
            seam = int(seams[max(int(torch.searchsorted(seams, bounds[-1] + width, right=True)) - 1, 0)])
            bounds.append(min(seam if bounds[-1] < seam <= bounds[-1] + width else bounds[-1] + width, features))
        return [slice(*ends) for ends in pairwise(bounds)]

    def place(self, weights: Tensor, features: slice) -> tuple[slice | Tensor, Tensor]:
        """Return the coordinates of some features, and the weights at each: `(rows, coordinates)`."""
        where = self.coordinates[self.starts[features.start] : self.starts[features.stop]]
        low, high = int(self.lowest[features.start]), int(self.highest[features.stop - 1]) + 1
        together = slice(low, high) if high - low == len(where) else where
        return together, weights.index_select(1, self.feature_of[together] - features.start)


def shares(weights: Tensor, like: Tensor) -> Tensor:
    """Turn Boolean weights into equal shares among each column's True; convert numbers to the updates' dtype."""
    if weights.dtype != torch.bool:
        return weights.to(like)
    numbers = weights.contiguous().view(torch.uint8).to(like)  # five times as fast as converting Booleans
    return numbers.div_(numbers.sum(0).clamp(min=1))


def by_client(weights: Tensor, mixing: Tensor | None, updates: Tensor) -> tuple[Tensor, Tensor]:
    """Combine by one weight per row; return the step `(parameters,)` and each client's weight `(clients,)`.

    Rows of weight 0 are not read.
    """
    weights = shares(weights, updates)
    if mixing is not None:
        weights = mixing.T.to(weights) @ weights
    heard = weights.nonzero().flatten()
    if len(heard) == len(weights):
        return weights @ updates, weights
    taken, step = list(zip(heard.tolist(), weights[heard].tolist(), strict=True)), updates.new_empty(updates.shape[1])

    def block(columns: slice) -> None:
        some = step[columns].zero_()
        for row, weight in taken:  # a product would first copy these rows together, which takes longer
            some.add_(updates[row, columns], alpha=weight)

    finish(each(block, _cut(updates.shape[1], BLOCK), updates.device))
    return step, weights


def by_column(
    weigh: Callable[[int, int], Tensor],
    features: int,
    feature_map: FeatureMap | None,
    mixing: Tensor | None,
    updates: Tensor,
) -> tuple[Tensor, Tensor]:
    """Combine by weights that differ by feature; return the step and each client's mean absolute weight.

    `weigh(first, last)` returns the weights of those features, `(rows, last - first)`, and may run in several threads.
    Coordinates in no feature get the mean of their row's weights. Without a `feature_map`, every coordinate is one.
    """
    step = updates.new_zeros(updates.shape[1])

    def block(columns: slice) -> tuple[Tensor, Tensor]:
        weights = shares(weigh(columns.start, columns.stop), updates)
        if mixing is not None:
            weights = mixing.T.to(weights) @ weights
        where, spread_weights = (columns, weights) if feature_map is None else feature_map.place(weights, columns)
        step[where] = (spread_weights * _columns(updates, where)).sum(0)
        return weights.sum(1) / features, spread_weights.abs().sum(1)

    mean, absolute = updates.new_zeros(len(updates)), updates.new_zeros(len(updates))
    blocks = _cut(features, _width(updates)) if feature_map is None else feature_map.cut(_width(updates))
    for part, size in each(block, blocks, updates.device):
        mean += part
        absolute += size
    if feature_map is not None and len(feature_map.dropped):
        step[feature_map.dropped] = mean @ _columns(updates, feature_map.dropped)
        absolute += mean.abs() * len(feature_map.dropped)
    return step, absolute / updates.shape[1]


def by_rank(choose: Callable[[Tensor], Ranks], updates: Tensor) -> Tensor:
    """Return the step that averages the chosen ranks of each column."""
    step = updates.new_empty(updates.shape[1])

    def block(columns: slice) -> None:
        step[columns] = choose(updates[:, columns]).mean()

    finish(each(block, _cut(updates.shape[1], _width(updates)), updates.device))
    return step


def ranked(choose: Callable[[Tensor], Ranks], updates: Tensor) -> Tensor:
    """Return each client's mean weight when the chosen ranks of each column are averaged: `(clients,)`."""

    def block(columns: slice) -> Tensor:
        return choose(updates[:, columns]).shares.sum(1)

    held = updates.new_zeros(len(updates))
    for part in each(block, _cut(updates.shape[1], _width(updates)), updates.device):
        held += part
    return held.div_(updates.shape[1])


def combine_buffers(before: Tensor, sent: Tensor, weights: Tensor) -> Tensor:
    """Combine clients' buffers `(clients, buffers)`, such as running means, by their shares of the absolute weight.

    Shares are neither scaled nor negative, so a running variance stays a variance. Rows that are not finite have none.
    """
    finite = sent.isfinite().all(1)
    shares = weights.abs().to(before) * finite
    total = shares.sum()
    if total == 0:
        return before
    return before + (shares / total) @ torch.where(finite[:, None], sent - before, 0.0)


def _columns(rows: Tensor, where: slice | Tensor) -> Tensor:
    """Take some columns; for scattered ones, `index_select` takes a third of the time of indexing."""
    return rows[:, where] if isinstance(where, slice) else rows.index_select(1, where)


def _width(updates: Tensor) -> int:
    """Return the width of a block: odd, since at a power of two a column's entries would compete for one cache set."""
    return max(BLOCK // len(updates), 64) | 1


def _cut(columns: int, width: int) -> list[slice]:
    return [slice(first, min(first + width, columns)) for first in range(0, columns, width)]
