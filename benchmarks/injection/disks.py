"""Disks that fill up in the middle of a grid, and streams that are full or closed."""

from __future__ import annotations

import os
import random
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from injection import programs
from injection.grids import GRID, JOBS, Reference, loud, resumed, stored, wrong

ROOMY = "10m"
LOST = ((1,), (2,), (1, 2))  # the streams that nobody hears


def attempt(reference: Reference, number: int) -> list[str]:
    """Run a grid on a disk that is too small, then give it room, and return what was lost."""
    pages = random.Random(number).randint(1, 12)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "records").mkdir()
        with _disk(folder / "records", f"{4 * pages}k"):
            program = programs.start([*GRID, "--jobs", JOBS], name, folder)
            code, told = program.wait(), program.said()
            errors = [line for line in told.splitlines() if line.startswith("Error: ")]
            full = code == 2 and len(errors) == 1 and "No space left on device" in errors[0]
            faults = [] if full or code == 0 else [f"it ends with {code}: {told}"]
            faults += loud(program) + programs.orphans(program)
            faults += wrong(folder / "records", reference.records, whole=False)
            kept = stored(folder / "records")
            _mount("-o", f"remount,size={ROOMY}", folder / "records")
            faults += resumed(folder, name, reference.records)
            after = stored(folder / "records")
            return faults + [f"{path} was computed again" for path in kept if kept[path] != after.get(path)]


def unheard(reference: Reference, number: int) -> list[str]:
    """Run a grid whose streams are full or closed, and return what was lost."""
    streams, closed = LOST[number % len(LOST)], number % 2 == 0

    def lose() -> None:
        for stream in streams:
            os.close(stream) if closed else os.dup2(os.open("/dev/full", os.O_WRONLY), stream)

    with tempfile.TemporaryDirectory() as name:
        program = programs.start([*GRID, "--jobs", JOBS], name, Path(name), before=(), limit=lose)
        code = program.wait()
        expected = 0 if closed or 1 not in streams else 2  # the table could not be printed
        faults = [] if code == expected else [f"it ends with {code}: {program.said()}"]
        return faults + loud(program) + programs.orphans(program) + wrong(Path(name) / "records", reference.records)


@contextmanager
def _disk(folder: Path, size: str) -> Iterator[None]:
    """Mount a disk of a size in a folder."""
    _mount("-t", "tmpfs", "-o", f"size={size}", "none", folder)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def _mount(*words: object) -> None:
    subprocess.run(["mount", *map(str, words)], check=True)
