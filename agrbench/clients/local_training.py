"""Local training of many clients: the trainer that runs their schedule and keeps each optimizer's state."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from agrbench import threads
from agrbench.clients.batches import Block, blocks
from agrbench.clients.learner import Learner
from agrbench.clients.optimizers import OPTIMIZERS
from agrbench.clients.schedules import Schedule
from agrbench.data.examples import Examples, batch
from agrbench.errors import AgrbenchError

# Bytes of models, gradients and optimizer state of the clients that step at once: what fits in cache. A large model is
# a block of one client, whose plain products are faster than batched products of one. Applying Adam stripe by stripe,
# while gradients are in a core's cache, gained next to nothing. `python benchmarks/blocks.py 1` times block sizes.
BLOCK = 1 << 24
SMALL = 1e-6  # added to a gradient's norm before it divides the bound, as `torch.nn.utils.clip_grad_norm_` does

Draw = Callable[[int, int], int]
States = dict[int, dict[str, Tensor]]
"""Optimizer states by client; the tensors in it are never written into."""


class Trainer:
    """Some clients that train round after round, each on its own data with its own optimizer state.

    `clients` are their numbers, by default counted from 0, and `states` their optimizer states, by default new ones.
    `updates` `(clients, parameters)` holds their latest updates, and `buffers` `(clients, buffers)` what their models
    then keep besides, such as running means; every round reuses both. `draw(number, client)` is a client's seed in a
    round, for its mini-batches and for models that draw random numbers in training.
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
        each = self.updates.element_size() * len(self.learner.initial) * (2 + len(self.schedule.slots))
        most = len(shards) if self.schedule.is_one_step else max(BLOCK // each, 1)
        self.clients, self.blocks = clients, blocks(shards, self.schedule, most, self.learner.prepared)
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

    def train(self, start: Tensor, number: int = 0, buffers: Tensor | None = None) -> Tensor:
        """Train from one model `(parameters,)`, or one per client `(clients, parameters)`, and return `updates`.

        `number` is the round's; `buffers` are the model's, `(buffers,)` or one per client, by default the initial ones.
        """
        self.buffers[:] = self.learner.buffers.to(self.buffers) if buffers is None else buffers
        schedule = self.schedule
        seeded = self.learner.random or schedule.batch is not None
        seeds = [self.draw(number, client) for client in self.clients] if seeded else []
        if schedule.is_one_step and start.ndim == 1:
            for block in self.blocks:
                out, mine, some = self.updates[block.clients], self.buffers[block.clients], seeds[block.clients]
                differentiate = self.learner.gradients(start, out, -schedule.rate_in(number), mine)
                differentiate(next(iter(block.batches(some))), some if self.learner.random else ())
            return self.updates
        if schedule.reset and start.ndim == 1:
            for kept in self.state.values():
                kept.zero_()

        def work(block: Block) -> None:
            begin = start if start.ndim == 1 else start[block.clients]
            self._train(block, begin, seeds[block.clients], schedule.rate_in(number))

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

    def _train(self, block: Block, start: Tensor, seeds: Sequence[int], rate: float) -> None:
        """Take a block's steps from `start`, and write how far the models moved into `updates`."""
        local, buffers = self.updates[block.clients], self.buffers[block.clients]
        models = torch.empty_like(local).copy_(start)  # a new buffer starts at a cache line; rows of `updates` may not
        gradients = torch.empty_like(local)
        state = {name: kept[block.clients] for name, kept in self.state.items()}
        schedule, differentiate = self.schedule, self.learner.gradients(models, gradients, buffers=buffers)
        step = OPTIMIZERS[schedule.optimizer].step(models, gradients, state, rate, **schedule.options)
        for number, part in enumerate(block.batches(seeds)):
            differentiate(part, [seed + number for seed in seeds] if self.learner.random else ())
            if schedule.clip is not None:
                norms = torch.linalg.vector_norm(gradients, dim=1, keepdim=True)
                gradients.mul_((schedule.clip / (norms + SMALL)).clamp(max=1))
            step()
        state["steps"] += block.steps
        torch.sub(models, start, out=local)


def check_smallest_batch(learner: Learner, shards: Sequence[Examples], schedule: Schedule) -> None:
    """Refuse batches of one row for a model that cannot train on one, such as one with BatchNorm.

    Raises:
        AgrbenchError: there is such a batch; the message says what to write instead.
    """
    sizes = torch.tensor([len(shard.labels) for shard in shards])
    fewest, place = schedule.smallest_batch(sizes).min(0)
    if fewest > 1:
        return
    start, device = learner.initial, shards[0].features.device
    one = learner.prepared(batch([shards[int(place)].take(torch.tensor([0], device=device))]))
    try:
        learner.gradients(start.to(device), start.new_empty(1, len(start), device=device))(one, [0])
    except Exception as error:
        cut = f"of {schedule.batch} rows" if schedule.batch else f"({schedule.batches} of them)"
        raise AgrbenchError(
            f"the model cannot train on a batch of one row ({error}), and a client with {sizes[place]} rows cut into "
            f"batches {cut} has one; write other batches, fewer --clients, or --partition iid"
        ) from error
