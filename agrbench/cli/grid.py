"""`agrbench grid`: run attacks x datasets x defenses, and print the triad."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from agrbench.cli.options import (
    data_option,
    device_option,
    jobs_option,
    memory_option,
    only_base_option,
    out_option,
    plugin_option,
    resumable,
    seeds_option,
    settings_options,
    timeout_option,
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
@jobs_option
@timeout_option
@memory_option
@device_option
@plugin_option
@data_option
@out_option
@only_base_option
@click.option("--only-amplified", "forms", flag_value="amplified", help="Leave the base forms out.")
@click.option("--keep-stale", is_flag=True, help="Use records made by plugin files that have changed since.")
@click.option("--dry-run", is_flag=True, help="Say what would be computed, and roughly how long it takes.")
@click.option("-q", "--quiet", is_flag=True, help="No progress and no advice on standard error.")
@click.option("-v", "--verbose", is_flag=True, help="Name every finished cell; of a dry run, every cell.")
@traceback_option
def run_grid(
    suite: str | None, attacks: tuple[str, ...], defenses: tuple[str, ...], datasets: tuple[str, ...], seeds: int |
    None,
    jobs: int | None, device: str, plugins: tuple[str, ...], out: Path, forms: str | None, keep_stale: bool,
    dry_run: bool, quiet: bool, verbose: bool, traceback: bool, seconds: float | None, gigabytes: float | None,
    **settings: Any,
) -> None:  # fmt: skip
    """Run attacks x datasets x defenses, base and amplified, and print the triad of each defense.

    Cells that have a finished record in the output folder are not computed again. fedavg under every attack, and every
    defense without attack, always run too, because the metrics compare with them. Exit codes: 0 done, 1 a cell failed,
    2 wrong usage, 130 interrupted.
    """
    from agrbench.cli import estimate, execute
    from agrbench.plugins.registry import Registry
    from agrbench.results.store import Store
    from agrbench.simulation import grid, suites
    from agrbench.simulation.workers import Limits

    with resumable():
        given = execute.given(settings, device)
        asked = suites.choose(suite, attacks, defenses, datasets, seeds, given, forms)
        if dry_run:
            files = tuple(Path(file).resolve() for file in plugins)
            estimate.preview(estimate.Asked(asked, files, out, keep_stale), jobs, quiet, verbose)
            return
        registry, store = Registry(plugins, forgiving=True), Store(out)
        wanted, errors = grid.sound(asked, registry)
        for error in errors:
            execute.say(f"Left out: {error}")
        plan = grid.plan(grid.expand(wanted, registry), registry, store, keep_stale)
        how = execute.How(jobs, Limits(seconds, gigabytes), quiet, verbose, traceback)
        sys.exit(execute.run(plan, registry, store, how) or bool(errors))
