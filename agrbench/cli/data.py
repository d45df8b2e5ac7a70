"""`agrbench data`: list, fetch and locate data files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agrbench.cli.options import data_option, plugin_option
from agrbench.errors import DataError

if TYPE_CHECKING:
    from agrbench.data.sources import File, Folder
    from agrbench.plugins import Dataset
    from agrbench.plugins.stack import Loaded


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
@click.argument("name", metavar="DATASET")
@plugin_option
@data_option
def get_data(name: str, plugins: tuple[str, ...]) -> None:
    """Download a dataset's missing files into the user cache, and verify their checksums."""
    from agrbench.data import files

    for path in _paths(name, plugins, files.fetch):
        click.echo(path)


@data_group.command("path")
@click.argument("name", metavar="DATASET")
@plugin_option
@data_option
def locate_data(name: str, plugins: tuple[str, ...]) -> None:
    """Print the paths of a dataset's files."""
    for path in _paths(name, plugins, partial(_located, name)):
        click.echo(path)


def _paths(name: str, plugins: tuple[str, ...], locate: Callable[[File | Folder], Path]) -> Iterable[Path]:
    """Return the paths of a dataset's files: those of the user's own that it reads, or else the published ones."""
    from agrbench.data import files
    from agrbench.plugins.registry import Registry

    dataset = Registry(plugins).dataset(name)
    if dataset.record.source.needed or dataset.record.reads is None:
        return map(locate, files.files(name, dataset.record.source))
    return _own(dataset, dataset.record.reads)


def _own(dataset: Loaded[Dataset], reads: Callable[..., Sequence[Path]]) -> Sequence[Path]:
    """Return the paths of the user's own files; if one is missing, the error of loading them says where it may be."""
    from agrbench.plugins.stack import blame

    with blame(dataset, "reading it"):
        paths = reads()
        if not paths or not all(Path(path).is_file() for path in paths):
            dataset.record.load()
    return paths


def _located(name: str, file: File | Folder) -> Path:
    from agrbench.data import files

    found = files.find(file)
    if found is None:
        raise DataError(f"{file.path} is not at hand; {files.advice(name, file)}")
    return found
