"""`agrbench merge`: put the records of several folders and packed files together, such as the shards of a grid."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from agrbench.cells import Cell

NAMED = 20  # cells that are named at most


@click.command("merge")
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DIR|FILE.jsonl...")
@click.option(
    "--out", "target", type=click.Path(path_type=Path), required=True, metavar="DIR|FILE.jsonl",
    help="Where the records go; what is there already is kept.",
)  # fmt: skip
def merge_records(sources: tuple[Path, ...], target: Path) -> None:
    """Merge the records of all sources into one folder, or one packed file (FILE.jsonl), each cell once.

    Two different results for one cell are named, and then nothing is written. Files and lines that are no records are
    named and left out. Cells that seem to be missing are named: those of a defense, an attack and a seed that the
    records have with the same settings, but not together. Exit codes: 0 done, 1 cells are missing, have failed or were
    left out, 2 nothing was written.
    """
    from agrbench.results.merging import merge, missing

    records, refused = merge(sources, target)
    for error in refused:
        click.echo(f"Left out: {error}", err=True)
    failures = [str(Cell.from_json(record["cell"])) for record in records if record["status"] == "failed"]
    absent = [str(cell) for cell in missing(records)]
    _name("failed", failures)
    _name("missing", absent)
    click.echo(f"{len(records)} records in {target}", err=True)
    sys.exit(1 if refused or failures or absent else 0)


def _name(what: str, names: list[str]) -> None:
    for name in names[:NAMED]:
        click.echo(f"{what.capitalize()}: {name}", err=True)
    if len(names) > NAMED:
        click.echo(f"... and {len(names) - NAMED} more are {what}", err=True)
