"""Set up a federation: who holds which data and who is malicious, the same for every attack and defense of one seed."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from agrbench import settings
from agrbench.cells import Cell
from agrbench.clients.partitions import Hands, deal
from agrbench.data.examples import Examples
from agrbench.errors import AgrbenchError
from agrbench.randomness import Randomness


@dataclass(frozen=True)
class Shards:
    """The clients' shards, by client number; each is cut out of `examples` when asked for, so the others cost nothing.

    `hands` holds each client's rows of `examples`.
    """

    examples: Examples
    hands: Hands

    def __len__(self) -> int:
        return len(self.hands)

    def __getitem__(self, client: int) -> Examples:
        return self.examples.take(self.hands[client])

    def __iter__(self) -> Iterator[Examples]:
        return (self[client] for client in range(len(self)))

    @property
    def sizes(self) -> Tensor:
        """Count each client's examples: `(clients,)`."""
        return self.hands.sizes

    @cached_property
    def labels(self) -> Tensor:
        """Return the labels of all clients' examples, client after client: `(rows,)`."""
        return self.examples.labels[self.hands.rows]

    @cached_property
    def owner_numbers(self) -> tuple[int, ...]:
        """Return the natural owner of each client's first example; empty if the examples have no owners."""
        if self.examples.owners is None:
            return ()
        return tuple(self.examples.owners[self.hands.rows[self.hands.ends[:-1]]].tolist())

    @cached_property
    def owners(self) -> tuple[str, ...]:
        """Name the natural owner of each client's first example, if need be by its number."""
        names = self.examples.about.owners
        return tuple(names[number] if names else str(number) for number in self.owner_numbers)


@dataclass(frozen=True)
class Federation:
    """The clients' shards, the server's root set, the test set, and the malicious clients' ids, ascending."""

    shards: Shards
    root: Examples
    test: Examples
    malicious: tuple[int, ...]

    def cut(self, share: float, least: int) -> Federation:
        """Keep the first rows of each shard and of the root set: a share of them, but `least` where there are so many.

        The test set stays whole.
        """
        rows, sizes = self.shards.hands.rows, self.shards.sizes
        places = torch.arange(len(rows)) - self.shards.hands.ends[:-1].repeat_interleave(sizes)
        keeps = (sizes.double() * share).ceil().long().clamp(min=least).minimum(sizes)
        hands = Hands(rows[places < keeps.repeat_interleave(sizes)], self.shards.hands.ends.clone())
        hands.ends[1:] = keeps.cumsum(0)
        root = torch.arange(min(max(math.ceil(len(self.root.labels) * share), least), len(self.root.labels)))
        return replace(self, shards=Shards(self.shards.examples, hands), root=self.root.take(root))

    @cached_property
    def is_malicious(self) -> Tensor:
        """Mark the malicious clients: Boolean `(clients,)`."""
        marks = torch.zeros(len(self.shards), dtype=torch.bool)
        marks[list(self.malicious)] = True
        return marks

    @property
    def honest(self) -> tuple[int, ...]:
        """List the honest clients' ids, ascending."""
        return tuple((~self.is_malicious).nonzero().flatten().tolist())


def federate(train: Examples, test: Examples, root_size: int, cell: Cell, randomness: Randomness) -> Federation:
    """Set the server's root set aside, deal the rest out to the clients, and draw the malicious ones.

    Raises:
        AgrbenchError: there are too few examples for the root set or the partition, a named owner is not among the
            clients, or no client is honest.
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
    term, rng = settings.read("partition", cell.partition), randomness("partition")
    options = {name: value for name, value in term.arguments.items() if name != "malicious"}
    malicious = () if cell.owners else _malicious(cell, randomness)
    apart = malicious if term.arguments.get("malicious") == "all" else ()
    held = _beside(deal(term.name, options, numbered, cell.clients - len(apart), rng), apart)
    shards = Shards(train, Hands(rows[held.rows], held.ends))
    return Federation(shards, root, test, malicious or _named(shards, cell.owners))


def _beside(honest: Hands, malicious: Sequence[int]) -> Hands:
    """Add malicious clients that each hold all of the rows that the honest ones share."""
    if not malicious:
        return honest
    everything, dealt = torch.arange(len(honest.rows)), iter(honest)
    clients = len(honest) + len(malicious)
    return Hands.of([everything if client in malicious else next(dealt) for client in range(clients)])


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
    if cell.ids:
        return cell.ids
    if not cell.draw:
        return tuple(sorted(torch.randperm(cell.clients, generator=rng)[: cell.attackers].tolist()))
    chosen = torch.rand(cell.clients, generator=rng) < cell.draw.arguments["share"]
    if chosen.all():
        raise AgrbenchError(f"all {cell.clients} clients were drawn malicious; write a fixed number, --malicious 1")
    return tuple(chosen.nonzero().flatten().tolist())


def _named(shards: Shards, names: tuple[str, ...]) -> tuple[int, ...]:
    """Return the ids, ascending, of the clients that are these natural owners."""
    missing = [name for name in names if name not in shards.owners]
    if missing:
        near = difflib.get_close_matches(missing[0], shards.owners) or sorted(shards.owners)[:12]
        raise AgrbenchError(f"no client is the owner {missing[0]!r}; among the clients are {', '.join(near)}")
    return tuple(client for client, owner in enumerate(shards.owners) if owner in names)
