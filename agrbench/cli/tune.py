"""`agrbench tune`: choose a dataset's learning rate, and show the accuracy and the stability of each rate."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from agrbench.cells import UNATTACKED, UNDEFENDED, Cell
from agrbench.cli.engines import Where, engine_options
from agrbench.cli.options import data_option, plugin_option, quiet_option, seeds_option, settings_options
from agrbench.errors import AgrbenchError
from agrbench.results.formats import Entry, Table, write
from agrbench.results.stability import FALL
from agrbench.settings import spelled, without_rate

if TYPE_CHECKING:
    from agrbench.simulation.tuning import Trial


@click.command("tune")
@click.argument("dataset", metavar="DATASET")
@click.option("--rate", "rates", type=float, multiple=True, help="A rate to try; again for more (default: a scale).")
@seeds_option
@settings_options("clients", "sample", "rounds", "start", "schedule", "model", "partition", "threads")
@engine_options
@plugin_option
@data_option
@quiet_option
def tune_rate(
    dataset: str, rates: tuple[float, ...], seeds: int | None, where: Where, plugins: tuple[str, ...], quiet: bool,
    **settings: Any,
) -> None:  # fmt: skip
    """Choose a dataset's learning rate by its accuracy on held-out training rows, without attack or defense.

    Rates at which training is unstable are shown and never chosen. Each rate takes two runs a seed, one of them from an
    initial model that differs by a millionth. Exit codes: 0 done, 1 no rate is stable, 2 wrong usage.
    """
    from agrbench.plugins.registry import Registry
    from agrbench.progress import progress
    from agrbench.simulation import grid, tuning

    given = {name: value for name, value in settings.items() if value is not None}
    if without_rate(given.get("schedule", "sgd"))[1] is not None:
        raise AgrbenchError(f"the schedule {given['schedule']} names a rate; write the rates to try as --rate")
    registry = Registry(plugins)
    cell = Cell(dataset, UNDEFENDED, UNATTACKED, **grid.with_owners(given, dataset, registry))
    cell = registry.canonical_cell(cell)
    wanted = tuple(dict.fromkeys(rates)) or tuning.candidates(cell)
    count = seeds or tuning.SEEDS
    trials: list[Trial] = []
    try:
        with where.open(registry, tuning.pair) as engine, progress("pairs", count * len(wanted), quiet) as report:
            for trial in tuning.tune(cell, wanted, engine, count, report):
                trials.append(trial)
    finally:
        if trials:
            click.echo(write([table(cell, trials, count, registry.spelled("dataset", dataset))], "plain"))
    sys.exit(tuning.best(trials) is None)


def table(cell: Cell, trials: Sequence[Trial], seeds: int, dataset: str) -> Table:
    """Show the held-out accuracy of each rate, and what speaks for or against its stability."""
    from agrbench.simulation.tuning import DRIFT, HELD_OUT, NUDGE, best

    rows = tuple(
        (
            Entry((f"{trial.rate:g}",), trial == best(trials)),
            Entry((f"{100 * trial.mean:.2f}",)),
            Entry((f"{100 * trial.final:.2f}",)),
            *(Entry((f"{points:.2f}",)) for points in (trial.fall, trial.drift, trial.spread)),
            Entry(("yes" if trial.stable else "no",)),
        )
        for trial in trials
    )
    shown = ("clients", "rounds", "rate")
    settings = "".join(f", {name} {spelled(name, value)}" for name, value in cell.settings.items() if name not in shown)
    notes = (
        f"Held-out accuracy in percent: {HELD_OUT:.0%} of the training rows, nobody attacking or defending; mean over "
        f"seeds and evaluated rounds from {cell.first} on, and after the last round.",
        f"In points, from round {cell.first} on, at most: fall from one evaluation to the next, drift from a run whose "
        f"initial model differs by {NUDGE:g} times normal values, and spread between seeds.",
        f"Stable: fall at most {FALL:g} and drift at most {DRIFT:g}. "
        + ("No rate is stable; try lower ones." if best(trials) is None else "Best of the stable rates marked."),
    )
    data = tuple(trial._asdict() for trial in trials)
    return Table(
        f"Learning rates: {dataset}, {cell.clients} clients, {cell.rounds} rounds, {counted(seeds)}{settings}",
        ("rate", "mean", "last", "fall", "drift", "spread", "stable"), rows, notes, data,
    )  # fmt: skip


def counted(seeds: int) -> str:
    """Write how many seeds there are."""
    return "1 seed" if seeds == 1 else f"{seeds} seeds"
