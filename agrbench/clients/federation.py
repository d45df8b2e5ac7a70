"""Set up a federation: who holds which data and who is malicious, the same for every attack and defense of one seed."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from agrbench import settings
from agrbench.cells import Cell
from agrbench.clients.partitions import deal
from agrbench.data.examples import Examples
from agrbench.errors import AgrbenchError
from agrbench.randomness import Randomness


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


def federate(train: Examples, test: Examples, root_size: int, cell: Cell, randomness: Randomness) -> Federation:
    """Set the server's root set aside, deal the rest out to the clients, and draw the malicious ones.

    Raises:
        AgrbenchError: there are too few examples for the root set or the partition, or no client is honest.
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
    """Split the test set into its first `size` rows and the rest."""
    if len(test.labels) <= size:
        raise AgrbenchError(
            f"{len(test.labels)} test examples cannot spare {size} for the root set; write --root train"
        )
    rows = torch.arange(len(test.labels))
    return test.take(rows[:size]), test.take(rows[size:])


def _malicious(cell: Cell, randomness: Randomness) -> tuple[int, ...]:
    """Draw the malicious clients' ids, ascending: a fixed number of them, or each client independently."""
    rng = randomness("malicious")
    if not cell.draw:
        return tuple(sorted(torch.randperm(cell.clients, generator=rng)[: cell.attackers].tolist()))
    chosen = torch.rand(cell.clients, generator=rng) < cell.draw.arguments["share"]
    if chosen.all():
        raise AgrbenchError(f"all {cell.clients} clients were drawn malicious; write a fixed number, --malicious 1")
    return tuple(chosen.nonzero().flatten().tolist())
