"""Processes that compute cells one after another, and that end with the program that started them, however it ends."""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from agrbench import machine, processes
from agrbench.cells import Cell
from agrbench.plugins.registry import Registry
from agrbench.results import owners
from agrbench.results.text import warn_on_stderr
from agrbench.simulation.computing import attempt

if TYPE_CHECKING:
    from agrbench.simulation.prefixes import Tree

Work = Callable[[Cell, "Tree", bool], Any]
"""What a worker does with a cell: `attempt` returns its record. Modules that define one are imported in the worker."""

TESTS = ("PYTEST", "HYPOTHESIS", "COV_", "COVERAGE", "TOX_", "NOX_")  # how tools for tests begin their variables
MOMENT = 0.5  # seconds between looks at limits, and at whether the parent is still there


@dataclass(frozen=True)
class Limits:
    """What one cell may take: `seconds` of time and `gigabytes` of resident memory; `None` sets no limit."""

    seconds: float | None = None
    gigabytes: float | None = None


class Worker:
    """A process that computes one cell at a time; it can be killed at any moment."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._here, there = get_context("spawn").Pipe()
        self._process = get_context("spawn").Process(
            target=_serve, args=(there, os.getpid(), tuple(files)), name="agrbench worker"
        )
        self._mark = f"{owners.tag()}-{secrets.token_hex(8)}"
        resource_tracker.ensure_running()  # which all workers share, so it carries no mark
        with processes.marking(self._mark), processes.born_quietly():
            self._process.start()
        there.close()
        self.cell: Cell | None = None
        self.finished = 0
        self._began = math.inf  # until the process says that it begins

    def start(self, cell: Cell, work: Work = attempt, alone: bool = True) -> None:
        """Begin to compute a cell; `alone` says whether no other cells are computed on this machine."""
        self.cell, self._began = cell, math.inf
        with contextlib.suppress(OSError):  # if the process is dead, `ended` tells
            self._here.send((cell, work, alone))

    @property
    def handles(self) -> tuple[Any, ...]:
        """Return what becomes ready when the cell is computed or the process ends."""
        return self._here, self._process.sentinel

    def record(self) -> Any:
        """Return the record of the cell, or the result of other work on it; `None` if it is not yet computed."""
        with contextlib.suppress(EOFError, OSError):
            while self._here.poll():
                record = self._here.recv()
                if record is not None:
                    self.cell, self.finished = None, self.finished + 1
                    return record
                self._began = time.monotonic()
        return None

    def exceeded(self, limits: Limits) -> str | None:
        """Return which limit the cell exceeds; `None` if none."""
        if limits.seconds is not None and time.monotonic() - self._began > limits.seconds:
            return f"it took longer than --cell-timeout {limits.seconds:g}"
        if limits.gigabytes is not None and machine.resident(self._process.pid) > limits.gigabytes * 1e9:
            return f"it took more memory than --cell-memory {limits.gigabytes:g}"
        return None

    def ended(self) -> str | None:
        """Return how the process ended; `None` if it has not."""
        if self._process.is_alive():
            return None
        self._process.join()
        return _how_ended(self._process.exitcode)

    def kill(self) -> None:
        """End the process, and what it started, at once; once it is ended, do nothing."""
        if self._here.closed:
            return
        with contextlib.suppress(OSError, TypeError):
            os.killpg(self._process.pid, signal.SIGKILL)  # type: ignore[arg-type]
        self._process.kill()
        self._process.join()
        processes.end_marked(lambda mark: mark == self._mark)
        self._here.close()


def end_left_behind() -> None:
    """End what the plugins of programs that were killed started and moved out of reach."""
    processes.end_marked(lambda mark: owners.gone_by(mark.rpartition("-")[0]))


@contextmanager
def as_program(words: Sequence[str]) -> Iterator[None]:
    """Start processes meanwhile as the program `agrbench` with these words does, whatever this program is.

    A worker inherits the command line, the main module and the environment of the program that starts it.
    """
    script = Path(sys.executable).with_name("agrbench")
    main, argv, tested = sys.modules["__main__"], sys.argv, {k: v for k, v in os.environ.items() if k.startswith(TESTS)}
    sys.modules["__main__"], sys.argv = ModuleType("__main__"), [str(script), *words]
    if script.exists():
        sys.modules["__main__"].__file__ = str(script)
    for name in tested:
        del os.environ[name]
    for name in {"LINES", "COLUMNS"} - set(os.environ):
        os.unsetenv(name)  # readline, which pytest imports, sets them without Python's knowledge
    try:
        yield
    finally:
        sys.modules["__main__"], sys.argv = main, argv
        os.environ.update(tested)


def ready(workers: Sequence[Worker]) -> None:
    """Wait until a worker has a record or has ended, but no longer than it takes to look at limits again."""
    wait([handle for worker in workers for handle in worker.handles], MOMENT)


def _how_ended(code: int | None) -> str:
    if code is None or code == -signal.SIGKILL:
        return "its process was killed, perhaps for want of memory; try --jobs 1"
    if code < 0:
        return f"its process crashed ({signal.Signals(-code).name})"
    return f"its process was ended with exit code {code}"


def _serve(driver: Connection, parent: int, files: tuple[Path, ...]) -> None:
    """Compute the cells that the driver asks for, until it kills this process or is gone."""
    begin(parent)
    from agrbench.simulation import traces  # noqa: F401 (what a worker imports must not tell what it is asked for)
    from agrbench.simulation.prefixes import Tree

    tree = Tree(Registry(files, forgiving=True))
    while True:
        try:
            cell, work, alone = driver.recv()
        except (EOFError, OSError):
            os._exit(0)
        driver.send(None)  # the clock of its limits starts here, not while the process starts
        try:
            answer = work(cell, tree, alone)
        except GeneratorExit:  # a plugin raised it, and it passes through everything that is left in order
            os._exit(1)
        driver.send(answer)


def begin(parent: int) -> None:
    """Prepare a worker: a process group of its own, no output but on standard error, and an end with its parent."""
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)  # so that what a plugin starts can be ended with it
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    processes.end_with_parent()
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    with contextlib.suppress(OSError):
        os.dup2(2, 1)  # what a plugin prints is not the result of the command
    warnings.showwarning = warn_on_stderr
    machine.use_large_pages()  # keeping large blocks in malloc instead fragments its heap: 860 MB to hold 100


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(MOMENT)
    os._exit(1)
