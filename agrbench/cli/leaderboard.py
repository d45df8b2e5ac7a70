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
@click.argument("source", type=click.Path(path_type=Path), metavar="[DIR|FILE.jsonl]", required=False)
@click.option("--as", "name", metavar="NAME", help="The file of records to join (default: the name of DIR).")
@click.option(
    "--to", "board", type=click.Path(path_type=Path), default=Path("leaderboard"), show_default=True,
    help="Where the leaderboard is.",
)  # fmt: skip
@click.option(
    "--page", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Write the page of all published records, too, as `agrbench report` does.",
)  # fmt: skip
@plugin_option
def publish_records(
    source: Path | None, name: str | None, board: Path, page: Path | None, plugins: tuple[str, ...]
) -> None:
    """Check records, copy them into leaderboard/records/NAME.jsonl, and rewrite leaderboard/README.md.

    A record must be complete, finished or skipped, and made by the plugin files that are loaded. It never replaces a
    different record of the same cell, unless that one is stale. Without DIR only the page is written. Exit codes: 0
    done, 1 some records were refused (the others are published), 2 wrong usage.
    """
    from agrbench.cli import report
    from agrbench.plugins.registry import Registry
    from agrbench.results.leaderboard import publish
    from agrbench.results.leaderboard.page import CERTIFICATES
    from agrbench.results.leaderboard.save import save
    from agrbench.results.store import PACKED
    from agrbench.results.text import one_line
    from agrbench.simulation import suites

    registry, found = Registry(plugins), None
    if source is not None:
        found = publish.publish(source, board, name or source.resolve().name.removesuffix(PACKED), registry)
        for path in found.replaced:
            click.echo(one_line(f"Replaced, its plugin files have changed since: {path}"), err=True)
        for error in found.refused:
            click.echo(one_line(f"Refused: {error}"), err=True)
    written = save(board, registry, suites.demanded(registry), found)
    if found is not None:
        click.echo(f"{found.copied} records copied, {found.there} there already, {len(found.refused)} refused")
    click.echo(one_line(f"Wrote {written}"))
    if page is not None:
        report.write(sorted((board / publish.RECORDS).glob(f"*{PACKED}")), page, registry, board / CERTIFICATES)
    sys.exit(1 if found is not None and found.refused else 0)
