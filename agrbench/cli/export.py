"""`agrbench export`: write records as a tidy table, for other programs."""

from __future__ import annotations

from pathlib import Path

import click

from agrbench.errors import AgrbenchError
from agrbench.results import export, store, tidy


@click.command("export")
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path), metavar="[DIR]...")
@click.option("--each", type=click.Choice(tidy.EACH), default="evaluation", show_default=True, help="What a row is.")
@click.option("--format", "form", type=click.Choice([*export.FORMATS]), help="How to write it (default: as FILE ends).")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), required=True, metavar="FILE", help="The file to write."
)
def export_records(folders: tuple[Path, ...], each: str, form: str | None, out: Path) -> None:
    """Write the records in one or more folders or packed files (default: results) as one flat table.

    Each row names the cell, with every setting at the value that it stands for, and what was measured: in one evaluated
    round, or over the whole run. Accuracies and successes are shares from 0 to 1, times are in seconds.
    """
    chosen = form or out.suffix.removeprefix(".")
    if chosen not in export.FORMATS:
        raise AgrbenchError(
            f"{out}: no format ends in {out.suffix or 'nothing'}; write --format {' or '.join(export.FORMATS)}"
        )
    found = store.readable(folders or (Path("results"),))
    count = export.save(tidy.rows((record for _, record in found), each), chosen, out)
    click.echo(f"{count} rows written to {out}", err=True)
