"""Labelled examples, and how they are split and put side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor


class Examples(NamedTuple):
    """Labelled examples: `features` is `(rows, *shape)`, floating; `labels` is `(rows,)`, from 0 to `classes - 1`.

    `owners` `(rows,)` numbers each row's natural owner, where the data has such.
    """

    features: Tensor
    labels: Tensor
    classes: int
    owners: Tensor | None = None

    def take(self, rows: Tensor) -> Examples:
        """Select rows."""
        owners = None if self.owners is None else self.owners[rows]
        return Examples(self.features[rows], self.labels[rows], self.classes, owners)

    def join(self, other: Examples) -> Examples:
        """Append the rows of another; whose they are is forgotten."""
        features = torch.cat([self.features, other.features])
        return Examples(features, torch.cat([self.labels, other.labels]), self.classes)

    def clone(self) -> Examples:
        """Copy, for whoever might write into it."""
        return self._replace(features=self.features.clone(), labels=self.labels.clone())

    def to(self, device: torch.device) -> Examples:
        """Move to a device."""
        owners = None if self.owners is None else self.owners.to(device)
        return Examples(self.features.to(device), self.labels.to(device), self.classes, owners)


class Batch(NamedTuple):
    """Shards of several clients side by side: `features` `(clients, rows, *shape)`, `labels` `(clients, rows)`.

    Shorter shards are padded; `share` `(clients, rows)` is 1 over the shard's size, 0 on padding; `sizes` are the
    shards' own.
    """

    features: Tensor
    labels: Tensor
    share: Tensor
    sizes: tuple[int, ...]


def batch(shards: Sequence[Examples]) -> Batch:
    """Put shards, which may differ in size, side by side."""
    rows = max(len(shard.labels) for shard in shards)
    first = shards[0].features
    features = first.new_zeros(len(shards), rows, *first.shape[1:])
    labels = shards[0].labels.new_zeros(len(shards), rows)
    share = first.new_zeros(len(shards), rows)
    for client, shard in enumerate(shards):
        size = len(shard.labels)
        features[client, :size], labels[client, :size], share[client, :size] = (
            shard.features,
            shard.labels,
            1 / size,
        )
    return Batch(features, labels, share, tuple(len(shard.labels) for shard in shards))


def split(examples: Examples, test_size: int, rng: Generator) -> tuple[Examples, Examples]:
    """Split once, at random, into `(train, test)`."""
    rows = torch.randperm(len(examples.labels), generator=rng)
    return examples.take(rows[test_size:]), examples.take(rows[:test_size])
