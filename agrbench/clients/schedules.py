"""What a client does in a round: its batches, its steps, its optimizer and its learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from agrbench import settings
from agrbench.cells import Cell
from agrbench.clients.optimizers import OPTIMIZERS

COSINE = "cosine"


@dataclass(frozen=True)
class Schedule:
    """What a client does in a round: optimizer steps at `rate`, with the optimizer's own `options`.

    Without `batch`, a client cuts its rows, in order, into `batches` batches whose sizes differ by at most one (with
    fewer rows, one row per batch), and takes one step per batch, for `epochs` epochs. With `batch`, every epoch
    shuffles the rows and cuts them into mini-batches of `batch` rows, the last of which may be smaller; with `steps`,
    the round ends after so many steps, however many epochs they take.

    `clip` bounds the norm of a step's gradient. `decay` changes the rate over the run's `rounds`: `"cosine"` lowers it
    to 0, and `{100: 0.1}` multiplies it by 0.1 from round 100. `reset` starts every round with a new optimizer state.
    `poisoned="after"` trains on poisoned data from where clean training ended, with the same optimizer state, as
    AgrAmplifier's released code does; `"anew"` starts from the global model. The server's root set is cut into as many
    batches, or with `root="size"`, again as the released code does, into batches of the clients' size.
    """

    optimizer: str
    rate: float
    epochs: int = 1
    batches: int = 1
    poisoned: str = "anew"
    root: str = "batches"
    options: Mapping[str, Any] = field(default_factory=dict)
    batch: int | None = None
    steps: int | None = None
    clip: float | None = None
    decay: str | Mapping[int, float] | None = None
    reset: bool = False
    rounds: int = 1

    def __post_init__(self) -> None:
        defaults = {name: option.default for name, option in OPTIMIZERS[self.optimizer].options.items()}
        object.__setattr__(self, "options", defaults | dict(self.options))

    @classmethod
    def of(cls, cell: Cell, rate: float) -> Schedule:
        """Read a cell's schedule; `rate` is the dataset's own, for gradient steps."""
        term = settings.read("schedule", cell.schedule)
        every = {name: value for name, value in term.arguments.items() if name in settings.TRAINING and name != "rate"}
        options = {name: term.arguments[name] for name in OPTIMIZERS[term.name].options}
        own = rate if cell.rate is None else cell.rate
        return cls(term.name, own, **every, options=options, rounds=cell.rounds)

    def of_root(self, rows: int, sizes: Tensor) -> Schedule:
        """Return the schedule for a root set of so many rows, where clients have `sizes` `(clients,)` rows."""
        if self.root == "batches" or self.batch is not None:
            return self
        size = max(int(sizes.sum()) // (len(sizes) * self.batches), 1)
        return replace(self, batches=math.ceil(rows / size))

    @property
    def is_one_step(self) -> bool:
        """Return whether a round is one plain gradient step on all of a client's rows or on one mini-batch."""
        once = self.epochs == self.batches == 1 if self.batch is None else self.steps == 1
        plain = self.optimizer == "sgd" and not self.slots and not self.options["weight_decay"]
        return once and plain and self.clip is None

    @property
    def slots(self) -> tuple[str, ...]:
        """Name the buffers that the optimizer keeps for each parameter."""
        return OPTIMIZERS[self.optimizer].slots(**self.options)

    def rate_in(self, number: int) -> float:
        """Return the learning rate in a round, counting from 1."""
        if self.decay == COSINE:
            return self.rate * (1 + math.cos(math.pi * max(number - 1, 0) / self.rounds)) / 2
        factors = self.decay if isinstance(self.decay, Mapping) else {}
        reached = [first for first in factors if first <= number]
        return self.rate * factors[max(reached)] if reached else self.rate

    def steps_of(self, rows: int) -> int:
        """Count the steps that a client with so many rows takes in a round."""
        if self.batch is None:
            return self.epochs * min(rows, self.batches)
        return self.steps or self.epochs * math.ceil(rows / self.batch)

    def examples_of(self, rows: int) -> int:
        """Count the examples that a client with so many rows trains on in a round, each as often as it does."""
        if self.batch is None:
            return self.epochs * rows
        epochs, rest = divmod(self.steps_of(rows), math.ceil(rows / self.batch))
        return epochs * rows + min(rest * self.batch, rows)

    def smallest_batch(self, sizes: Tensor) -> Tensor:
        """Return the fewest rows that clients of these `sizes` `(clients,)` may meet in a batch: `(clients,)`."""
        if self.batch is None:
            return sizes // sizes.clamp(max=self.batches)
        last = sizes % self.batch
        met = (last > 0) & (self.steps is None or self.steps * self.batch >= sizes)
        return torch.where(met, last, sizes.clamp(max=self.batch))
