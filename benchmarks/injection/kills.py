"""Kill the driver of a grid, one of its workers, or its process group, at random moments."""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from pathlib import Path

from injection import programs
from injection.grids import GRID, JOBS, Reference, loud, resumed, wrong
from injection.programs import Program

COLD = 10  # one try in this many starts a new interpreter, and is killed while that imports, too
PARTS = ("driver", "worker", "group")


def attempt(part: str, reference: Reference, number: int) -> list[str]:
    """Kill one part of a running grid, and return what was lost."""
    draws = random.Random(f"{part} {number}")
    while True:  # until the grid is still running at the moment that is drawn
        with tempfile.TemporaryDirectory() as name:
            folder, cold = Path(name), number % COLD == 0
            program = programs.start([*GRID, "--jobs", JOBS], name, folder, before=() if cold else None)
            time.sleep(draws.uniform(0, reference.seconds))
            if not _kill(part, program, draws):
                program.wait()
                continue
            return _losses(part, program, reference)


def _kill(part: str, program: Program, draws: random.Random) -> bool:
    """Kill a part, waiting for a worker if there is none yet; return false if the grid ended before."""
    while not program.ended:
        if part == "driver":
            os.kill(program.pid, signal.SIGKILL)
            return True
        if part == "group":
            os.killpg(program.pid, signal.SIGKILL)
            return True
        if workers := program.workers():
            programs.kill([draws.choice(workers)])
            return True
        time.sleep(programs.MOMENT)
    return False


def _losses(part: str, program: Program, reference: Reference) -> list[str]:
    """Check what the kill left: no process, no wrong or half record, and a grid that can be finished."""
    code = program.wait()
    expected = (0, 1) if part == "worker" else (-signal.SIGKILL,)
    faults = [] if code in expected else [f"the grid ends with {code}: {program.said()[-2000:]}"]
    faults += [f"an orphan: {line}" for line in programs.orphans(program)]
    faults += loud(program) + wrong(program.folder / "records", reference.records, whole=False)
    return faults + resumed(program.folder, program.mark, reference.records)
