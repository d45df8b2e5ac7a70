"""Choose a dataset's learning rate from unattacked, undefended runs, measured on held-out training rows."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any, NamedTuple, cast

import torch

from agrbench import settings, threads
from agrbench.cells import UNATTACKED, UNDEFENDED, Cell
from agrbench.clients.learner import Learner
from agrbench.clients.optimizers import OPTIMIZERS
from agrbench.data.examples import Examples, split
from agrbench.plugins.registry import Registry
from agrbench.randomness import generator
from agrbench.results.stability import FALL, largest_fall
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
    cell: Cell,
    rates: Sequence[float],
    registry: Registry,
    seeds: int = SEEDS,
    report: Callable[[str], object] = lambda what: None,
) -> Iterator[Trial]:
    """Try each rate with a cell's dataset and settings, undefended and unattacked, without using the test set.

    Every rate takes two runs for each of the seeds from 0; `report` is called after each run.
    """
    cell = registry.canonical_cell(replace(cell, defense=UNDEFENDED, attack=UNATTACKED))
    cells = [replace(cell, rate=rate) for rate in dict.fromkeys(rates)]  # invalid rates raise before any run
    dataset = registry.dataset(cell.dataset)
    data = held_out(load(dataset, cell.clients)[0])
    with threads.using(cell.threads):
        for each in cells:
            runs = []
            for mine in (replace(each, seed=seed) for seed in range(seeds)):
                federation, learner = prepare(mine, dataset, data)
                pair = []
                for start in (learner, nudged(learner, mine.seed)):
                    pair.append(simulate(mine, registry, (federation, start)))
                    report(f"{each.rate:g}, seed {mine.seed}")
                runs.append(pair)
            yield _trial(each, runs)


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
