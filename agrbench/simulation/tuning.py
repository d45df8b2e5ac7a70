"""Choose a dataset's learning rate from unattacked, undefended runs, measured on held-out training rows."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import lru_cache
from statistics import fmean
from typing import Any, NamedTuple, cast

import torch

from agrbench import settings, threads
from agrbench.cells import UNATTACKED, UNDEFENDED, Cell
from agrbench.clients.learner import Learner
from agrbench.clients.optimizers import OPTIMIZERS
from agrbench.data.examples import Examples, split
from agrbench.errors import AgrbenchError
from agrbench.plugins.registry import Registry
from agrbench.randomness import generator
from agrbench.results.stability import FALL, largest_fall
from agrbench.simulation.engines import Answer, Engine, Lost
from agrbench.simulation.engines.turns import Turns
from agrbench.simulation.prefixes import Tree
from agrbench.simulation.preparation import load, prepare
from agrbench.simulation.run import simulate

HELD_OUT = 0.1  # of the training rows
SEEDS = 3
NUDGE = 1e-6  # the standard deviation of what is added to each parameter of the initial model
DRIFT = 1.0  # points of accuracy by which two stable runs may differ that start so close together


class Trial(NamedTuple):
    """The result of one rate, over seeds: held-out accuracy averaged from round `Cell.first` on, and at the end.

    The others are in points, from round `Cell.first` on and for the worst seed: `fall`, from one evaluation to the
    next; `drift`, between a run and one whose initial model differs by `NUDGE`; `spread`, between seeds.
    """

    rate: float
    mean: float
    final: float
    fall: float
    drift: float
    spread: float

    @property
    def stable(self) -> bool:
        """Return whether training keeps clear of the edge of stability, where rounding decides about accuracy."""
        return self.fall <= FALL and self.drift <= DRIFT


def candidates(cell: Cell) -> tuple[float, ...]:
    """Return the rates to try with a cell's optimizer."""
    return OPTIMIZERS[settings.read("schedule", cell.schedule).name].rates


def tune(
    cell: Cell, rates: Sequence[float], engine: Engine, seeds: int = SEEDS,
    report: Callable[[str], object] = lambda what: None,
) -> Iterator[Trial]:  # fmt: skip
    """Try each rate with a cell's dataset and settings, undefended and unattacked, without using the test set.

    Every rate takes two runs for each of the seeds from 0, by an engine whose work is `pair`; `report` is called after
    each pair. The cell is in canonical form.

    Raises:
        AgrbenchError: a setting, a plugin or a data file is at fault, or a process was lost.
    """
    cell = replace(cell, defense=UNDEFENDED, attack=UNATTACKED)
    rows = [[replace(cell, rate=rate, seed=seed) for seed in range(seeds)] for rate in dict.fromkeys(rates)]
    cells, found = [each for row in rows for each in row], dict[Cell, list[dict[str, Any]]]()
    engine.prepare(cells)
    with closing(engine.run(Turns(cells))) as answers:
        for row in rows:
            while not found.keys() >= set(row):
                answer = next(answers)
                if answer is not None:
                    found[answer.cell] = _sound(answer)
                    report(f"{answer.cell.rate:g}, seed {answer.cell.seed}")
            yield _trial(row[0], [found[each] for each in row])


def _sound(answer: Answer) -> list[dict[str, Any]]:
    if isinstance(answer.value, Lost):
        raise AgrbenchError(f"{answer.cell}: {answer.value.why}")
    if isinstance(answer.value, AgrbenchError):
        raise answer.value
    return cast(list[dict[str, Any]], answer.value)


def pair(cell: Cell, tree: Tree, alone: bool) -> list[dict[str, Any]] | AgrbenchError:
    """Measure a run on held-out rows and one that starts close to it, or return what is at fault: work for a worker."""
    try:
        dataset = tree.registry.dataset(cell.dataset)
        federation, learner = prepare(cell, dataset, _data(tree.registry, cell.dataset, cell.clients))
        with threads.using(cell.threads):
            starts = (learner, nudged(learner, cell.seed))
            return [simulate(cell, tree.registry, (federation, start)) for start in starts]
    except AgrbenchError as error:
        return error


@lru_cache(maxsize=1)
def _data(registry: Registry, dataset: str, clients: int) -> tuple[Examples, Examples]:
    """Return the training rows, split; a process keeps those that it used last."""
    return held_out(load(registry.dataset(dataset), clients)[0])


def _trial(cell: Cell, runs: Sequence[Sequence[dict[str, Any]]]) -> Trial:
    """Sum up the runs of one rate: for each seed, one from the initial model and one from close to it."""
    rounds = runs[0][0]["rounds"]
    late = [place for place, number in enumerate(rounds) if number >= cell.first] or [len(rounds) - 1]
    curves = [[[run["accuracy"][place] for place in late] for run in pair] for pair in runs]
    plain = [pair[0] for pair in curves]
    return Trial(
        cast(float, cell.rate),
        fmean(map(fmean, plain)),
        fmean(curve[-1] for curve in plain),
        max(largest_fall(rounds, pair[0]["accuracy"], cell.first) for pair in runs),
        max(_apart(pair) for pair in curves),
        _apart(plain),
    )


def _apart(curves: Sequence[Sequence[float]]) -> float:
    """Return by how many points curves differ, at most, at the same evaluation."""
    spread: float = max(max(values) - min(values) for values in zip(*curves, strict=True))
    return 100 * spread


def nudged(learner: Learner, seed: int) -> Learner:
    """Return a learner whose initial model differs by `NUDGE` times standard normal values."""
    other = copy.copy(learner)
    noise = torch.randn(learner.initial.shape, generator=generator(seed, "nudge"), dtype=torch.float64)
    other.initial = learner.initial + (NUDGE * noise).to(learner.initial)
    return other


def held_out(train: Examples) -> tuple[Examples, Examples]:
    """Split the training set at random, always in the same way, into rows to train on and rows to measure with."""
    return split(train, max(round(HELD_OUT * len(train.labels)), 1), generator(0, "held out"))


def best(trials: Sequence[Trial]) -> Trial | None:
    """Return the stable trial with the highest mean accuracy, the smallest rate on ties; `None` if none is stable."""
    return max(
        sorted(trial for trial in trials if trial.stable), key=lambda trial: (trial.mean, -trial.rate), default=None
    )
