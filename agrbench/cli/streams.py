"""Standard streams that are closed, full or read by nobody: a message that is lost must not end a computation."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Any, TextIO


class Unheard:
    """A stream that goes on when what it writes to is full or gone."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text, or nothing."""
        with suppress(OSError):
            self._stream.write(text)
            self._stream.flush()
        return len(text)

    def flush(self) -> None:
        """Do nothing: everything is written at once."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def guard() -> None:
    """Open what is closed, so that no other file gets its number, and let messages on standard error be lost."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))
    sys.stderr = Unheard(sys.stderr)
