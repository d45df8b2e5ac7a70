"""The partitions by name: rules that divide training rows among clients, evenly or as unevenly as real users' data.

Each function takes the `Examples`, the number of clients and a generator, and returns each client's row numbers,
`(rows,)`, in random order. Every row is dealt once (`natural`: every row of the owners drawn).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Generator, Tensor

from agrbench.errors import AgrbenchError
from agrbench.specs import Term

if TYPE_CHECKING:
    from agrbench.data.examples import Examples


def deal(partition: Term, examples: Examples, clients: int, rng: Generator) -> list[Tensor]:
    """Divide rows among clients by a partition, at least one row each.

    Raises:
        AgrbenchError: there are fewer rows, owners or classes than the partition needs.
    """
    rows = len(examples.labels)
    if rows < clients:
        raise AgrbenchError(
            f"{rows} training examples cannot be shared among {clients} clients; write --clients {rows} or fewer"
        )
    held = PARTITIONS[partition.name](examples, clients, rng, **partition.arguments)
    return _each_one(held)


def iid(examples: Examples, clients: int, rng: Generator) -> list[Tensor]:
    """Divide the rows evenly, in their given order, which is already random."""
    return list(torch.arange(len(examples.labels)).tensor_split(clients))


def dirichlet(examples: Examples, clients: int, rng: Generator, *, alpha: float) -> list[Tensor]:
    """Divide each class among the clients in proportions drawn from Dirichlet(alpha) (Yurochkin et al., ICML 2019)."""
    draw = _numpy(rng)
    held: list[list[Tensor]] = [[] for _ in range(clients)]
    for label in range(examples.classes):
        rows = (examples.labels == label).nonzero().flatten().cpu()
        ends = np.round(np.cumsum(draw.dirichlet([alpha] * clients))[:-1] * len(rows)).astype(int)
        for mine, part in zip(held, rows.tensor_split(torch.from_numpy(ends)), strict=True):
            mine.append(part)
    return [_shuffled(torch.cat(parts), rng) for parts in held]


def shards(examples: Examples, clients: int, rng: Generator, *, labels: int) -> list[Tensor]:
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
    return [_shuffled(torch.cat([pieces[place] for place in places]), rng) for places in order]


def natural(examples: Examples, clients: int, rng: Generator) -> list[Tensor]:
    """Make each client one of the data's natural owners, drawn at random."""
    if examples.owners is None:
        raise AgrbenchError("this dataset has no natural owners; write --partition iid or another one")
    owners: Tensor = torch.unique(examples.owners).cpu()
    if len(owners) < clients:
        raise AgrbenchError(
            f"the training examples have {len(owners)} owners, not {clients}; write --clients {len(owners)} or fewer"
        )
    chosen = owners[torch.randperm(len(owners), generator=rng)[:clients]]
    return [_shuffled((examples.owners == owner).nonzero().flatten().cpu(), rng) for owner in chosen.tolist()]


def quantity(examples: Examples, clients: int, rng: Generator, *, sigma: float) -> list[Tensor]:
    """Divide the rows into shares of sizes proportional to exp(N(0, sigma^2)), regardless of class."""
    normal = _numpy(rng).standard_normal(clients)
    shares = np.exp(sigma * (normal - normal.max()))  # relative to the largest, to avoid overflow
    ends = np.round(np.cumsum(shares / shares.sum())[:-1] * len(examples.labels)).astype(int)
    return list(torch.arange(len(examples.labels)).tensor_split(torch.from_numpy(ends)))


PARTITIONS: dict[str, Callable[..., list[Tensor]]] = {
    "iid": iid, "dirichlet": dirichlet, "shards": shards, "natural": natural, "quantity": quantity,
}  # fmt: skip


def _each_one(held: list[Tensor]) -> list[Tensor]:
    """Move one row to each client without rows, from the client that then has the most, the first on ties."""
    for client, mine in enumerate(held):
        if not len(mine):
            richest = max(range(len(held)), key=lambda other: len(held[other]))
            held[client], held[richest] = held[richest][-1:], held[richest][:-1]
    return held


def _shuffled(rows: Tensor, rng: Generator) -> Tensor:
    return rows[torch.randperm(len(rows), generator=rng)]


def _numpy(rng: Generator) -> np.random.Generator:
    """Return a numpy generator seeded by `rng`, because numpy's Dirichlet accepts a generator."""
    return np.random.default_rng(int(torch.randint(1 << 62, (), generator=rng)))
