"""`agrbench report`: write one page that shows records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agrbench.cli.options import data_option, plugin_option

if TYPE_CHECKING:
    from agrbench.plugins.registry import Registry

CERTIFICATES = Path("leaderboard", "certificates.json")


@click.command("report")
@click.argument("sources", nargs=-1, type=click.Path(path_type=Path), metavar="[DIR|FILE.jsonl]...")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), default=Path("report.html"), show_default=True,
    metavar="FILE", help="The page to write.",
)  # fmt: skip
@click.option(
    "--certificates", type=click.Path(dir_okay=False, path_type=Path), default=CERTIFICATES, show_default=True,
    metavar="FILE", help="Show the verdicts of these certificates, if there is such a file.",
)  # fmt: skip
@plugin_option
@data_option
def write_report(sources: tuple[Path, ...], out: Path, certificates: Path, plugins: tuple[str, ...]) -> None:
    """Write one page that shows the records in one or more folders or packed files (default: results).

    The page opens in a browser from disk and loads nothing. It says which defense is best under its worst attack, and
    shows ranking, heat map, plots and, of every cell, its curves and its records. Each folder or file is a collection
    of its own: records of different settings or of different collections are never mixed.
    """
    from agrbench.plugins.registry import Registry

    write(sources or (Path("results"),), out, Registry(plugins), certificates)


def write(sources: Sequence[Path], out: Path, registry: Registry, certificates: Path) -> None:
    """Write the page of some sources of records, and say how large it is."""
    from agrbench.results.page.build import build
    from agrbench.results.text import one_line
    from agrbench.results.writing import write_whole, writing
    from agrbench.simulation import suites

    page = build(sources, registry, suites.demanded(registry), certificates)
    with writing(out):
        write_whole(out, page)
    click.echo(one_line(f"Wrote {out}, {len(page.encode()) / 1e6:.1f} MB"))
