"""Choose a dataset's learning rate from unattacked, undefended runs, measured on held-out training rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import fmean
from typing import NamedTuple, cast

from agrbench import settings, threads
from agrbench.cells import UNATTACKED, UNDEFENDED, Cell
from agrbench.clients.optimizers import OPTIMIZERS
from agrbench.data.examples import Examples, split
from agrbench.plugins.registry import Registry
from agrbench.randomness import generator
from agrbench.simulation.preparation import load, prepare
from agrbench.simulation.run import simulate

HELD_OUT = 0.1  # of the training rows


class Trial(NamedTuple):
    """The result of one rate: held-out accuracy averaged from round `Cell.first` on, and at the end."""

    rate: float
    mean: float
    final: float


def candidates(cell: Cell) -> tuple[float, ...]:
    """Return the rates to try with a cell's optimizer."""
    return OPTIMIZERS[settings.read("schedule", cell.schedule).name].rates


def tune(cell: Cell, rates: Sequence[float], registry: Registry) -> Iterator[Trial]:
    """Try each rate with a cell's dataset and settings, undefended and unattacked, without using the test set."""
    cell = registry.canonical_cell(replace(cell, defense=UNDEFENDED, attack=UNATTACKED))
    cells = [replace(cell, rate=rate) for rate in dict.fromkeys(rates)]  # invalid rates raise before any run
    dataset = registry.dataset(cell.dataset)
    data = held_out(load(dataset, cell.clients)[0])
    with threads.using(cell.threads):
        for each in cells:
            measured = simulate(each, registry, prepare(each, dataset, data))
            curve = dict(zip(measured["rounds"], measured["accuracy"], strict=True))
            late = [accuracy for number, accuracy in curve.items() if number >= cell.first]
            yield Trial(cast(float, each.rate), fmean(late or [measured["accuracy"][-1]]), measured["accuracy"][-1])


def held_out(train: Examples) -> tuple[Examples, Examples]:
    """Split the training set at random, always in the same way, into rows to train on and rows to measure with."""
    return split(train, max(round(HELD_OUT * len(train.labels)), 1), generator(0, "held out"))


def best(trials: Sequence[Trial]) -> Trial:
    """Return the trial with the highest mean accuracy, the smallest rate on ties."""
    return max(sorted(trials), key=lambda trial: trial.mean)
