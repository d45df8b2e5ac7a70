"""`agrbench new`: write a plugin and its test to start from."""

from __future__ import annotations

import click


@click.command("new")
@click.argument("kind", type=click.Choice(["attack", "defense", "stage", "dataset"]))
@click.argument("name")
def write_plugin(kind: str, name: str) -> None:
    """Write NAME.py, a plugin that passes its certificate, and test_NAME.py, which runs it, to the current folder."""
    from agrbench.plugins import scaffold

    for path in scaffold.write(kind, name):
        click.echo(path)
