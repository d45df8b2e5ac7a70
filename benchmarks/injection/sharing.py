"""Several grids in one folder at once, watched by the system: each record is written once."""

from __future__ import annotations

import ctypes
import os
import random
import struct
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from injection import programs
from injection.grids import GRID, Reference, loud, wrong

MOVED_TO = 0x80  # from sys/inotify.h
EVENT = struct.Struct("iIII")
CONTAINER = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


def attempt(count: int, contained: bool, reference: Reference, number: int) -> list[str]:
    """Start grids in one folder within a second of each other, and return what they lost or did twice.

    With `contained`, each runs in a PID namespace of its own, where their process ids are equal.
    """
    draws = random.Random(f"{count} {contained} {number}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folders = {folder / "records" / Path(path).parent for path in reference.records}
        for each in folders:
            each.mkdir(parents=True)  # so that it can be watched before the first record
        watch, running = watched(folders), []
        for place in range(count):
            words = [*GRID, "--jobs", 1, "--out", "../records"]
            running.append(programs.start(words, name, folder / str(place), CONTAINER if contained else None))
            time.sleep(draws.uniform(0, 1 / count))
        codes = [program.wait() for program in running]
        faults = [f"a grid ends with {code}: {each.said()}" for code, each in zip(codes, running, strict=True) if code]
        faults += [fault for program in running for fault in loud(program)] + programs.orphans(running[0])
        told = {program.said("out") for program in running}
        faults += ["their tables differ"] if len(told) > 1 else []
        return faults + _twice(watch) + wrong(folder / "records", reference.records)


def watched(folders: Iterable[Path]) -> int:
    """Let the system note every file that is renamed in some folders."""
    library = ctypes.CDLL(None)
    watch = int(library.inotify_init())
    for folder in folders:
        if library.inotify_add_watch(watch, os.fsencode(folder), MOVED_TO) < 0:
            raise RuntimeError(f"{folder} cannot be watched")
    return watch


def _twice(watch: int) -> list[str]:
    """Name the records that were written more than once since they are watched."""
    events, place, seen = os.read(watch, 1 << 20), 0, Counter[tuple[int, bytes]]()
    os.close(watch)
    while place < len(events):
        folder, _, _, length = EVENT.unpack_from(events, place)
        place += EVENT.size + length
        seen[folder, events[place - length : place].rstrip(b"\0")] += 1
    written = {name: times for (_, name), times in seen.items() if name.endswith(b".json")}
    return [f"{name.decode()} was written {times} times" for name, times in written.items() if times > 1]
