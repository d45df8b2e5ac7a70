"""A round of all clients in which only servers and attackers do all of their work, to time these."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from agrbench.cells import Cell
from agrbench.clients.federation import Federation
from agrbench.clients.insider import forge
from agrbench.clients.learner import Learner
from agrbench.data.examples import Batch, Examples
from agrbench.plugins.registry import Registry
from agrbench.server.judge import Judge, Outcome
from agrbench.server.rounds import Server
from agrbench.simulation.costs import Measured
from agrbench.simulation.run import Run

ENOUGH = 0.2  # seconds that are long enough to be timed
TRIES = 3


def clock() -> float:
    """Return seconds of computing time, which other programs do not disturb; with threads or CUDA, of the wall clock.

    A program of one thread takes as long on a machine that is otherwise idle.
    """
    several = torch.get_num_threads() > 1 or torch.cuda.is_available()
    return time.perf_counter() if several else time.process_time()


def seconds(work: Callable[[], float | None]) -> float:
    """Time the fastest of several calls, which together do not take long; seconds that a call returns are added.

    Results that are computed on CUDA must be read back by `work`.
    """
    best, until = math.inf, clock() + ENOUGH
    for _ in range(TRIES):
        began = clock()
        more = work()
        best = min(best, clock() - began + (more or 0.0))
        if clock() > until:
            break
    return best


class Metered:
    """A learner on a cut federation: in `extra` it adds up how much longer its calls take on the whole one.

    A call takes `train` or `test` seconds for each example, of which the whole federation has `factor` times as many.
    """

    def __init__(self, learner: Learner, train: float, test: float) -> None:
        self._learner, self._train, self._test = learner, train, test
        self.factor, self.extra = 1.0, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._learner, name)

    def gradients(self, *arguments: Any, **named: Any) -> Callable[..., Tensor]:
        """See `Learner`."""
        differentiate = self._learner.gradients(*arguments, **named)

        def call(batch: Batch, *seeds: Any) -> Tensor:
            with self._charged(self._train * sum(batch.sizes)):
                return differentiate(batch, *seeds)

        return call

    def evaluate(self, model: Tensor, updates: Tensor, examples: Examples, *rest: Any, **named: Any) -> Any:
        """See `Learner`."""
        with self._charged(self._test * len(updates) * len(examples.labels)):
            return self._learner.evaluate(model, updates, examples, *rest, **named)

    @contextmanager
    def _charged(self, seconds: float) -> Iterator[None]:
        began = clock()
        yield
        self.extra += max(seconds * self.factor - (clock() - began), 0.0)


class Counted(Run):
    """A run that counts its steps and adds up their seconds; while an attack forges, they are its rehearsals."""

    steps, spent = 0, 0.0

    def step(self, judge: Judge, updates: Tensor, server: Server, number: int) -> Outcome:
        """See `Run`."""
        began, learner = clock(), cast(Metered, self.learner)
        extra = learner.extra
        outcome = super().step(judge, updates, server, number)
        self.steps, learner.extra = self.steps + 1, extra
        self.spent += clock() - began
        return outcome


R = TypeVar("R", bound=Run)


@dataclass(frozen=True)
class Stage:
    """A round of a federation in which all clients have trained on few of their examples."""

    whole: Federation
    run: Run
    registry: Registry
    learner: Metered
    updates: Tensor

    @classmethod
    def of(cls, run: Run, registry: Registry, train: float, test: float, share: float) -> Stage:
        """Let all clients of a run train on a share of their examples; the whole takes so many seconds an example."""
        learner = Metered(run.learner, train, test)
        few = run.data.cut(share, least=2 * run.schedule.batches)
        stage = Run(run.cell, registry, (few, cast(Learner, learner)))
        return cls(run.data, stage, registry, learner, stage.clean.train(stage.state.model, 1, stage.state.buffers))

    def server(self, cell: Cell) -> Iterator[Measured]:
        """Time the server of a cell: its step, and the clients' weights, which are in records."""
        run, numbers = self._run(Run, cell), itertools.count(1)
        self._scale(lambda data: len(data.root.labels))

        def decide() -> float:
            self.learner.extra, number = 0.0, next(numbers)
            float(run.step(run.judge, self.updates, run.server(run.training.root, number), number).weights.sum())
            return self.learner.extra

        yield Measured("server", cell, seconds(decide))

    def forge(self, cell: Cell) -> Iterator[Measured]:
        """Time the forging of an attack's rows without rehearsals, and count these: the stack decides their time."""
        run = self._run(Counted, cell)
        self._scale(lambda data: int(data.shards.sizes.sum()))

        def work() -> float:
            self.learner.extra, run.steps, run.spent = 0.0, 0, 0.0
            float(forge(run.attack, run.insider(1), self.updates.shape[1]).sum())
            return self.learner.extra - run.spent

        yield Measured("forge", cell, seconds(work))
        yield Measured("rehearsals", cell, run.steps)

    def _run(self, kind: type[R], cell: Cell) -> R:
        """Return a run of another attack or defense in this round."""
        run = kind(cell, self.registry, (self.run.data, cast(Learner, self.learner)))
        run.training = self.run.training.branch()
        return run

    def _scale(self, count: Callable[[Federation], int]) -> None:
        """Take the work on examples as if it were on the whole federation's."""
        self.learner.factor = count(self.whole) / count(self.run.data)
