"""The partitions by name: rules that divide training rows among clients, evenly or as unevenly as real users' data.

Each function takes the `Examples`, the number of clients and a generator, and returns each client's row numbers,
`(rows,)`, in random order. Every row is dealt once (`natural`: every row of the owners drawn).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Generator, Tensor

from agrbench.errors import AgrbenchError

if TYPE_CHECKING:
    from agrbench.data.examples import Examples


@dataclass(frozen=True)
class Hands:
    """The row numbers that clients hold, client after client, in two tensors however many clients there are.

    Client `i` holds `rows[ends[i]:ends[i + 1]]`.
    """

    rows: Tensor
    ends: Tensor

    @classmethod
    def of(cls, held: Sequence[Tensor]) -> Hands:
        """Join the row numbers of each client."""
        return cls(torch.cat([*held]), _ends(torch.tensor([len(mine) for mine in held])))

    @property
    def sizes(self) -> Tensor:
        """Count each client's rows: `(clients,)`."""
        return self.ends.diff()

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, client: int) -> Tensor:
        return self.rows[int(self.ends[client]) : int(self.ends[client + 1])]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[client] for client in range(len(self)))


def deal(name: str, options: Mapping[str, Any], examples: Examples, clients: int, rng: Generator) -> Hands:
    """Divide rows among clients by a partition with these hyperparameters, at least one row each.

    Raises:
        AgrbenchError: there are fewer rows, owners or classes than the partition needs.
    """
    rows = len(examples.labels)
    if rows < clients:
        raise AgrbenchError(
            f"{rows} training examples cannot be shared among {clients} clients; write --clients {rows} or fewer"
        )
    hands = PARTITIONS[name](examples, clients, rng, **options)
    return hands if hands.sizes.all() else Hands.of(_each_one([*hands]))


def iid(examples: Examples, clients: int, rng: Generator) -> Hands:
    """Divide the rows evenly, in their given order, which is already random."""
    rows = len(examples.labels)
    sizes = torch.full((clients,), rows // clients)
    sizes[: rows % clients] += 1
    return Hands(torch.arange(rows), _ends(sizes))


def dirichlet(examples: Examples, clients: int, rng: Generator, *, alpha: float) -> Hands:
    """Divide each class among the clients in proportions drawn from Dirichlet(alpha) (Yurochkin et al., ICML 2019)."""
    draw = _numpy(rng)
    held: list[list[Tensor]] = [[] for _ in range(clients)]
    for label in range(examples.classes):
        rows = (examples.labels == label).nonzero().flatten().cpu()
        ends = np.round(np.cumsum(draw.dirichlet([alpha] * clients))[:-1] * len(rows)).astype(int)
        for mine, part in zip(held, rows.tensor_split(torch.from_numpy(ends)), strict=True):
            mine.append(part)
    return Hands.of([_shuffled(torch.cat(parts), rng) for parts in held])


def shards(examples: Examples, clients: int, rng: Generator, *, labels: int) -> Hands:
    """Sort by label, cut into `labels` pieces per client, and deal them at random (McMahan et al., 2017).

    Each client then has about `labels` classes.
    """
    if len(examples.labels) < clients * labels:
        raise AgrbenchError(
            f"{len(examples.labels)} training examples cannot be cut into {clients} x {labels} shards; "
            f"write --clients {len(examples.labels) // labels} or fewer, or fewer labels"
        )
    pieces = examples.labels.cpu().argsort(stable=True).tensor_split(clients * labels)
    order = torch.randperm(len(pieces), generator=rng).view(clients, labels).tolist()
    return Hands.of([_shuffled(torch.cat([pieces[place] for place in places]), rng) for places in order])


def natural(examples: Examples, clients: int, rng: Generator) -> Hands:
    """Make each client one of the data's natural owners, drawn at random."""
    owners, counts = natural_owners(examples)
    if len(owners) < clients:
        raise AgrbenchError(
            f"the training examples have {len(owners)} owners, not {clients}; write --clients {len(owners)} or fewer, "
            f"or --root test if the server's root set took all rows of an owner"
        )
    assert examples.owners is not None
    chosen = owners[torch.randperm(len(owners), generator=rng)[:clients]]
    by_owner = examples.owners.cpu().argsort(stable=True)
    ends = pairwise(_ends(counts).tolist())
    parts = {owner: by_owner[slice(*bounds)] for owner, bounds in zip(owners.tolist(), ends, strict=True)}
    return Hands.of([_shuffled(parts[owner], rng) for owner in chosen.tolist()])


def natural_owners(examples: Examples) -> tuple[Tensor, Tensor]:
    """Return the numbers of the natural owners, ascending, and how many rows each has: `(owners,)` each.

    Raises:
        AgrbenchError: the examples have no owners.
    """
    if examples.owners is None:
        raise AgrbenchError("this dataset has no natural owners; write --partition iid or another one")
    owners, counts = torch.unique(examples.owners.cpu(), return_counts=True)
    return owners, counts


def quantity(examples: Examples, clients: int, rng: Generator, *, sigma: float) -> Hands:
    """Divide the rows into shares of sizes proportional to exp(N(0, sigma^2)), regardless of class."""
    normal = _numpy(rng).standard_normal(clients)
    shares = np.exp(sigma * (normal - normal.max()))  # relative to the largest, to avoid overflow
    ends = np.round(np.cumsum(shares / shares.sum())[:-1] * len(examples.labels)).astype(int)
    sizes = np.diff(ends, prepend=0, append=len(examples.labels))
    return Hands(torch.arange(len(examples.labels)), _ends(torch.from_numpy(sizes)))


def by_label(examples: Examples, clients: int, rng: Generator, *, gamma: float = 0.0) -> Hands:
    """Divide a share `gamma` of the rows evenly at random, and the rest sorted by label, cut in as many even pieces.

    Without a share at random, it is the split of Karimireddy et al. (ICLR 2022, section 6); with one, Hsu et al.'s and
    ByzFL's (`gamma` is 1 for identical, 0 for disjoint distributions).
    """
    rows = torch.randperm(len(examples.labels), generator=rng)
    alike, rest = rows.tensor_split([int(gamma * len(rows))])
    ordered = rest[examples.labels.cpu()[rest].argsort(stable=True)]
    # Pieces at random are cut from the other end, because the first pieces of a cut have the rows left over.
    parts = zip(ordered.tensor_split(clients), reversed(alike.tensor_split(clients)), strict=True)
    return Hands.of([_shuffled(torch.cat(part), rng) for part in parts])


PARTITIONS: dict[str, Callable[..., Hands]] = {
    "iid": iid, "dirichlet": dirichlet, "shards": shards, "natural": natural, "quantity": quantity,
    "sorted": by_label, "similarity": by_label,
}  # fmt: skip


def _each_one(held: list[Tensor]) -> list[Tensor]:
    """Move one row to each client without rows, from the client that then has the most, the first on ties."""
    ranked = [(-len(mine), client) for client, mine in enumerate(held)]
    heapq.heapify(ranked)
    for client, mine in enumerate(held):
        if not len(mine):
            richest = ranked[0][1]
            held[client], held[richest] = held[richest][-1:], held[richest][:-1]
            heapq.heapreplace(ranked, (-len(held[richest]), richest))
    return held


def _ends(sizes: Tensor) -> Tensor:
    return torch.cat([torch.zeros(1, dtype=torch.long), sizes.cumsum(0)])


def _shuffled(rows: Tensor, rng: Generator) -> Tensor:
    return rows[torch.randperm(len(rows), generator=rng)]


def _numpy(rng: Generator) -> np.random.Generator:
    """Return a numpy generator seeded by `rng`, because numpy's Dirichlet accepts a generator."""
    return np.random.default_rng(int(torch.randint(1 << 62, (), generator=rng)))
