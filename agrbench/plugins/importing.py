"""Import a plugin file within a time limit, and so that whoever watches this process knows which file it imports."""

from __future__ import annotations

import importlib
import mmap
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from agrbench import processes
from agrbench.errors import PluginError
from agrbench.plugins.ambient import foreign, kept
from agrbench.plugins.stack import fault

SECONDS = 60.0  # that importing one file may take
_notice = mmap.mmap(-1, 1 << 12)  # shared with copies of this process; what one wrote is there after its end


@contextmanager
def imported(path: Path) -> Iterator[None]:
    """Import a plugin file; what it prints goes to standard error, and global state that it changes is put back.

    Generators may move, which importing some libraries does.

    Raises:
        PluginError: it raised anything, or took too long.
    """
    if not foreign(path):
        with _blamed(path), redirect_stdout(sys.stderr):
            yield
        return
    importlib.import_module("torch")  # so that its settings are known before the file changes them
    late = PluginError(f"{path}: importing it took longer than {SECONDS:g} s; mend the file and try again")
    with (
        _noticed(path), processes.within(SECONDS, late), _blamed(path), redirect_stdout(sys.stderr),
        kept(path, generators=False),
    ):  # fmt: skip
        yield


def in_progress() -> str:
    """Return the foreign plugin file that this process or a copy of it imports, or imported when it ended."""
    return bytes(_notice).rstrip(b"\0").decode(errors="replace")


@contextmanager
def _noticed(path: Path) -> Iterator[None]:
    before = bytes(_notice)
    _notice[:] = bytes(path)[: len(_notice)].ljust(len(_notice), b"\0")
    try:
        yield
    finally:
        _notice[:] = before


@contextmanager
def _blamed(path: Path) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        raise fault(path, "importing it", error) from error
