"""Local training of many clients: their schedule, and the trainer that runs it and keeps each optimizer's state."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from agrbench import settings, threads
from agrbench.cells import Cell
from agrbench.clients.learner import Learner
from agrbench.clients.optimizers import OPTIMIZERS
from agrbench.data.examples import Batch, Examples, batch
from agrbench.errors import AgrbenchError

# Bytes of models, gradients and optimizer state of the clients that step at once: what fits in cache. A large model is
# a block of one client, whose plain products are faster than batched products of one. Applying Adam stripe by stripe,
# while gradients are in a core's cache, gained next to nothing. `python benchmarks/blocks.py 1` times block sizes.
BLOCK = 1 << 24


@dataclass(frozen=True)
class Schedule:
    """What a client does in a round.

    A client cuts its rows, in order, into `batches` batches whose sizes differ by at most one (with fewer rows, one row
    per batch). It takes one optimizer step per batch, for `epochs` epochs, at `rate` and with the optimizer's own
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
        """Return whether a round is one plain gradient step on all of a client's rows."""
        return self.optimizer == "sgd" and not self.slots and self.epochs == self.batches == 1

    @property
    def slots(self) -> tuple[str, ...]:
        """Name the buffers that the optimizer keeps for each parameter."""
        return OPTIMIZERS[self.optimizer].slots(**self.options)


Draw = Callable[[int, int], int]
States = dict[int, dict[str, Tensor]]
"""Optimizer states by client; the tensors in it are never written into."""


class Block(NamedTuple):
    """Clients adjacent in memory that take the same number of steps."""

    clients: slice
    batches: tuple[Batch, ...]


class Trainer:
    """Some clients that train round after round, each on its own data with its own optimizer state.

    `clients` are their numbers, by default counted from 0, and `states` their optimizer states, by default new ones.
    `updates` `(clients, parameters)` holds their latest
    updates, and `buffers` `(clients, buffers)` what their models then keep besides, such as running means; every round
    reuses both. `draw(number, client)` is a client's seed in a round, for models that draw random numbers in training.
    """

    def __init__(
        self,
        learner: Learner,
        shards: Sequence[Examples],
        schedule: Schedule,
        draw: Draw = lambda number, client: 0,
        clients: Sequence[int] | None = None,
        states: States | None = None,
    ) -> None:
        self.learner, self.schedule, self.draw = learner, schedule, draw
        self.clients: tuple[int, ...] = ()
        self.away = dict(states or {})
        like, device = learner.initial, shards[0].features.device
        self.updates = torch.empty(0, len(like), dtype=like.dtype, device=device)
        self.state = dict.fromkeys(schedule.slots, self.updates) | {"steps": torch.zeros(0)}
        self.enrol(tuple(range(len(shards)) if clients is None else clients), shards)

    def enrol(self, clients: tuple[int, ...], shards: Sequence[Examples]) -> None:
        """Replace the clients that train; `away` keeps the optimizer state of the others until they are back."""
        self.away = self.states({*self.away, *self.clients})
        if len(self.updates) != len(clients):
            self.updates = self.updates.new_empty(len(clients), len(self.learner.initial))
            self.buffers = self.updates.new_empty(len(clients), len(self.learner.buffers))
        self.clients, self.blocks = clients, self._cut(shards)
        self.state = {slot: torch.zeros_like(self.updates) for slot in self.schedule.slots}
        self.state["steps"] = torch.zeros(len(clients))  # on the CPU: every round reads it
        for row, client in enumerate(clients):
            for name, kept in self.away.pop(client, {}).items():
                self.state[name][row] = kept

    def states(self, clients: Iterable[int]) -> States:
        """Copy the optimizer states of clients, whether they are enrolled or away; clients never seen have none."""
        if not self.schedule.slots:
            return {}
        rows = {client: row for row, client in enumerate(self.clients)}
        enrolled = {
            client: {name: kept[rows[client]].clone() for name, kept in self.state.items()}
            for client in clients
            if client in rows
        }
        return enrolled | {client: self.away[client] for client in clients if client in self.away}

    def _cut(self, shards: Sequence[Examples]) -> tuple[Block, ...]:
        """Cut the shards into blocks of clients whose models fit in cache together."""
        each = self.updates.element_size() * len(self.learner.initial) * (2 + len(self.schedule.slots))
        most = len(shards) if self.schedule.is_one_step else max(BLOCK // each, 1)
        return tuple(
            Block(rows, tuple(self.learner.prepared(batch(some)) for some in parts))
            for rows, parts in _blocks(shards, self.schedule.batches, most)
        )

    def train(self, start: Tensor, number: int = 0, buffers: Tensor | None = None) -> Tensor:
        """Train from one model `(parameters,)`, or one per client `(clients, parameters)`, and return `updates`.

        `number` is the round's; `buffers` are the model's, `(buffers,)` or one per client, by default the initial ones.
        """
        self.buffers[:] = self.learner.buffers.to(self.buffers) if buffers is None else buffers
        seeds = [self.draw(number, client) for client in self.clients] if self.learner.random else []
        if self.schedule.is_one_step and start.ndim == 1:
            for block in self.blocks:
                out, mine = self.updates[block.clients], self.buffers[block.clients]
                differentiate = self.learner.gradients(start, out, -self.schedule.rate, mine)
                differentiate(block.batches[0], seeds[block.clients])
            return self.updates

        def work(block: Block) -> None:
            self._train(block, start if start.ndim == 1 else start[block.clients], seeds[block.clients])

        # Blocks run side by side, one thread each: a client's products are too small to split among threads, and the
        # results do not depend on the number of threads.
        threads.finish(threads.each(work, self.blocks, start.device) if self.learner.apart else map(work, self.blocks))
        return self.updates

    def take_over(self, other: Trainer, clients: Tensor | slice, mine: Tensor | slice = slice(None)) -> None:
        """Copy the optimizer state of another trainer's rows `clients` to this one's rows `mine`."""
        for name, kept in self.state.items():
            here, there = (each.to(kept.device) if isinstance(each, Tensor) else each for each in (mine, clients))
            kept[here] = other.state[name][there]

    def branch(self) -> Trainer:
        """Return a trainer that continues from here with a copied state; both write into the same `updates`."""
        other = copy.copy(self)
        other.state = {name: kept.clone() for name, kept in self.state.items()}
        other.away = dict(self.away)
        return other

    def rehearse(self) -> Trainer:
        """Return a trainer that trains identically and writes into no state or buffer of this one."""
        other = self.branch()
        other.updates, other.buffers = torch.empty_like(self.updates), torch.empty_like(self.buffers)
        return other

    def _train(self, block: Block, start: Tensor, seeds: Sequence[int]) -> None:
        """Take a block's steps from `start`, and write how far the models moved into `updates`."""
        local, buffers = self.updates[block.clients], self.buffers[block.clients]
        models = torch.empty_like(local).copy_(start)  # a new buffer starts at a cache line; rows of `updates` may not
        gradients = torch.empty_like(local)
        state = {name: kept[block.clients] for name, kept in self.state.items()}
        schedule, differentiate = self.schedule, self.learner.gradients(models, gradients, buffers=buffers)
        step = OPTIMIZERS[schedule.optimizer].step(models, gradients, state, schedule.rate, **schedule.options)
        for turn in range(schedule.epochs):
            for place, part in enumerate(block.batches):
                differentiate(part, [seed + turn * len(block.batches) + place for seed in seeds])
                step()
        state["steps"] += schedule.epochs * len(block.batches)
        torch.sub(models, start, out=local)


def _blocks(shards: Sequence[Examples], batches: int, most: int) -> Iterator[tuple[slice, list[list[Examples]]]]:
    """Cut the clients, in order, into runs of at most `most` that take equally many steps and are at most half padding.

    Yield each run with its clients' examples, batch by batch.
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
    """Cut each shard's rows, in order, into batches: a list of batches, each with its part of every shard."""
    if batches == 1:
        return [list(shards)]
    rows = [torch.arange(len(shard.labels), device=shard.labels.device).tensor_split(batches) for shard in shards]
    return [[shard.take(mine[place]) for shard, mine in zip(shards, rows, strict=True)] for place in range(batches)]


def check_smallest_batch(learner: Learner, shards: Sequence[Examples], schedule: Schedule) -> None:
    """Refuse batches of one row for a model that cannot train on one, such as one with BatchNorm.

    Raises:
        AgrbenchError: there is such a batch; the message says what to write instead.
    """
    fewest = min(shards, key=lambda shard: len(shard.labels) // min(len(shard.labels), schedule.batches))
    rows = len(fewest.labels)
    if rows // min(rows, schedule.batches) > 1:
        return
    start = learner.initial.to(fewest.features.device)
    one = learner.prepared(batch([fewest.take(torch.tensor([0], device=start.device))]))
    try:
        learner.gradients(start, start.new_empty(1, len(start)))(one, [0])
    except Exception as error:
        raise AgrbenchError(
            f"the model cannot train on a batch of one row ({error}), and a client with {rows} rows in "
            f"{min(rows, schedule.batches)} batches has one; write fewer batches or --clients, or --partition iid"
        ) from error
