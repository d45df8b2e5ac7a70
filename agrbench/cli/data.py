"""`agrbench data`: list, fetch and locate data files."""

from __future__ import annotations

import click

from agrbench.cli.options import data_option, plugin_option
from agrbench.errors import DataError


@click.group("data")
def data_group() -> None:
    """List, fetch and locate data files."""


@data_group.command("list")
@click.argument("specs", nargs=-1, metavar="[DATASET]...")
@plugin_option
@data_option
def list_data(specs: tuple[str, ...], plugins: tuple[str, ...]) -> None:
    """List datasets (default: all): sizes, similarity within a class, licences, and whether the files are available."""
    from agrbench.plugins.registry import Registry
    from agrbench.results import formats
    from agrbench.results.tables import datasets

    click.echo(formats.write([datasets.table(Registry(plugins), specs)], "plain"))


@data_group.command("get")
@click.argument("name")
@plugin_option
@data_option
def get_data(name: str, plugins: tuple[str, ...]) -> None:
    """Download a dataset's missing files into the user cache, and verify their checksums."""
    from agrbench.data import files
    from agrbench.plugins.registry import Registry

    for file in files.files(name, Registry(plugins).dataset(name).record.source):
        click.echo(files.fetch(file))


@data_group.command("path")
@click.argument("name")
@plugin_option
@data_option
def locate_data(name: str, plugins: tuple[str, ...]) -> None:
    """Print the paths of a dataset's files."""
    from agrbench.data import files
    from agrbench.plugins.registry import Registry

    for file in files.files(name, Registry(plugins).dataset(name).record.source):
        found = files.find(file)
        if found is None:
            raise DataError(f"{file.path} is not at hand; {files.advice(name, file)}")
        click.echo(found)
