"""How a process ends, and how work in it does: interrupted by its user, by a time limit, or with its parent."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

MARK = "AGRBENCH_WORKER"  # the environment variable in which all that a worker starts carries its mark
ENDINGS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
PR_SET_PDEATHSIG = 1  # from linux/prctl.h
_interrupts = 0
_began: float | None = None


def interrupted() -> bool:
    """Return whether the user has interrupted this program (see `interruptible`)."""
    return _interrupts > 0


def begun(seconds: float = 0.0) -> None:
    """Remember that this program was started some seconds ago."""
    global _began
    _began = time.monotonic() - seconds


def since() -> float:
    """Return when this program was started, on the monotonic clock; now, where `begun` was not called."""
    return time.monotonic() if _began is None else _began


def interruptible() -> None:
    """Let the user's first Ctrl-C, SIGTERM or SIGHUP interrupt this program, and ignore later ones while it ends."""

    def interrupt(number: int, frame: object) -> None:
        global _interrupts
        _interrupts += 1
        for each in (signal.SIGINT, *ENDINGS):
            signal.signal(each, signal.SIG_IGN)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + number)

    if threading.current_thread() is threading.main_thread():
        for each in (signal.SIGINT, *ENDINGS):
            signal.signal(each, interrupt)


class TimeIsUp(Exception):
    """End work whose time limit is reached."""


class _TimeIsUp(BaseException):
    """Interrupt what takes too long; no `except Exception` stops it."""


@contextmanager
def within(seconds: float, error: Exception) -> Iterator[None]:
    """Interrupt what takes longer than some seconds, and raise `error` in its place.

    Only Python code of the main thread can be interrupted; in other threads there is no limit. Limits may be nested.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return
    active, late = True, False

    def interrupt(number: int, frame: object) -> None:
        nonlocal late
        if active:
            late = True
            raise _TimeIsUp

    handler, began = signal.signal(signal.SIGALRM, interrupt), time.monotonic()
    rest, interval = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except BaseException:
        if late:
            raise error from None
        raise
    finally:
        active = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if rest:
            signal.setitimer(signal.ITIMER_REAL, max(rest - (time.monotonic() - began), 1e-3), interval)


def end_with_parent() -> None:
    """Let the system kill this process when its parent dies, where it can (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def born_quietly() -> Iterator[None]:
    """Start processes meanwhile that end without a traceback if this one dies before it has told them what to do."""
    from multiprocessing import spawn  # slow to import

    command_line = spawn.get_command_line

    def guarded(**given: Any) -> list[str]:
        words: list[str] = command_line(**given)
        if "-c" in words:  # not in a frozen program
            place = words.index("-c") + 1
            cut_off = "(EOFError, OSError, pickle.UnpicklingError)"
            words[place] = f"import pickle\ntry:\n {words[place]}\nexcept {cut_off}:\n raise SystemExit(1)"
        return words

    spawn.get_command_line = guarded
    try:
        yield
    finally:
        spawn.get_command_line = command_line


@contextmanager
def marking(mark: str) -> Iterator[None]:
    """Let the processes that are started meanwhile, and all that they start, carry a mark."""
    os.environ[MARK] = mark
    try:
        yield
    finally:
        del os.environ[MARK]


def end_marked(wanted: Callable[[str], bool]) -> None:
    """Kill the processes whose marks are wanted, even outside their groups, where /proc lists them.

    `wanted` may raise ValueError for a mark that it cannot read."""
    prefix = f"{MARK}=".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            marks = [each for each in (entry / "environ").read_bytes().split(b"\0") if each.startswith(prefix)]
            if any(wanted(each[len(prefix) :].decode(errors="replace")) for each in marks):
                os.kill(int(entry.name), signal.SIGKILL)
