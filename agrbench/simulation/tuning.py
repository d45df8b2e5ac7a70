"""Choose a dataset's learning rate: nobody attacks or defends, and held-out training rows measure."""

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
    """What one rate came to: held-out accuracy on average from the first attacked round on, and at the end."""

    rate: float
    mean: float
    final: float


def candidates(cell: Cell) -> tuple[float, ...]:
    """Give the rates to try with a cell's optimizer."""
    return OPTIMIZERS[settings.read("schedule", cell.schedule).name].rates


def tune(cell: Cell, rates: Sequence[float], registry: Registry) -> Iterator[Trial]:
    """Run a cell's dataset and settings at each rate, undefended and unattacked, without touching the test set."""
    cell = registry.canonical_cell(replace(cell, defense=UNDEFENDED, attack=UNATTACKED))
    cells = [replace(cell, rate=rate) for rate in dict.fromkeys(rates)]  # wrong rates are refused before any run
    dataset = registry.dataset(cell.dataset)
    data = held_out(load(dataset)[0])
    with threads.using(cell.threads):
        for each in cells:
            measured = simulate(each, registry, prepare(each, dataset, data))
            curve = dict(zip(measured["rounds"], measured["accuracy"], strict=True))
            late = [accuracy for number, accuracy in curve.items() if number >= cell.first]
            yield Trial(cast(float, each.rate), fmean(late or [measured["accuracy"][-1]]), measured["accuracy"][-1])


def held_out(train: Examples) -> tuple[Examples, Examples]:
    """Split the training set once, at random, into rows to train on and rows to measure with."""
    return split(train, max(round(HELD_OUT * len(train.labels)), 1), generator(0, "held out"))


def best(trials: Sequence[Trial]) -> Trial:
    """Give the trial of highest mean accuracy, the smallest rate on ties."""
    return max(sorted(trials), key=lambda trial: trial.mean)
