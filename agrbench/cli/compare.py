"""`agrbench compare`: decide whether HEAD is worse than BASE, from two sets of records or two bench outputs."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable
from pathlib import Path

import click

from agrbench.bench import compare as slowdowns
from agrbench.cli.options import plugin_option, report_option
from agrbench.errors import RecordError
from agrbench.plugins.registry import Registry
from agrbench.results import store
from agrbench.results.gate import compare as gate
from agrbench.results.gate import report
from agrbench.results.gate.compare import Comparison


def compare(
    base: Path, head: Path, tolerance: float = gate.TOLERANCE, plugins: Iterable[str | Path] = ()
) -> Comparison:
    """Compare two sets of records, folders or packed files, or two bench outputs.

    Files and lines that are not records are refused one by one, and the others are compared. `plugins` are the plugin
    files that the records need.

    Raises:
        AgrbenchError: there is nothing that can be read, or one side holds records and the other is a bench output.
    """
    for path in (base, head):
        if not path.exists():
            raise RecordError(f"{path}: no such file or folder; name two folders of records, or two bench outputs")
    records = [path.is_dir() or store.holds_lines(path) for path in (base, head)]
    if records[0] != records[1]:
        raise RecordError(f"{base} and {head}: one holds records, the other is a bench output; name two of a kind")
    if not records[0]:
        return slowdowns.compare_benches(slowdowns.read(base), slowdowns.read(head))
    sides, refused = zip(*(store.sift([path]) for path in (base, head)), strict=True)
    before, now = ([record for _, record in side] for side in sides)
    found = gate.compare_records(before, now, tolerance)
    return dataclasses.replace(
        found,
        findings=(*found.findings, *gate.stale(now, Registry(plugins))),
        refused=tuple(str(error) for errors in refused for error in errors),
    )


@click.command("compare")
@click.argument("base", type=click.Path(path_type=Path), metavar="BASE")
@click.argument("head", type=click.Path(path_type=Path), metavar="HEAD")
@click.option(
    "--tolerance", type=click.FloatRange(min=0), default=2.0, show_default=True, metavar="POINTS",
    help="Points of accuracy or success that a change for the worse may cost.",
)  # fmt: skip
@report_option
@plugin_option
def compare_measurements(base: Path, head: Path, tolerance: float, form: str, plugins: tuple[str, ...]) -> None:
    """Report whether HEAD is worse than BASE: two sets of records, or two outputs of `agrbench bench --format json`.

    A set of records is a folder or a packed file. A row is red if it is worse by more than seeds explain (Holm over all
    rows, 5%) and by more than the tolerance. Times are compared as ratios to fedavg, and are red above 1.5 times as
    long. Exit codes: 0 green, 1 red, 2 not comparable.
    """
    found = compare(base, head, tolerance, plugins)
    click.echo(report.write(found, form))
    sys.exit(gate.CODES[found.verdict])
