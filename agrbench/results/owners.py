"""Which process a claim or a temporary file belongs to, and whether that process is gone."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any


def owner() -> dict[str, Any]:
    """Describe this process: its machine, its id, and when it was started."""
    return {"host": _machine(), "pid": os.getpid(), "started": _started(os.getpid())}


def gone(owner: Mapping[str, Any]) -> bool:
    """Return whether an owner ran on this machine, in this container, and ended.

    Raises:
        ArithmeticError, KeyError, TypeError, ValueError: it describes no process.
    """
    here = owner["host"] == _machine() and owner["started"] is not None
    return here and not _runs(int(owner["pid"]), owner["started"])


def tag() -> str:
    """Describe this process as part of a file name."""
    return f"{_short()}-{os.getpid()}-{_started(os.getpid()) or 0}"


def gone_by(tag: str) -> bool:
    """Return whether the process that a tag describes ran on this machine, in this container, and ended."""
    machine, pid, started = tag.split("-")
    return machine == _short() and started != "0" and not _runs(int(pid), started)


def _short() -> str:
    return hashlib.sha256(_machine().encode()).hexdigest()[:8]


def _runs(pid: int, started: str) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # another user's, of whom /proc may tell nothing
    return _started(pid) == started


def _machine() -> str:
    """Name this machine, since it was started, and the container that process ids belong to."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(os.readlink("/proc/self/ns/pid"))  # noqa: PTH115
    return " ".join(parts)


def _started(pid: int) -> str | None:
    """Return when a process was started, in ticks since the machine was; `None` if it ended or nobody can tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
