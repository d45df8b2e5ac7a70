"""`agrbench validate`: recompute numbers that others published, and say where ours agree."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from agrbench.cli.engines import Where, engine_options
from agrbench.cli.options import (
    data_option,
    out_option,
    quiet_option,
    resumable,
    seeds_option,
    table_option,
    time_limit_option,
    traceback_option,
)


@click.command("validate")
@click.argument("name", required=False)
@click.argument("sources", nargs=-1, type=click.Path(path_type=Path), metavar="[DIR|FILE.jsonl]...")
@click.option("-d", "defenses", multiple=True, metavar="SPEC", help="Only this defense; again for more.")
@click.option("-a", "attacks", multiple=True, metavar="SPEC", help="Only this attack; again for more.")
@seeds_option
@engine_options
@time_limit_option
@data_option
@out_option
@table_option
@quiet_option
@traceback_option
def validate_suite(
    name: str | None, sources: tuple[Path, ...], defenses: tuple[str, ...], attacks: tuple[str, ...],
    seeds: int | None, where: Where, time_limit: float | None, out: Path, form: str, quiet: bool, traceback: bool,
) -> None:  # fmt: skip
    """Set ours beside numbers that others published, and judge each by what seeds and rounding explain.

    Without NAME, list the suites of published numbers. With records (folders or packed files), compare these;
    otherwise compute what is missing in the folder of --out. Exit codes: 0 no contradiction, 1 ours contradicts a
    published number or a cell failed, 2 wrong usage, 75 the time limit is reached, 130 interrupted.
    """
    from agrbench.cli import execute
    from agrbench.errors import AgrbenchError
    from agrbench.plugins.registry import Registry
    from agrbench.results import store
    from agrbench.results.formats import write
    from agrbench.results.record import Record
    from agrbench.results.validation import published, table, verdicts
    from agrbench.simulation import grid

    if name is None:
        click.echo(write([table.listed([published.read(each) for each in published.names()])], form))
        return
    registry = Registry()
    suite = published.chosen(published.read(name), defenses, attacks, registry)
    failures: list[Record] = []
    if not sources:
        count = range(seeds or suite.seeds)
        cells = [
            suite.cell(value, attack, seed, registry)
            for seed in count
            for value in suite.values
            for attack in value.attacks
        ]
        folder = store.Store(out)
        with resumable(), where.open(registry) as engine:
            plan = grid.plan(cells, registry, folder)
            failures = execute.run(plan, registry, folder, execute.How(engine, quiet, limit=time_limit))
        execute.report_failures(failures, folder, traceback)
        sources = (out,)
    findings = verdicts.judge(suite, [record for _, record in store.readable(sources)], registry)
    if all(finding.verdict == "not run" for finding in findings):
        raise AgrbenchError(f"no finished record of {name} there; run `agrbench validate {name}` first")
    click.echo(write([table.beside(suite, findings)], form))
    sys.exit(bool(failures) or any(finding.verdict in verdicts.CONTRADICTIONS for finding in findings))
