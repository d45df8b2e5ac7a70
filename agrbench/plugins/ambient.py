"""Global state that all plugins of a process share: settings of torch, random generators, the working directory.

A plugin that changes it would change the cells of others. It is put back after every call of a foreign plugin, and the
plugin is named.
"""

from __future__ import annotations

import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

from agrbench.plugins import siblings


def foreign(path: Path) -> bool:
    """Return whether a plugin file is not one that is shipped with agrbench."""
    return path.parent not in map(siblings.shipped, siblings.SHIPPED)


class Setting(NamedTuple):
    """One part of the global state: what it is called, how to read and set it, and whether it is a generator."""

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]
    draws: bool = False


@contextmanager
def apart(path: Path) -> Iterator[None]:
    """Run the code of a plugin file: what it prints goes to standard error, and a foreign one changes no global state.

    The result of a command goes to standard output, so nothing else may.
    """
    guarded = foreign(path) and not _unguarded
    with redirect_stdout(sys.stderr), kept(path) if guarded else nullcontext():
        yield


@contextmanager
def unguarded() -> Iterator[None]:
    """Let plugins change the global state, so that a search for faults sees what they do."""
    global _unguarded
    before, _unguarded = _unguarded, True
    try:
        yield
    finally:
        _unguarded = before


@contextmanager
def kept(who: object, generators: bool = True) -> Iterator[None]:
    """Put the global state back afterwards, and warn once about each part that `who` changed."""
    before = [(setting, setting.read()) for setting in _settings() if generators or not setting.draws]
    try:
        yield
    finally:
        for setting, value in before:
            if not _equal(setting.read(), value):
                setting.write(value)
                _tell(f"{who} changed {setting.name}, which other plugins share; it was put back")


def _tell(text: str) -> None:
    if text not in _told:
        _told.add(text)
        warnings.warn(text, stacklevel=4)


_told: set[str] = set()
_unguarded = False


def _settings() -> list[Setting]:
    """List what plugins share: the working directory, and settings of the libraries that are imported."""
    found = [Setting("random's generator", random.getstate, random.setstate, True)]
    found.append(Setting("the working directory", _working, os.chdir))
    if (numpy := sys.modules.get("numpy")) is not None:
        found.append(Setting("numpy's global generator", numpy.random.get_state, numpy.random.set_state, True))
        found.append(Setting("numpy's treatment of errors", numpy.geterr, lambda value: numpy.seterr(**value)))
    if (torch := sys.modules.get("torch")) is not None:
        found += _of_torch(torch)
    return found


def _of_torch(torch: Any) -> list[Setting]:
    deterministic = torch.use_deterministic_algorithms
    return [
        Setting("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype),
        Setting("torch's number of threads", torch.get_num_threads, torch.set_num_threads),
        Setting("torch's deterministic flag", torch.are_deterministic_algorithms_enabled, deterministic),
        Setting("torch's gradient mode", torch.is_grad_enabled, torch.set_grad_enabled),
        Setting("torch's global generator", torch.get_rng_state, torch.set_rng_state, True),
        Setting("torch's precision", torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    ]


def _working() -> str:
    """Return the working directory, `.` if it is gone."""
    try:
        return os.getcwd()  # noqa: PTH109
    except OSError:
        return "."


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, tuple):
        return all(map(_equal, one, other))
    same = one == other
    return bool(same if isinstance(same, bool) else same.all())
