"""Claims on cells: several grids in one folder, on one machine or many, compute each cell once.

A claim is a file beside the record, created exclusively. Its owner touches it every `HEARTBEAT` seconds and removes it
once the record is written. It is abandoned if nobody touches it for `ABANDONED` seconds, or at once if its process ran
on this machine and is gone. No two clocks are compared: whoever waits measures on its own clock how long the file stays
as it is. A claim only saves work; if two processes hold one cell after all, both write the same record.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from agrbench.cells import Cell
from agrbench.results import owners
from agrbench.results.record import Record
from agrbench.results.store import Store
from agrbench.results.writing import CLAIM, still_there, temporary, writing

HEARTBEAT = 20.0  # seconds between two touches of a claim
ABANDONED = 180.0  # seconds without a touch after which a claim counts for nothing

Look = tuple[bytes, int]  # what a claim says, and when it was last touched
Stamp = tuple[int, int] | None
Stamps = Mapping[Cell, Stamp]


class Claims:
    """The cells that this process computes in a folder; use it in a `with` block, which touches and releases them.

    `cells` are those that wait to be computed, and `before` holds the stamps that their files had when that was found
    (default: those of now). What is written for them since is another process's work.
    """

    def __init__(
        self,
        store: Store,
        cells: Iterable[Cell],
        heartbeat: float = HEARTBEAT,
        abandoned: float = ABANDONED,
        before: Stamps | None = None,
    ) -> None:
        self._store, self._heartbeat, self._abandoned = store, heartbeat, abandoned
        self._before = {cell: stamp(store, cell) for cell in cells} if before is None else before
        self._mine: dict[Path, bytes] = {}
        self._seen: dict[Path, tuple[Look, float]] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Claims:
        self._thread.start()
        for path in self._store.folder.rglob(f"*{CLAIM}"):  # on cells that may have their records already
            with suppress(OSError):
                if (look := _look(path)) is not None and _gone(look[0]):
                    _clear(path, look)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        for path in list(self._mine):
            self._remove(path)

    def take(self, cell: Cell) -> bool:
        """Claim a cell; return whether it is this process that computes it now.

        Raises:
            Unwritable: the system refused to write, or the store's folder is gone.
        """
        path = self._path(cell)
        with writing(path):
            still_there(self._store.folder)
            path.parent.mkdir(parents=True, exist_ok=True)
            if not self._create(path):
                look = _look(path)
                if look is not None and not (self._is_abandoned(path, look) and _clear(path, look)):
                    return False
                if not self._create(path):
                    return False
        if self._has_news(cell):  # it was written and released just before
            self.release(cell)
            return False
        return True

    def theirs(self, cell: Cell) -> Record | None:
        """Return the record that another process wrote for a cell since this object was made, if there is one.

        Raises:
            RecordError: the file there is of a newer schema, or cannot be read.
        """
        return self._store.read(cell) if self._has_news(cell) else None

    def release(self, cell: Cell) -> None:
        """Give a cell back, after its record was written or because it will not be computed."""
        self._remove(self._path(cell))

    def _has_news(self, cell: Cell) -> bool:
        now = stamp(self._store, cell)
        return now is not None and now != self._before.get(cell)

    def _path(self, cell: Cell) -> Path:
        return self._store.path(cell).with_suffix(CLAIM)

    def _create(self, path: Path) -> bool:
        """Create a claim together with what it says; return false if there is one."""
        text = json.dumps(owners.owner() | {"token": secrets.token_hex(8)}).encode()
        if created := _create(path, text):
            self._mine[path] = text
        return created

    def _remove(self, path: Path) -> None:
        """Remove a claim, unless another process has taken it over."""
        text = self._mine.pop(path, None)
        look = _look(path)
        if look is not None and look[0] == text:
            with suppress(OSError):
                path.unlink()

    def _beat(self) -> None:
        while not self._over.wait(self._heartbeat):
            for path in list(self._mine):
                with suppress(OSError):  # it was taken over, or the folder is gone
                    os.utime(path)  # dated by the file system's clock

    def _is_abandoned(self, path: Path, look: Look) -> bool:
        """Return whether the process is known to be gone, or the claim has stayed as it is for too long."""
        if _gone(look[0]):
            return True
        known, since = self._seen.get(path, (None, 0.0))
        if known != look:
            self._seen[path] = look, time.monotonic()
            return False
        return time.monotonic() - since > self._abandoned


def _create(path: Path, text: bytes) -> bool:
    """Create a file that is never seen without its text, not even if this process is killed; false if there is one."""
    part = temporary(path.parent)
    try:
        _write_new(part, text)
        try:
            os.link(part, path)
        except FileExistsError:  # over a network, this may answer a request that was sent twice
            look = _look(path)
            return look is not None and look[0] == text
        except OSError:  # the file system has no links
            _write_new(path, text)
        return True
    except FileExistsError:
        return False
    finally:
        with suppress(OSError):
            part.unlink()


def _write_new(path: Path, text: bytes) -> None:
    """Write a new file; none is left if the system refuses."""
    with path.open("xb") as stream:
        try:
            stream.write(text)
            stream.flush()
        except OSError:
            path.unlink()
            raise


def _clear(path: Path, look: Look) -> bool:
    """Take an abandoned claim away; return false if another process was faster."""
    aside = temporary(path.parent)
    try:
        path.rename(aside)  # of several processes, one succeeds
    except FileNotFoundError:
        return False
    mine = _look(aside) == look
    if not mine:  # the claim of one that took it over meanwhile: put it back, unless there is a newer one
        with suppress(OSError):
            os.link(aside, path)
    with suppress(OSError):
        aside.unlink()
    return mine


def _look(path: Path) -> Look | None:
    """Return what a claim says and when it was touched, or `None` if there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe of that name keeps nobody waiting
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as stream:
        return stream.read(1 << 12), os.fstat(descriptor).st_mtime_ns


def stamp(store: Store, cell: Cell) -> Stamp:
    """Return what changes whenever a cell's record is written, or `None` if there is none."""
    try:
        told = store.path(cell).stat()
    except OSError:
        return None
    return told.st_ino, told.st_mtime_ns


def _gone(text: bytes) -> bool:
    """Return whether the owner of a claim ran on this machine, in this container, and ended."""
    try:
        return owners.gone(json.loads(text))
    except (ArithmeticError, ValueError, TypeError, KeyError):
        return False  # not yet written, or not by this version: wait as for another machine
