"""What travels to another machine, so that it computes as this one does: plugin files, settings, the current folder."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from agrbench.errors import AgrbenchError
from agrbench.plugins import siblings
from agrbench.plugins.registry import Registry
from agrbench.processes import MARK

OURS = "AGRBENCH_"  # how the names of settings in the environment begin
ARITHMETIC = ("ATEN_CPU_CAPABILITY", "MKL_CBWR")  # settings that decide how sums round
CACHE = "XDG_CACHE_HOME"  # where downloaded data files are


@dataclass(frozen=True)
class Parcel:
    """The plugin files that a user named, those and their own files with their contents, settings, and a folder."""

    files: tuple[Path, ...]
    contents: tuple[tuple[Path, bytes], ...]
    settings: tuple[tuple[str, str], ...]
    folder: Path
    version: str


def pack(registry: Registry) -> Parcel:
    """Pack what this process computes with; installed plugins do not travel."""
    contents = dict(each for file in registry.files for each in siblings.contents(file))
    names = (name for name in os.environ if (name.startswith(OURS) and name != MARK) or name in (*ARITHMETIC, CACHE))
    settings = tuple((name, os.environ[name]) for name in sorted(names))
    return Parcel(registry.files, tuple(contents.items()), settings, Path.cwd(), version("agrbench"))


def unpack(parcel: Parcel, aside: str) -> tuple[Path, ...]:
    """Take over settings and the folder, if it is there, and return where the plugin files are.

    If all of them are here as they are there, they are used in their place, beside their data; otherwise they are
    written into the folder `aside`.

    Raises:
        AgrbenchError: this machine has another version of agrbench.
    """
    if parcel.version != version("agrbench"):
        raise AgrbenchError(
            f"{os.uname().nodename} has agrbench {version('agrbench')}, and the program that asks it to compute has "
            f"{parcel.version}; install the same version on every node"
        )
    os.environ |= dict(parcel.settings)
    with suppress(OSError):
        os.chdir(parcel.folder)
    if all(siblings.content(path) == content for path, content in parcel.contents):
        return parcel.files
    top = Path(os.path.commonpath([path.parent for path, _ in parcel.contents]))
    for path, content in parcel.contents:
        copy = Path(aside) / path.relative_to(top)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(content)
    return tuple(Path(aside) / path.relative_to(top) for path in parcel.files)
