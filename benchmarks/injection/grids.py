"""The grid whose records must come out the same whatever happens, and what is wrong with a folder of them."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from agrbench.errors import RecordError
from agrbench.results.record import curves
from agrbench.results.store import read
from injection import programs
from injection.programs import Program

AXES = ("-D", "synthetic", "-d", "krum", "-d", "median", "-a", "label_flip", "-a", "ipm")
SIZE = ("--clients", "10", "--rounds", "30", "--seeds", "1", "--only-base")
GRID = ("grid", *AXES, *SIZE, "--out", "records")  # nine cells
JOBS = 2

Curves = dict[str, Any]


class Reference(NamedTuple):
    """An undisturbed grid: its folder, the curves of each record by its path there, and the seconds that it takes."""

    folder: Path
    records: Mapping[str, Curves]
    seconds: float


def undisturbed(folder: Path, words: Sequence[object] = GRID) -> Mapping[str, Curves]:
    """Run a grid alone, in one worker of a new interpreter, and return its records."""
    program = programs.start([*words, "--jobs", 1], folder.name, folder, before=())
    if program.wait() != 0:
        raise RuntimeError(f"the undisturbed grid fails: {program.said()}")
    return {path: curves(record) for path, record in stored(folder / "records").items()}


def stored(folder: Path) -> dict[str, Any]:
    """Read all records of a folder by their paths in it; those that cannot be read become errors."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*.json")):
        try:
            found[str(path.relative_to(folder))] = read(path)
        except RecordError as error:
            found[str(path.relative_to(folder))] = error
    return found


def wrong(folder: Path, reference: Mapping[str, Curves], whole: bool = True) -> list[str]:
    """Compare finished records with the reference, bit for bit; with `whole` all must be there, and nothing else."""
    found = stored(folder)
    faults = [f"{path}: {record}" for path, record in found.items() if isinstance(record, RecordError)]
    done = {path: record for path, record in found.items() if _done(record)}
    faults += [f"{path} differs" for path, record in done.items() if _text(record) != json.dumps(reference.get(path))]
    if whole:
        faults += [f"{path} is missing" for path in reference if path not in done]
        faults += [f"{path} is left" for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".json"]
    return faults


def loud(program: Program) -> list[str]:
    """Say that a program printed a traceback."""
    text = program.said("out") + program.said()
    return [f"a traceback: {text[-2000:]}"] if "Traceback" in text else []


def resumed(folder: Path, mark: str, reference: Mapping[str, Curves], words: Sequence[object] = GRID) -> list[str]:
    """Run the grid to its end, and say what is wrong with what it says and leaves."""
    program = programs.start([*words, "--jobs", 1], mark, folder)
    code = program.wait()
    faults = [] if code == 0 else [f"the resumed grid ends with {code}: {program.said()[-2000:]}"]
    faults += [f"it read a half file: {line}" for line in program.said().splitlines() if line.startswith("Warning")]
    return [*faults, *loud(program), *map(str, programs.orphans(program)), *wrong(folder / "records", reference)]


def _done(record: Any) -> bool:
    return isinstance(record, dict) and record["status"] == "done"


def _text(record: Any) -> str:
    return json.dumps(curves(record))


def measured() -> float:
    """Return the seconds that the grid takes, undisturbed but for what else this machine does."""
    with tempfile.TemporaryDirectory() as name:
        began = time.monotonic()
        programs.start([*GRID, "--jobs", JOBS], name, Path(name)).wait()
        return time.monotonic() - began
