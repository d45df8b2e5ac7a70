"""Who holds which data, and who is malicious: the same for every attack and defense of one seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from agrbench.errors import AgrbenchError
from agrbench.randomness import Randomness


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

    def to(self, device: torch.device) -> Examples:
        """Move to a device."""
        owners = None if self.owners is None else self.owners.to(device)
        return Examples(self.features.to(device), self.labels.to(device), self.classes, owners)


@dataclass(frozen=True)
class Federation:
    """The clients' shards, the server's root set, the test set, and the malicious clients' ids, ascending."""

    shards: tuple[Examples, ...]
    root: Examples
    test: Examples
    malicious: tuple[int, ...]

    @property
    def honest(self) -> tuple[int, ...]:
        """List the honest clients' ids, ascending."""
        return tuple(client for client in range(len(self.shards)) if client not in self.malicious)


def federate(
    train: Examples, test: Examples, root_size: int, clients: int, malicious: int, randomness: Randomness
) -> Federation:
    """Set the root set aside and share the rest out evenly at random (IID); draw the malicious clients.

    Raises:
        AgrbenchError: there are fewer examples than clients.
    """
    rows = torch.randperm(len(train.labels), generator=randomness("split"))
    root, rest = rows[:root_size], rows[root_size:]
    if len(rest) < clients:
        raise AgrbenchError(
            f"{len(rest)} training examples cannot be shared among {clients} clients; "
            f"write --clients {len(rest)} or fewer"
        )
    shards = tuple(train.take(part) for part in rest.tensor_split(clients))
    chosen = torch.randperm(clients, generator=randomness("malicious"))[:malicious]
    return Federation(shards, train.take(root), test, tuple(sorted(chosen.tolist())))


class Batch(NamedTuple):
    """Shards of several clients side by side: `features` `(clients, rows, *shape)`, `labels` `(clients, rows)`.

    Shorter shards are padded; `share` `(clients, rows)` is 1 over the shard's size, 0 on padding.
    """

    features: Tensor
    labels: Tensor
    share: Tensor


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
    return Batch(features, labels, share)


def split(examples: Examples, test_size: int, rng: Generator) -> tuple[Examples, Examples]:
    """Split once, at random, into `(train, test)`."""
    rows = torch.randperm(len(examples.labels), generator=rng)
    return examples.take(rows[test_size:]), examples.take(rows[:test_size])
