"""Who holds which data, and who is malicious: the same for every attack and defense of one seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from agrbench import settings
from agrbench.cells import Cell
from agrbench.clients.partitions import deal
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

    def clone(self) -> Examples:
        """Copy, for whoever might write into it."""
        return self._replace(features=self.features.clone(), labels=self.labels.clone())

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


class Attacker(NamedTuple):
    """A malicious client as the poisoning of its data sees it.

    `number` counts the malicious clients from 0; `labels` `(rows,)` are those of all clients' data.
    """

    number: int
    labels: Tensor


def federate(train: Examples, test: Examples, root_size: int, cell: Cell, randomness: Randomness) -> Federation:
    """Set the server's root set aside, deal the rest out to the clients, and draw the malicious ones.

    Raises:
        AgrbenchError: there are not enough examples for the root set or the partition, or no honest client is left.
    """
    rows = torch.randperm(len(train.labels), generator=randomness("split"))
    if cell.root == "test":
        root, test = _first(test, root_size)
    else:
        if len(rows) <= root_size:
            raise AgrbenchError(
                f"{len(rows)} training examples cannot spare {root_size} for the root set; write --root test"
            )
        root, rows = train.take(rows[:root_size]), rows[root_size:]
    numbered = train._replace(features=torch.arange(len(train.labels))).take(rows)
    held = deal(settings.read("partition", cell.partition), numbered, cell.clients, randomness("partition"))
    shards = tuple(train.take(numbered.features[part]) for part in held)
    return Federation(shards, root, test, _malicious(cell, randomness))


def _first(test: Examples, size: int) -> tuple[Examples, Examples]:
    """Take the first rows of the test set out of it."""
    if len(test.labels) <= size:
        raise AgrbenchError(
            f"{len(test.labels)} test examples cannot spare {size} for the root set; write --root train"
        )
    rows = torch.arange(len(test.labels))
    return test.take(rows[:size]), test.take(rows[size:])


def _malicious(cell: Cell, randomness: Randomness) -> tuple[int, ...]:
    """Draw the malicious clients' ids, ascending: a fixed number of them, or each for itself."""
    rng = randomness("malicious")
    if not cell.draw:
        return tuple(sorted(torch.randperm(cell.clients, generator=rng)[: cell.attackers].tolist()))
    chosen = torch.rand(cell.clients, generator=rng) < cell.draw.arguments["share"]
    if chosen.all():
        raise AgrbenchError(f"all {cell.clients} clients were drawn malicious; write a fixed number, --malicious 1")
    return tuple(chosen.nonzero().flatten().tolist())


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
