"""Progress reports on standard error: a bar on a terminal, one line every 30 seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

PERIOD = 30.0


class Tick(Protocol):
    """Report one more finished piece of work, and what it was."""

    def __call__(self, what: str) -> None:
        """Count one more."""


@contextmanager
def progress(title: str, total: int, quiet: bool = False) -> Iterator[Tick]:
    """Show the progress of `total` pieces of work and the time left; call the yielded function after each piece."""
    if quiet:
        yield lambda what: None
    elif sys.stderr.isatty():
        yield from _bar(title, total)
    else:
        yield from _lines(title, total)


def _bar(title: str, total: int) -> Iterator[Tick]:
    from rich import progress as bars
    from rich.console import Console

    columns = (
        "{task.description}", bars.BarColumn(), bars.MofNCompleteColumn(), bars.TimeElapsedColumn(),
        "left", bars.TimeRemainingColumn(), "{task.fields[what]}",
    )  # fmt: skip
    with bars.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total, what="")
        yield lambda what: bar.update(task, advance=1, what=what)


def _lines(title: str, total: int) -> Iterator[Tick]:
    began = said = time.monotonic()
    done = 0

    def report(what: str) -> None:
        nonlocal done, said
        done += 1
        now = time.monotonic()
        if now - said >= PERIOD:
            said = now
            left = (now - began) / done * (total - done)
            print(
                f"{title}: {done} of {total}, about {duration(left)} left ({what})",
                file=sys.stderr,
                flush=True,
            )

    yield report


def duration(seconds: float) -> str:
    """Write a duration for people to read."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
