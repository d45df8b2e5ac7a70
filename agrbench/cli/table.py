"""`agrbench table`: print tables of records."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import click

from agrbench import specs
from agrbench.cli.options import data_option, only_base_option, plugin_option, table_option
from agrbench.errors import AgrbenchError
from agrbench.plugins.registry import Registry
from agrbench.results import metrics, store
from agrbench.results.formats import DATA, write
from agrbench.results.metrics import Group
from agrbench.results.paper.claims import PAGES
from agrbench.results.paper.tables import beside_published
from agrbench.results.tables import TABLES, tables
from agrbench.results.tables.arrange import arranged, split
from agrbench.results.tables.ranking import listed


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
@click.option(
    "--of", "of", multiple=True, metavar="SPEC",
    help="With --metric pairs: compare only this defense with every other one; again for more.",
)  # fmt: skip
@click.option("--sort", metavar="COLUMN", help="Sort rows by this column, the smallest first.")
@click.option("--reverse", is_flag=True, help="With --sort: the largest first.")
@click.option("--columns", metavar="COLUMN,...", help="Show only the first column and these.")
@only_base_option
@table_option
@plugin_option
@data_option
def show_table(
    folders: tuple[Path, ...], metric: str | None, like: str | None, defenses: tuple[str, ...],
    attacks: tuple[str, ...], of: tuple[str, ...], forms: str | None, form: str, plugins: tuple[str, ...],
    sort: str | None, reverse: bool, columns: str | None,
) -> None:  # fmt: skip
    """Print tables of the records in one or more folders or packed files (default: results).

    Files and lines that are no records are named on standard error and left out. fedavg and unattacked runs stay,
    whatever is chosen, because the metrics compare with them.
    """
    from agrbench.simulation import suites

    if metric and like:
        raise AgrbenchError(f"--metric {metric} and --like {like} are two tables; write one of them")
    if reverse and sort is None:
        raise AgrbenchError("--reverse turns an order round; write --sort COLUMN with it")
    if form in DATA and (sort or columns):
        raise AgrbenchError(f"--format {form} has all fields in their order; take --sort and --columns out")
    if of and metric != "pairs":
        raise AgrbenchError(f"--of chooses pairs of defenses; write --metric pairs --of {shlex.quote(of[0])}")
    wanted = folders or (() if like == "table5" else (Path("results"),))  # the fifth is computed from data files
    registry = Registry(plugins)
    mine = [registry.canonical("defense", each) for each in specs.spread(of)]
    chosen = [registry.canonical("defense", each) for each in specs.spread(defenses)]
    shown = (
        [*chosen, *mine] if chosen else [],
        [registry.canonical("attack", each) for each in specs.spread(attacks)],
        forms == "base",
    )
    records = metrics.chosen((record for _, record in store.readable(wanted)), *shown)
    groups = metrics.groups(records, partial(registry.spelled, "dataset"))
    if like:
        made = [beside_published(like, groups, registry)]
    elif groups:
        _check_known(mine, groups)
        made = tables(groups, metric or "triad", suites.demanded(registry), mine)
    else:
        raise AgrbenchError("no finished record there; run `agrbench grid` first, or name another folder")
    if not made:
        raise AgrbenchError(
            "no record under an attack there; run `agrbench grid --suite worst`, or name another folder"
        )
    click.echo(write(arranged(made, sort, reverse, split(columns or "")), form))


def _check_known(of: Sequence[str], groups: Sequence[Group]) -> None:
    """Refuse a defense without records, and suggest one that has some."""
    known = list(dict.fromkeys(defense for group in groups for defense in group.defenses))
    for defense in of:
        if defense not in known:
            near = difflib.get_close_matches(defense, known, n=1, cutoff=0.55)
            hint = f"did you mean {near[0]}?" if near else f"there are {listed(known)}"
            raise AgrbenchError(f"--of {defense}: no record of it there; {hint}")
