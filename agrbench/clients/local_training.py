"""Local training: from the global model, some epochs of batches, with an optimizer whose state each client keeps."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from agrbench import settings, threads
from agrbench.cells import Cell
from agrbench.clients.learner import Learner
from agrbench.clients.optimizers import OPTIMIZERS
from agrbench.data.examples import Batch, Examples, batch

BLOCK = 1 << 24  # bytes of models, gradients and optimizer state of clients that step at once: cached (docs/design.md)


@dataclass(frozen=True)
class Schedule:
    """What a client does in a round.

    A client cuts its rows, in order, into `batches` whose sizes differ by at most one (with fewer rows, one batch a
    row), and takes one step of the optimizer a batch, `epochs` times over, at `rate` and with the optimizer's own
    `options`. `poisoned="after"` trains on poisoned data from where clean training ended, with the same optimizer
    state, as AgrAmplifier's released code does; `"anew"` starts from the global model.
    """

    optimizer: str
    rate: float
    epochs: int = 1
    batches: int = 1
    poisoned: str = "anew"
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        defaults = {name: option.default for name, option in OPTIMIZERS[self.optimizer].options.items()}
        object.__setattr__(self, "options", defaults | dict(self.options))

    @classmethod
    def of(cls, cell: Cell, rate: float) -> Schedule:
        """Read a cell's schedule; `rate` is the dataset's own, for gradient steps."""
        term = settings.read("schedule", cell.schedule)
        every = {name: term.arguments[name] for name in ("epochs", "batches", "poisoned")}
        options = {name: term.arguments[name] for name in OPTIMIZERS[term.name].options}
        return cls(term.name, rate if cell.rate is None else cell.rate, **every, options=options)

    @property
    def is_one_step(self) -> bool:
        """Say whether a round is one plain gradient step on all of a client's rows."""
        return self.optimizer == "sgd" and not self.slots and self.epochs == self.batches == 1

    @property
    def slots(self) -> tuple[str, ...]:
        """Name what the optimizer keeps for every parameter."""
        return OPTIMIZERS[self.optimizer].slots(**self.options)


class Block(NamedTuple):
    """Clients that stand side by side in memory and take as many steps as each other."""

    clients: slice
    batches: tuple[Batch, ...]


class Trainer:
    """Some clients at work, round after round, each on its own data with its own optimizer state.

    `updates` `(clients, parameters)` holds what they learned last; the buffer is used again in every round.
    """

    def __init__(self, learner: Learner, shards: Sequence[Examples], schedule: Schedule) -> None:
        self.learner, self.schedule = learner, schedule
        like, device = learner.initial, shards[0].features.device
        self.updates = torch.empty(len(shards), len(like), dtype=like.dtype, device=device)
        self.state = {slot: torch.zeros_like(self.updates) for slot in schedule.slots}
        self.state["steps"] = torch.zeros(len(shards))  # in main memory: read in every round
        each = self.updates.element_size() * len(like) * (2 + len(schedule.slots))
        most = len(shards) if schedule.is_one_step else max(BLOCK // each, 1)
        self.blocks = tuple(
            Block(clients, tuple(learner.prepared(batch(some)) for some in parts))
            for clients, parts in _blocks(shards, schedule.batches, most)
        )

    def train(self, start: Tensor) -> Tensor:
        """Train from a model `(parameters,)`, or one a client `(clients, parameters)`; give `updates`."""
        if self.schedule.is_one_step and start.ndim == 1:
            for block in self.blocks:
                out = self.updates[block.clients]
                self.learner.gradients(start, out, -self.schedule.rate)(block.batches[0])
            return self.updates

        def work(block: Block) -> None:
            self._train(block, start if start.ndim == 1 else start[block.clients], self.updates[block.clients])

        # the products of one client are too small to be shared among threads
        threads.finish(threads.each(work, self.blocks, start.device) if self.learner.apart else map(work, self.blocks))
        return self.updates

    def take_over(self, other: Trainer, clients: Tensor | slice, mine: Tensor | slice = slice(None)) -> None:
        """Go on with the optimizer state that `clients` of another trainer have."""
        for name, kept in self.state.items():
            here, there = (each.to(kept.device) if isinstance(each, Tensor) else each for each in (mine, clients))
            kept[here] = other.state[name][there]

    def branch(self) -> Trainer:
        """Make a trainer that goes on from here; the two share a buffer for what they learn."""
        other = copy.copy(self)
        other.state = {name: kept.clone() for name, kept in self.state.items()}
        return other

    def rehearse(self) -> Trainer:
        """Make a trainer that trains alike and shares nothing that it could spoil."""
        other = self.branch()
        other.updates = torch.empty_like(self.updates)
        return other

    def _train(self, block: Block, start: Tensor, local: Tensor) -> None:
        """Take a block's steps from `start` on, and write into `local` how far the models came."""
        models = torch.empty_like(local).copy_(start)  # which begin at a cache line, unlike rows of `updates`
        gradients = torch.empty_like(local)
        state = {name: kept[block.clients] for name, kept in self.state.items()}
        schedule, differentiate = self.schedule, self.learner.gradients(models, gradients)
        step = OPTIMIZERS[schedule.optimizer].step(models, gradients, state, schedule.rate, **schedule.options)
        for _ in range(schedule.epochs):
            for part in block.batches:
                differentiate(part)
                step()
        state["steps"] += schedule.epochs * len(block.batches)
        torch.sub(models, start, out=local)


def _blocks(shards: Sequence[Examples], batches: int, most: int) -> Iterator[tuple[slice, list[list[Examples]]]]:
    """Cut the clients, in order, into runs that take as many steps and lose less than half of the memory to padding.

    With each run come its clients' examples, batch by batch.
    """
    sizes = [len(shard.labels) for shard in shards]
    start = 0
    for stop in range(1, len(sizes) + 1):
        run = sizes[start : stop + 1]
        if (
            stop == len(sizes)
            or stop - start == most
            or len({min(size, batches) for size in run}) > 1
            or max(run) * len(run) > 2 * sum(run)
        ):
            yield slice(start, stop), _cut(shards[start:stop], min(sizes[start], batches))
            start = stop


def _cut(shards: Sequence[Examples], batches: int) -> list[list[Examples]]:
    """Cut each shard's rows, in order, into batches: for each place, every shard's."""
    if batches == 1:
        return [list(shards)]
    rows = [torch.arange(len(shard.labels), device=shard.labels.device).tensor_split(batches) for shard in shards]
    return [[shard.take(mine[place]) for shard, mine in zip(shards, rows, strict=True)] for place in range(batches)]
