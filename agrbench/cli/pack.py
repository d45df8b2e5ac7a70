"""`agrbench pack`: turn a folder of records into one file with one record per line, and back."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from agrbench.errors import AgrbenchError
from agrbench.results import store


@click.command("pack")
@click.argument("source", type=click.Path(path_type=Path), metavar="DIR|FILE.jsonl")
@click.argument("target", type=click.Path(path_type=Path), metavar="FILE.jsonl|DIR")
def pack_records(source: Path, target: Path) -> None:
    """Pack the records in DIR into FILE.jsonl, one per line and sorted by path, or unpack FILE.jsonl into DIR.

    Every command that reads records accepts both folders and packed files; `agrbench grid --out` writes folders.
    Files and lines that are no records are named and left out. Nothing is written if the target holds other results
    that would be lost. Exit codes: 0 done, 1 something was left out, 2 nothing was written.
    """
    packing, unpacking = target.suffix == store.PACKED, source.suffix == store.PACKED
    if packing == unpacking:
        raise AgrbenchError(
            f"{source} and {target}: one must be a folder of records and the other a file whose name ends in "
            f"{store.PACKED}; write `agrbench pack results results{store.PACKED}`"
        )
    count, refused = store.pack(source, target) if packing else store.unpack(source, target)
    for error in refused:
        click.echo(f"Left out: {error}", err=True)
    click.echo(f"{count} records written to {target}", err=True)
    sys.exit(1 if refused else 0)
