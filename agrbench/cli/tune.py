"""`agrbench tune`: choose a dataset's learning rate, and show the accuracy of each rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from agrbench.cells import UNATTACKED, UNDEFENDED, Cell
from agrbench.cli.options import data_option, plugin_option, quiet_option, settings_options
from agrbench.errors import AgrbenchError
from agrbench.results.formats import Entry, Table, write
from agrbench.settings import spelled, without_rate

if TYPE_CHECKING:
    from agrbench.simulation.tuning import Trial


@click.command("tune")
@click.argument("dataset", metavar="DATASET")
@click.option("--rate", "rates", type=float, multiple=True, help="A rate to try; again for more (default: a scale).")
@settings_options("clients", "sample", "rounds", "start", "schedule", "model", "partition", "threads")
@plugin_option
@data_option
@quiet_option
def tune_rate(dataset: str, rates: tuple[float, ...], plugins: tuple[str, ...], quiet: bool, **settings: Any) -> None:
    """Choose a dataset's learning rate by its accuracy on held-out training rows, without attack or defense."""
    from agrbench.plugins.registry import Registry
    from agrbench.progress import progress
    from agrbench.simulation import grid, tuning

    given = {name: value for name, value in settings.items() if value is not None}
    if without_rate(given.get("schedule", "sgd"))[1] is not None:
        raise AgrbenchError(f"the schedule {given['schedule']} names a rate; write the rates to try as --rate")
    registry = Registry(plugins)
    cell = Cell(dataset, UNDEFENDED, UNATTACKED, **grid.with_owners(given, dataset, registry))
    wanted = tuple(dict.fromkeys(rates)) or tuning.candidates(cell)
    trials: list[Trial] = []
    try:
        with progress("rates", len(wanted), quiet) as report:
            for trial in tuning.tune(cell, wanted, registry):
                trials.append(trial)
                report(f"{trial.rate:g}: {100 * trial.mean:.2f} %")
    finally:
        if trials:
            click.echo(write([table(cell, trials, registry.spelled("dataset", dataset))], "plain"))


def table(cell: Cell, trials: Sequence[Trial], dataset: str) -> Table:
    """Show the held-out accuracy of each rate."""
    from agrbench.simulation.tuning import HELD_OUT, best

    rows = tuple(
        (Entry((f"{trial.rate:g}",), trial == best(trials)), Entry((f"{100 * trial.mean:.2f}",)),
         Entry((f"{100 * trial.final:.2f}",))) for trial in trials
    )  # fmt: skip
    shown = ("clients", "rounds", "rate")
    settings = "".join(f", {name} {spelled(name, value)}" for name, value in cell.settings.items() if name not in shown)
    notes = (
        f"Held-out accuracy in percent: {HELD_OUT:.0%} of the training rows, nobody attacking or defending; "
        f"mean over evaluated rounds from {cell.first} on. Best marked.",
    )
    data = tuple(trial._asdict() for trial in trials)
    return Table(
        f"Learning rates: {dataset}, {cell.clients} clients, {cell.rounds} rounds, seed {cell.seed}{settings}",
        ("rate", "mean", "last"), rows, notes, data,
    )  # fmt: skip
