"""`agrbench breaking-point`: find the malicious share at which a defense breaks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from agrbench.cli.engines import Where, engine_options
from agrbench.cli.options import (
    data_option,
    device_option,
    only_base_option,
    out_option,
    plugin_option,
    quiet_option,
    resumable,
    seeds_option,
    settings_options,
    table_option,
    time_limit_option,
    traceback_option,
)


@click.command("breaking-point")
@click.option("-D", "dataset", metavar="SPEC", required=True, help="A dataset.")
@click.option("-d", "defenses", multiple=True, required=True, metavar="SPEC", help="A defense; again for more.")
@click.option(
    "-a", "attacks", multiple=True, metavar="SPEC", help="An attack; again for more (default: the suite worst)."
)
@seeds_option
@click.option("--clients", type=int, help="How many clients (with natural, all owners) (default 20).")
@click.option("--rounds", type=int, help="Rounds (default 100).")
@click.option("--start", type=int, help="First attacked round (default 20).")
@settings_options("sample", "rate", "schedule", "model", "partition", "root", "threads")
@engine_options
@time_limit_option
@device_option
@table_option
@plugin_option
@data_option
@out_option
@only_base_option
@quiet_option
@traceback_option
def find_breaking_points(
    dataset: str, defenses: tuple[str, ...], attacks: tuple[str, ...], seeds: int | None, where: Where, device: str,
    form: str, plugins: tuple[str, ...], out: Path, forms: str | None, quiet: bool, traceback: bool,
    time_limit: float | None, **settings: Any,
) -> None:  # fmt: skip
    """Find the smallest malicious share at which the worst attack costs a defense ten points of accuracy.

    Bisects the number of malicious clients, which the server knows, from none to half of all clients, for the base and
    the amplified form. Attacks and settings default to those of the suite `worst`: 20 clients, 100 rounds, attack from
    round 20. Runs are ordinary records, and finished ones are not computed again. Exit codes: 0 done, 1 a run failed, 2
    wrong usage, 75 the time limit is reached, 130 interrupted.
    """
    from agrbench.cells import UNATTACKED, UNDEFENDED, Cell
    from agrbench.cli import execute
    from agrbench.plugins.registry import Registry
    from agrbench.results import breaking, formats
    from agrbench.results.store import Store
    from agrbench.results.tables.breaking import table
    from agrbench.simulation import grid, suites

    with resumable():
        registry, store = Registry(plugins), Store(out)
        given = execute.given(settings, device, where.device)
        (wanted,) = suites.choose("worst", attacks, defenses, [dataset], seeds, given, forms)
        cell = Cell(dataset, UNDEFENDED, UNATTACKED, **grid.with_owners(wanted.settings, dataset, registry))
        stacks = grid.forms(wanted.defenses, registry, wanted.forms)
        specs = [registry.canonical("attack", attack) for attack in wanted.attacks]
        found = breaking.searches(cell, stacks, specs, wanted.seeds, registry)
        with where.open(registry) as engine:
            failures = execute.search(found, registry, store, execute.How(engine, quiet, limit=time_limit))
        click.echo(formats.write([table(found, registry.spelled("dataset", dataset))], form))
        execute.report_failures(failures, store, traceback)
        sys.exit(1 if failures else 0)
