"""Take records into the leaderboard: whole, made by the plugin files within reach, never over others that differ."""

from __future__ import annotations

import re
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agrbench.cells import EVERY, PROTOCOL, Cell
from agrbench.errors import AgrbenchError, RecordError
from agrbench.plugins.registry import Registry
from agrbench.results import store
from agrbench.results.record import FIELDS, Record, agree
from agrbench.results.store import PACKED
from agrbench.specs import LARGEST

RECORDS = "records"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
MACHINE = ("agrbench", "torch", "numpy", "python", "cpu", "threads", "device")
CLOSE = 0.02  # in accuracy, the mean over measured rounds
LONGEST = 200  # letters of a version or a processor's name


@dataclass
class Published:
    """How many records were copied or were there already, which replaced a stale one, and what was refused."""

    copied: int = 0
    there: int = 0
    replaced: list[Path] = field(default_factory=list)
    refused: list[RecordError] = field(default_factory=list)


def find(board: Path) -> Path:
    """Check that a leaderboard is there.

    Raises:
        AgrbenchError: it is not.
    """
    if not (board / RECORDS).is_dir():
        raise AgrbenchError(
            f"{board}: no leaderboard, which is a folder with a folder {RECORDS} in it; "
            "run this in a checkout of agrbench, or name the folder: --to PATH"
        )
    return board


def publish(source: Path, board: Path, name: str, registry: Registry) -> Published:
    """Copy the records of a folder or packed file that can stand there into `records/NAME.jsonl` of a leaderboard.

    The others are refused one by one. The file is written once, whole, after every record was checked.

    Raises:
        AgrbenchError: there is no such folder or file, it holds the leaderboard, or the name is not one.
    """
    if not NAME.fullmatch(name):
        raise AgrbenchError(f"{name!r} cannot name a file of records; write --as with letters, digits and _.-")
    records = find(board) / RECORDS
    if records.resolve().is_relative_to(source.resolve()):
        raise AgrbenchError(f"{source} holds the leaderboard itself; name one folder of records")
    packed = records / f"{name}{PACKED}"
    if packed.is_symlink():
        raise AgrbenchError(f"{packed} is a link, which may lead out of the leaderboard; replace it by the file itself")
    known = dict(store.collect([packed] if packed.exists() else []))
    found, refused = store.sift([source])
    outcome = Published(refused=refused)
    for path, record in found:
        try:
            check(path, record, registry)
            _take(path, record, known, packed, registry, outcome)
        except RecordError as error:
            outcome.refused.append(error)
    if outcome.copied:
        store.write_packed(packed, known.values())
    return outcome


def check(path: Path, record: Record, registry: Registry) -> None:
    """Check that a record is whole, and what the plugin files within reach compute.

    Raises:
        RecordError: it is not; the message says what to do.
    """
    cell = Cell.from_json(record["cell"])
    if record["protocol"] != PROTOCOL:
        raise RecordError(
            f"{path}: computed under protocol {record['protocol']}, this version has {PROTOCOL}; run it again"
        )
    if record["status"] == "failed":
        raise RecordError(f"{path}: the run failed ({_short(record['reason'])}); run it again")
    try:
        if registry.canonical_cell(cell).as_json() != record["cell"]:
            raise RecordError(f"{path}: its cell is not written in its one form; run it again")
        fresh = record["source"] == registry.sources(cell)
    except RecordError:
        raise
    except AgrbenchError as error:
        raise RecordError(f"{path}: {error}; if it is a plugin of yours, write --plugin FILE") from error
    if not fresh:
        raise RecordError(f"{path}: made by other plugin files than those here; run it again with these")
    missing = _missing(record, cell) if record["status"] == "done" else []
    if missing:
        raise RecordError(f"{path}: {' and '.join(missing)}; run it again with this version")


def _missing(record: Record, cell: Cell) -> list[str]:
    """Say what a finished record lacks to be computed again and compared."""
    training, machine = record.get("training"), record["environment"]
    wrong = []
    if (
        not isinstance(training, dict)
        or set(training) != {"rate", "parameters"}
        or not all(map(_positive, training.values()))
    ):
        wrong.append("it lacks the learning rate and the number of parameters that were used")
    lacking = [name for name in MACHINE if not _brief(machine.get(name))]
    if lacking or len(machine) > len(MACHINE):
        wrong.append(f"its environment lacks {', '.join(lacking) or 'nothing, and says more'}")
    if record["rounds"] != sorted({*range(0, cell.rounds + 1, EVERY), cell.rounds}):
        wrong.append(f"it is not measured in every {EVERY}th of its {cell.rounds} rounds")
    return wrong


def _positive(value: object) -> bool:
    return isinstance(value, (int, float)) and type(value) is not bool and 0 < value < LARGEST


def _brief(value: object) -> bool:
    text = isinstance(value, str) and 0 < len(value) <= LONGEST and value.isprintable()
    return text or (type(value) is int and 0 < value < LARGEST)


def _short(reason: Any) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in str(reason))[:LONGEST]


def _take(
    path: Path, record: Record, known: dict[Path, Record], packed: Path, registry: Registry, outcome: Published
) -> None:
    """Add one record to those that are known, unless the same result is there already."""
    cell = Cell.from_json(record["cell"])
    place = packed / store.place(cell)
    there = known.get(place)
    if there is not None and (agree(there, record) or _elsewhere(there, record)):
        outcome.there += 1
        return
    if there is not None:
        if there["source"] == registry.sources(cell):
            raise RecordError(f"{path}: {place} is the same cell with another result; remove one of them")
        outcome.replaced.append(place)
    known[place] = {name: record[name] for name in FIELDS if name in record}  # whatever else it says is left out
    outcome.copied += 1


def _elsewhere(known: Record, record: Record) -> bool:
    """Say whether two finished records differ as another processor or other versions make them differ."""
    if known["status"] != "done" or record["status"] != "done" or known["source"] != record["source"]:
        return False
    gaps = [abs(a - b) for a, b in zip(known["accuracy"], record["accuracy"], strict=True)]
    return known["environment"] != record["environment"] and statistics.fmean(gaps) <= CLOSE
