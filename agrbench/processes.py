"""How a process ends: when its user interrupts it, and when the process that started it is gone."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

MARK = "AGRBENCH_WORKER"  # the environment variable in which all that a worker starts carries its mark
ENDINGS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
PR_SET_PDEATHSIG = 1  # from linux/prctl.h
_interrupts = 0


def interrupted() -> bool:
    """Return whether the user has interrupted this program (see `interruptible`)."""
    return _interrupts > 0


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


def end_marked(mark: str) -> None:
    """Kill the processes that carry a mark, even those that left their parents or groups, where /proc lists them."""
    wanted = f"{MARK}={mark}".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                os.kill(int(entry.name), signal.SIGKILL)
