"""Write the leaderboard's files: everything is made first, and then each file is replaced by a whole one."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from agrbench.errors import AgrbenchError
from agrbench.plugins.registry import Registry
from agrbench.results import store
from agrbench.results.leaderboard.page import PAGE, page
from agrbench.results.leaderboard.publish import Published, find
from agrbench.results.writing import write_new


def save(board: Path, registry: Registry, demanded: Sequence[str], taken: Published | None = None) -> Path:
    """Write the records that were taken and the page of all records, and return the page's path.

    Both are made in a folder of their own within the leaderboard, under a random name, and moved to their places at
    the end, so no file is ever half written.

    Raises:
        AgrbenchError: there is no leaderboard, a link stands in it, or the system does not allow writing.
        RecordError: two records of a file contradict each other.
    """
    written = find(board) / PAGE
    try:
        with tempfile.TemporaryDirectory(prefix=".publish-", dir=board) as folder:
            staged = _records(Path(folder), taken)
            made = Path(folder) / PAGE
            write_new(made, page(board, registry, demanded, staged))
            for place, new in (staged | {written: made}).items():
                new.replace(place)
    except OSError as error:
        raise AgrbenchError(f"{board}: cannot be written ({error.strerror or error}); nothing was published") from error
    return written


def _records(folder: Path, taken: Published | None) -> dict[Path, Path]:
    """Write the records that were taken into a new file, and return it by the place where it belongs."""
    if taken is None or not taken.copied:
        return {}
    new = folder / taken.packed.name
    store.write_packed(new, taken.records.values())
    return {taken.packed: new}
