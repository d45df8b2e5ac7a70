"""`agrbench grid`: run attacks x datasets x defenses, and print the triad."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from agrbench.cli.engines import Where, engine_options
from agrbench.cli.options import (
    Share,
    data_option,
    device_option,
    only_base_option,
    out_option,
    plugin_option,
    resumable,
    seeds_option,
    settings_options,
    time_limit_option,
    traceback_option,
)


@click.command("grid")
@click.option("--suite", metavar="NAME|FILE.toml", help="A grid in words: a shipped one or a file.")
@click.option("-a", "attacks", multiple=True, metavar="SPEC", help="An attack; again for more.")
@click.option(
    "-d",
    "defenses",
    multiple=True,
    metavar="SPEC",
    help="A defense, or stages and a defense: amp(kernel=3)+krum.",
)
@click.option("-D", "datasets", multiple=True, metavar="SPEC", help="A dataset.")
@seeds_option
@settings_options()
@engine_options
@time_limit_option
@device_option
@plugin_option
@data_option
@out_option
@only_base_option
@click.option("--only-amplified", "forms", flag_value="amplified", help="Leave the base forms out.")
@click.option("--shard", type=Share(), help="Compute only this part of the cells, split evenly (docs/cluster.md).")
@click.option("--keep-stale", is_flag=True, help="Use records made by plugin files that have changed since.")
@click.option("--dry-run", is_flag=True, help="Say what would be computed, and roughly how long it takes.")
@click.option("-q", "--quiet", is_flag=True, help="No progress and no advice on standard error.")
@click.option("-v", "--verbose", is_flag=True, help="Name every finished cell; of a dry run, every cell.")
@traceback_option
def run_grid(
    suite: str | None, attacks: tuple[str, ...], defenses: tuple[str, ...], datasets: tuple[str, ...], seeds: int |
    None,
    where: Where, time_limit: float | None, device: str, plugins: tuple[str, ...], out: Path, forms: str | None,
    shard: tuple[int, int] | None, keep_stale: bool, dry_run: bool, quiet: bool, verbose: bool, traceback: bool,
    **settings: Any,
) -> None:  # fmt: skip
    """Run attacks x datasets x defenses, base and amplified, and print the triad of each defense.

    Cells that have a finished record in the output folder are not computed again. fedavg under every attack, and every
    defense without attack, always run too, because the metrics compare with them. Exit codes: 0 done, 1 a cell failed,
    2 wrong usage, 75 the time limit is reached, 130 interrupted.
    """
    from agrbench.cli import estimate, execute
    from agrbench.plugins.registry import Registry
    from agrbench.results.store import Store
    from agrbench.simulation import grid, shards, suites

    with resumable():
        given = execute.given(settings, device, where.device)
        asked = suites.choose(suite, attacks, defenses, datasets, seeds, given, forms)
        if dry_run:
            files = tuple(Path(file).resolve() for file in plugins)
            estimate.preview(estimate.Asked(asked, files, out, keep_stale, shard), where.jobs, quiet, verbose)
            return
        registry, store = Registry(plugins, forgiving=True), Store(out)
        with where.open(registry) as engine:
            wanted, errors = grid.sound(asked, registry)
            for error in errors:
                execute.say(f"Left out: {error}")
            cells = shards.part(grid.expand(wanted, registry), registry, shard)
            plan = grid.plan(cells, registry, store, keep_stale)
            how = execute.How(engine, quiet, verbose, traceback, time_limit)
            failures = execute.run(plan, registry, store, how)
        sys.exit(execute.conclude(plan, failures, registry, store, how, shard) or bool(errors))
