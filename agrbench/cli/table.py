"""`agrbench table`: print tables of records."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from agrbench.cli.options import data_option, only_base_option, plugin_option, table_option
from agrbench.errors import AgrbenchError
from agrbench.plugins.registry import Registry
from agrbench.results import metrics, store
from agrbench.results.formats import write
from agrbench.results.paper.claims import PAGES
from agrbench.results.paper.tables import beside_published
from agrbench.results.tables import TABLES, tables


@click.command("table")
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path), metavar="[DIR]...")
@click.option(
    "--metric", type=click.Choice([*TABLES]), show_default="triad", help="What to show."
)  # fmt: skip
@click.option(
    "--like", type=click.Choice([*PAGES]),
    help="Show a table of the AgrAmplifier paper, ours beside each published value.",
)  # fmt: skip
@click.option(
    "-d", "defenses", multiple=True, metavar="SPEC", help="Show this defense, base and amplified; again for more."
)
@click.option("-a", "attacks", multiple=True, metavar="SPEC", help="Show this attack; again for more.")
@only_base_option
@table_option
@plugin_option
@data_option
def show_table(
    folders: tuple[Path, ...], metric: str | None, like: str | None, defenses: tuple[str, ...],
    attacks: tuple[str, ...], forms: str | None, form: str, plugins: tuple[str, ...],
) -> None:  # fmt: skip
    """Print tables of the records in one or more folders or packed files (default: results).

    Files and lines that are no records are named on standard error and left out. fedavg and unattacked runs stay,
    whatever is chosen, because the metrics compare with them.
    """
    from agrbench.simulation import suites

    if metric and like:
        raise AgrbenchError(f"--metric {metric} and --like {like} are two tables; write one of them")
    wanted = folders or (() if like == "table5" else (Path("results"),))  # the fifth is computed from data files
    registry = Registry(plugins)
    shown = (
        [registry.canonical("defense", each) for each in defenses],
        [registry.canonical("attack", each) for each in attacks],
        forms == "base",
    )
    records = metrics.chosen((record for _, record in store.readable(wanted)), *shown)
    groups = metrics.groups(records, partial(registry.spelled, "dataset"))
    if like:
        made = [beside_published(like, groups, registry)]
    elif groups:
        made = tables(groups, metric or "triad", suites.demanded(registry))
    else:
        raise AgrbenchError("no finished record there; run `agrbench grid` first, or name another folder")
    if not made:
        raise AgrbenchError(
            "no record under an attack there; run `agrbench grid --suite worst`, or name another folder"
        )
    click.echo(write(made, form))
