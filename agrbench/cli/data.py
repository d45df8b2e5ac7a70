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
    """List datasets (none named: all): sizes, how alike a class is, licences, and whether they are at hand."""
    from agrbench.plugins.registry import Registry
    from agrbench.results import formats
    from agrbench.results.tables import datasets

    click.echo(formats.write([datasets.table(Registry(plugins), specs)], "plain"))


@data_group.command("get")
@click.argument("name")
@plugin_option
@data_option
def get_data(name: str, plugins: tuple[str, ...]) -> None:
    """Download a dataset's files that are not at hand into the user cache, checked by their checksums."""
    from agrbench.data import files
    from agrbench.plugins.registry import Registry

    for file in files.files(name, Registry(plugins).dataset(name).record.source):
        click.echo(files.fetch(file))


@data_group.command("path")
@click.argument("name")
@plugin_option
@data_option
def locate_data(name: str, plugins: tuple[str, ...]) -> None:
    """Print where a dataset's files lie."""
    from agrbench.data import files
    from agrbench.plugins.registry import Registry

    for file in files.files(name, Registry(plugins).dataset(name).record.source):
        found = files.find(file)
        if found is None:
            raise DataError(f"{file.path} is not at hand; {files.advice(name, file)}")
        click.echo(found)
