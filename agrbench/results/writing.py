"""Write files into folders that several processes, containers and machines share."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from agrbench.errors import AgrbenchError
from agrbench.results import owners

PART = ".part"  # how a temporary name ends
CLAIM = ".claim"  # how the name of a claim ends; see `claims`
STALE = 6 * 3600.0  # seconds after which a temporary file or a claim was left by a process that died
_OURS = re.compile(
    r"\.agrbench-(?:([0-9a-f]{8}-\d+-\d+)-)?[0-9a-f]{16}\.part|seed-\d+-[0-9a-f]{10}(?:-\d+\.part|\.claim)"
)


class Unwritable(AgrbenchError):
    """Report a folder or file that cannot be written."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an error of the system into a sentence about `path`.

    Raises:
        Unwritable: the system refused to write.
    """
    try:
        yield
    except OSError as error:
        raise Unwritable(
            f"{path}: cannot be written ({error.strerror or error}); what was written before is kept: free the disk or "
            "name another folder, and run it again"
        ) from error


def temporary(folder: Path) -> Path:
    """Return a path for a temporary file that no other process, here or elsewhere, uses; it names this one."""
    return folder / f".agrbench-{owners.tag()}-{secrets.token_hex(8)}{PART}"


def write_new(path: Path, content: str | bytes) -> None:
    """Write a text, or bytes, into a new file and flush it to disk.

    Raises:
        OSError: there is such a file, or the system refused to write.
    """
    with path.open("xb") as stream:
        stream.write(content.encode() if isinstance(content, str) else content)
        stream.flush()
        os.fsync(stream.fileno())


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a text, or bytes, under a temporary name, flush it to disk and rename it.

    Raises:
        OSError: the system refused to write; the file is as it was before.
    """
    part = temporary(path.parent)
    try:
        write_new(part, content)
        part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def still_there(folder: Path) -> None:
    """Check that a folder which was prepared has not vanished.

    Raises:
        Unwritable: it has.
    """
    if not folder.is_dir():
        raise Unwritable(f"{folder}: the folder is gone, and its records with it; run it again")


def prepare(folder: Path) -> None:
    """Create a folder, check that it can be written, and remove what processes that died left in it.

    Raises:
        Unwritable: the system refused to write.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        probe = temporary(folder)
        try:
            probe.write_text("agrbench tries whether this folder can be written\n", encoding="utf-8")
            now = probe.stat().st_mtime  # by the clock of the file system, which dates the other files, too
        finally:
            with suppress(OSError):
                probe.unlink(missing_ok=True)
    _sweep(folder, now - STALE)


def _sweep(folder: Path, before: float) -> None:
    """Remove temporary files and claims that were last changed before a time, and temporary files of dead processes."""
    for name, _, files in os.walk(folder):
        for ours in filter(None, map(_OURS.fullmatch, files)):
            path, writer = Path(name, ours[0]), ours[1]
            with suppress(OSError):
                if path.lstat().st_mtime < before or (writer and owners.gone_by(writer)):
                    path.unlink()
