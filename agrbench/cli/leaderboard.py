"""`agrbench leaderboard`: publish records, and write the leaderboard's page."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from agrbench.cli.options import plugin_option


@click.group("leaderboard")
def leaderboard_group() -> None:
    """Take records into the leaderboard of a checkout, and write its page."""


@leaderboard_group.command("publish")
@click.argument("folder", type=click.Path(path_type=Path), metavar="[DIR]", required=False)
@click.option("--as", "name", metavar="NAME", help="The folder of records to join (default: the name of DIR).")
@click.option(
    "--to", "board", type=click.Path(path_type=Path), default=Path("leaderboard"), show_default=True,
    help="Where the leaderboard is.",
)  # fmt: skip
@plugin_option
def publish_records(folder: Path | None, name: str | None, board: Path, plugins: tuple[str, ...]) -> None:
    """Check the records in DIR, copy them to leaderboard/records/NAME, and write leaderboard/README.md anew.

    A record must be whole, finished or skipped, and made by the plugin files within reach; one that differs from what
    is there never replaces it, unless that is stale. Without DIR the page alone is written. Exit codes: 0 done, 1
    records were refused (the others are published), 2 wrong usage.
    """
    from agrbench.plugins.registry import Registry
    from agrbench.results.leaderboard import page, publish
    from agrbench.simulation import suites

    registry = Registry(plugins)
    refused = False
    if folder is not None:
        found = publish.publish(folder, board, name or folder.resolve().name, registry)
        for path in found.replaced:
            click.echo(f"Replaced, its plugin files have changed since: {path}", err=True)
        for error in found.refused:
            click.echo(f"Refused: {error}", err=True)
        click.echo(f"{found.copied} records copied, {found.there} there already, {len(found.refused)} refused")
        refused = bool(found.refused)
    path = publish.find(board) / page.PAGE
    path.write_text(page.page(board, registry, suites.demanded(registry)), encoding="utf-8")
    click.echo(f"Wrote {path}")
    sys.exit(1 if refused else 0)
