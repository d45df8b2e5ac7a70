"""Who holds which rows: even shares, or shares as uneven as users' data are.

Each function takes the `Examples` to be dealt out, how many clients there are and a generator, and gives each client's
rows, `(rows,)` each, in random order; together they hold every row once (`natural`: every row of the owners drawn).
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
    """Deal out rows as a partition says, at least one to every client.

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
    """Share the rows out evenly, in the order in which they come, which is random already."""
    return list(torch.arange(len(examples.labels)).tensor_split(clients))


def dirichlet(examples: Examples, clients: int, rng: Generator, *, alpha: float) -> list[Tensor]:
    """Share each class among the clients in proportions drawn from Dirichlet(alpha) (Yurochkin et al., ICML 2019)."""
    draw = _numpy(rng)
    held: list[list[Tensor]] = [[] for _ in range(clients)]
    for label in range(examples.classes):
        rows = (examples.labels == label).nonzero().flatten().cpu()
        ends = np.round(np.cumsum(draw.dirichlet([alpha] * clients))[:-1] * len(rows)).astype(int)
        for mine, part in zip(held, rows.tensor_split(torch.from_numpy(ends)), strict=True):
            mine.append(part)
    return [_shuffled(torch.cat(parts), rng) for parts in held]


def shards(examples: Examples, clients: int, rng: Generator, *, labels: int) -> list[Tensor]:
    """Sort by label, cut into `labels` pieces a client, and give each client as many at random (McMahan et al., 2017).

    A client then sees about `labels` classes.
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
    """Let each client be one of the data's own owners, drawn at random."""
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
    """Share the rows out in sizes proportional to exp(N(0, sigma^2)), classes as they come."""
    normal = _numpy(rng).standard_normal(clients)
    shares = np.exp(sigma * (normal - normal.max()))  # in proportion to the largest, which cannot overflow
    ends = np.round(np.cumsum(shares / shares.sum())[:-1] * len(examples.labels)).astype(int)
    return list(torch.arange(len(examples.labels)).tensor_split(torch.from_numpy(ends)))


PARTITIONS: dict[str, Callable[..., list[Tensor]]] = {
    "iid": iid, "dirichlet": dirichlet, "shards": shards, "natural": natural, "quantity": quantity,
}  # fmt: skip


def _each_one(held: list[Tensor]) -> list[Tensor]:
    """Give a client without rows one of the client that then has most; the first of several."""
    for client, mine in enumerate(held):
        if not len(mine):
            richest = max(range(len(held)), key=lambda other: len(held[other]))
            held[client], held[richest] = held[richest][-1:], held[richest][:-1]
    return held


def _shuffled(rows: Tensor, rng: Generator) -> Tensor:
    return rows[torch.randperm(len(rows), generator=rng)]


def _numpy(rng: Generator) -> np.random.Generator:
    """Draw with numpy, whose Dirichlet takes a seed of its own, from the same source."""
    return np.random.default_rng(int(torch.randint(1 << 62, (), generator=rng)))
