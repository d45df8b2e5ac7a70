"""`agrbench snapshot`: keep the updates of one round of a cell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from agrbench.cli.options import data_option, device_option, plugin_option, settings_options


@click.command("snapshot")
@click.option("-D", "dataset", metavar="SPEC", required=True, help="The dataset.")
@click.option("-d", "defense", metavar="SPEC", required=True, help="The defense.")
@click.option("-a", "attack", metavar="SPEC", default="none", show_default=True, help="The attack.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="The seed.")
@click.option("--round", "number", type=int, required=True, help="Which round to keep, from 1 on.")
@settings_options()
@device_option
@plugin_option
@data_option
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    metavar="FILE.npz",
    help="The file to write.",
)
def keep_round(
    dataset: str, defense: str, attack: str, seed: int, number: int, device: str, plugins: tuple[str, ...], out: Path,
    **settings: Any,
) -> None:  # fmt: skip
    """Play one cell up to a round, and write that round's updates into a file.

    The file holds the updates as sent and as the amplifier pools them, who is malicious, and the defense's weights.
    `agrbench plot views` and `agrbench plot neighbours` draw it.
    """
    from agrbench.cells import Cell
    from agrbench.cli import execute
    from agrbench.cli.engines import chosen
    from agrbench.plugins.registry import Registry
    from agrbench.simulation import grid, snapshots

    registry = Registry(plugins)
    given = grid.with_owners(execute.given(settings, device, chosen), dataset, registry)
    cell = registry.canonical_cell(Cell(dataset, defense, attack, seed, **given))
    snapshots.take(cell, number, registry).save(out)
    click.echo(f"{out} written: round {number} of {cell}", err=True)
