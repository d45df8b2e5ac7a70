"""Choose a dataset's learning rate: nobody attacks or defends, and held-out training rows measure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import fmean
from typing import NamedTuple, cast

from agrbench import threads
from agrbench.cells import UNATTACKED, UNDEFENDED, Cell
from agrbench.clients.federation import Examples, split
from agrbench.plugins.registry import Registry
from agrbench.randomness import generator
from agrbench.results.formats import Entry, Table
from agrbench.simulation import execution
from agrbench.simulation.run import load, prepare, simulate

RATES = {"sgd": (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0), "adam": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)}
HELD_OUT = 0.1  # of the training rows


class Trial(NamedTuple):
    """What one rate came to: held-out accuracy on average from the first attacked round on, and at the end."""

    rate: float
    mean: float
    final: float


def candidates(cell: Cell) -> tuple[float, ...]:
    """Give the rates to try with a cell's optimizer."""
    return RATES[cell.schedule.partition("(")[0]]


def tune(cell: Cell, rates: Sequence[float], registry: Registry) -> Iterator[Trial]:
    """Run a cell's dataset and settings at each rate, undefended and unattacked, without touching the test set."""
    cell = execution.canonical(replace(cell, defense=UNDEFENDED, attack=UNATTACKED), registry)
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


def table(cell: Cell, trials: Sequence[Trial]) -> Table:
    """Show what each rate came to."""
    rows = tuple(
        (Entry((f"{trial.rate:g}",), trial == best(trials)), Entry((f"{100 * trial.mean:.2f}",)),
         Entry((f"{100 * trial.final:.2f}",))) for trial in trials
    )  # fmt: skip
    shown = ("clients", "rounds", "rate")
    settings = "".join(f", {name} {value}" for name, value in cell.settings.items() if name not in shown)
    notes = (
        f"Held-out accuracy in percent: {HELD_OUT:.0%} of the training rows, nobody attacking or defending; "
        f"mean over evaluated rounds from {cell.first} on. Best marked.",
    )
    data = tuple(trial._asdict() for trial in trials)
    return Table(
        f"Learning rates: {cell.dataset}, {cell.clients} clients, {cell.rounds} rounds, seed {cell.seed}{settings}",
        ("rate", "mean", "last"), rows, notes, data,
    )  # fmt: skip
