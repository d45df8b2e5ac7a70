"""Labelled examples, batches of several clients' examples, and how to split and batch them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor


class Examples(NamedTuple):
    """Labelled examples: `features` `(rows, *shape)` and `labels` `(rows,)` from 0 to `classes - 1`.

    `owners` `(rows,)` holds the number of each row's natural owner, if the data has owners. What `load` of a dataset
    returns may also hold numpy arrays and other forms of labels; `checked` converts them.
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
        """Append the rows of other examples, without owners."""
        features = torch.cat([self.features, other.features])
        return Examples(features, torch.cat([self.labels, other.labels]), self.classes)

    def clone(self) -> Examples:
        """Copy features and labels, so the copy can be written into."""
        return self._replace(features=self.features.clone(), labels=self.labels.clone())

    def to(self, device: torch.device) -> Examples:
        """Move to a device."""
        owners = None if self.owners is None else self.owners.to(device)
        return Examples(self.features.to(device), self.labels.to(device), self.classes, owners)


class Batch(NamedTuple):
    """Shards of several clients as one tensor: `features` `(clients, rows, *shape)`, `labels` `(clients, rows)`.

    Shorter shards are padded. `share` `(clients, rows)` is 1 over the shard's size, and 0 on padding; `sizes` are the
    shards' sizes without padding.
    """

    features: Tensor
    labels: Tensor
    share: Tensor
    sizes: tuple[int, ...]


def batch(shards: Sequence[Examples]) -> Batch:
    """Stack shards, which may differ in size, into one batch."""
    rows = max(len(shard.labels) for shard in shards)
    first = shards[0].features
    features = first.new_zeros(len(shards), rows, *first.shape[1:])
    labels = shards[0].labels.new_zeros(len(shards), rows)
    share = first.new_zeros(len(shards), rows, dtype=first.dtype if first.is_floating_point() else torch.float64)
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
