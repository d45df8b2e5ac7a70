"""Take records into the leaderboard: whole, made by the plugin files within reach, never over others that differ."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agrbench.cells import EVERY, PROTOCOL, Cell
from agrbench.errors import AgrbenchError, Inapplicable, RecordError
from agrbench.plugins.registry import Registry
from agrbench.results import record as records
from agrbench.results import store
from agrbench.results.record import FIELDS, Record, agree, skipped
from agrbench.results.store import PACKED
from agrbench.results.text import one_line
from agrbench.specs import LARGEST

RECORDS = "records"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
PAGE = "README.md"
MACHINE = ("agrbench", "torch", "numpy", "python", "cpu", "threads", "device")
PATHS = ("cpu_capability", "ATEN_CPU_CAPABILITY", "MKL_CBWR")  # a newer environment may have them
INSIDE = {"time": {"server_s", "round_s", "alone"}, "trust": {"malicious_share", "precision", "recall"}}
INSIDE |= {"groups": {"classes", "clients"}}
MOST_CLIENTS = 10**6
CLOSE = 0.02  # in accuracy, the mean over measured rounds
LONGEST = 200  # letters of a version or a processor's name


@dataclass
class Published:
    """The records of a file after publishing, by place: how many are new or were there, are stale, or were refused."""

    packed: Path
    records: dict[Path, Record]
    copied: int = 0
    there: int = 0
    replaced: list[Path] = field(default_factory=list)
    refused: list[RecordError] = field(default_factory=list)


def find(board: Path) -> Path:
    """Check that a leaderboard is there, and that no link in it leads elsewhere.

    Raises:
        AgrbenchError: it is not.
    """
    folder = board / RECORDS
    if not folder.is_dir():
        raise AgrbenchError(
            f"{board}: no leaderboard, which is a folder with a folder {RECORDS} in it; "
            "run this in a checkout of agrbench, or name the folder: --to PATH"
        )
    for path in (folder, board / PAGE, *folder.glob(f"*{PACKED}")):
        if path.is_symlink():
            raise AgrbenchError(
                f"{path} is a link, which may lead out of the leaderboard; replace it by the file itself"
            )
    return board


def publish(source: Path, board: Path, name: str, registry: Registry) -> Published:
    """Take the records of a folder or packed file that can stand in `records/NAME.jsonl` of a leaderboard.

    The others are refused one by one. Nothing is written; `save` does that.

    Raises:
        AgrbenchError: there is no such folder or file, it holds the leaderboard, or the name is not one.
    """
    if not NAME.fullmatch(name):
        raise AgrbenchError(f"{name!r} cannot name a file of records; write --as with letters, digits and _.-")
    folder = find(board) / RECORDS
    if folder.resolve().is_relative_to(source.resolve()):
        raise AgrbenchError(f"{source} holds the leaderboard itself; name one folder of records")
    packed = folder / f"{name}{PACKED}"
    found, refused = store.sift([source])
    outcome = Published(packed, dict(store.collect([packed] if packed.exists() else [])), refused=refused)
    for path, record in found:
        try:
            _take(path, check(path, record, registry), registry, outcome)
        except RecordError as error:
            outcome.refused.append(error)
    return outcome


def check(path: Path, record: Record, registry: Registry) -> Record:
    """Check that a record is whole, and what the plugin files within reach compute; return what is published of it.

    Of a finished record these are its known fields. A skipped one is made again, with the reason that the plugins give.

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
    if cell.clients > MOST_CLIENTS:
        raise RecordError(f"{path}: it has {cell.clients} clients, and at most {MOST_CLIENTS} are published")
    undefined = _compare(path, record, cell, registry)
    if record["status"] == "skipped":
        if undefined is None:
            raise RecordError(f"{path}: skipped, but its plugins are defined for this cell; run it again")
        return skipped(cell, registry, undefined)
    missing = [f"the plugins skip this cell: {undefined}"] if undefined else _missing(record, cell, registry)
    if missing:
        raise RecordError(f"{path}: {' and '.join(missing)}; run it again with this version")
    return {name: record[name] for name in FIELDS if name in record}  # whatever else it says is left out


def _compare(path: Path, record: Record, cell: Cell, registry: Registry) -> str | None:
    """Compare a record with the plugins within reach, and return why they skip its cell, or `None`.

    Raises:
        RecordError: they differ.
    """
    try:
        if registry.canonical_cell(cell).as_json() != record["cell"]:
            raise RecordError(f"{path}: its cell is not written in its one form; run it again")
        fresh = record["source"] == registry.sources(cell)
        undefined = _undefined(cell, registry) if fresh else None
    except RecordError:
        raise
    except AgrbenchError as error:
        raise RecordError(f"{path}: {error}; if it is a plugin of yours, write --plugin FILE") from error
    if not fresh:
        raise RecordError(f"{path}: made by other plugin files than those here; run it again with these")
    return undefined


def _undefined(cell: Cell, registry: Registry) -> str | None:
    """Return the reason for which a grid would skip a cell; `None` if it would compute it."""
    try:
        stack = registry.stack(cell.defense)
        stack.check(cell.participants, cell.bound)
        stack.meet(registry.attack(cell.attack))
    except Inapplicable as reason:
        return str(reason)
    return None


def _missing(record: Record, cell: Cell, registry: Registry) -> list[str]:
    """Say what a finished record lacks to be computed again and compared, or says beyond that."""
    training, machine = record.get("training"), record["environment"]
    wrong = []
    if (
        not isinstance(training, dict)
        or set(training) != {"rate", "parameters"}
        or not all(map(_positive, training.values()))
    ):
        wrong.append("it lacks the learning rate and the number of parameters that were used")
    lacking = [name for name in MACHINE if not _brief(machine.get(name))]
    paths = [name for name in PATHS if name in machine]
    if lacking or len(machine) > len(MACHINE) + len(paths) or not all(_brief(machine[name]) for name in paths):
        wrong.append(f"its environment lacks {', '.join(lacking) or 'nothing, and says more'}")
    if not _regular(record["rounds"], cell.rounds):
        wrong.append(f"it is not measured in every {EVERY}th of its {cell.rounds} rounds")
    if record["reason"] is not None or record["traceback"] is not None:
        wrong.append("it is finished and yet gives a reason or a traceback")
    if any(set(record.get(name) or ()) - known for name, known in INSIDE.items()):
        wrong.append("its time, trust or groups say more than this version knows")
    if "resolved" in record and record["resolved"] != records.resolved(cell, registry):
        wrong.append("its resolved settings are not those of its cell")
    if not all(text.isprintable() for text in _texts({name: record[name] for name in FIELDS if name in record})):
        wrong.append("it holds characters that cannot be printed")
    return wrong


def _regular(measured: list[int], last: int) -> bool:
    """Return whether the measured rounds are 0, every tenth one and the last; `last` may be any number."""
    if len(measured) != -(-last // EVERY) + 1:
        return False
    return measured == [*range(0, last, EVERY), last]


def _texts(record: Record) -> Iterator[str]:
    """List all text inside a record."""
    waiting: list[Any] = [record]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list):
            waiting += value


def _positive(value: object) -> bool:
    return isinstance(value, (int, float)) and type(value) is not bool and 0 < value < LARGEST


def _brief(value: object) -> bool:
    text = isinstance(value, str) and 0 < len(value) <= LONGEST and value.isprintable()
    return text or (type(value) is int and 0 < value < LARGEST)


def _short(reason: Any) -> str:
    return one_line(str(reason))[:LONGEST]


def _take(path: Path, record: Record, registry: Registry, outcome: Published) -> None:
    """Add one record to those that are known, unless the same result is there already."""
    cell = Cell.from_json(record["cell"])
    place = outcome.packed / store.place(cell)
    there = outcome.records.get(place)
    if there is not None and (agree(there, record) or _elsewhere(there, record)):
        outcome.there += 1
        return
    if there is not None:
        if there["source"] == registry.sources(cell):
            raise RecordError(f"{path}: {place} is the same cell with another result; remove one of them")
        outcome.replaced.append(place)
    outcome.records[place] = record
    outcome.copied += 1


def _elsewhere(known: Record, record: Record) -> bool:
    """Say whether two finished records differ as another processor or other versions make them differ."""
    if known["status"] != "done" or record["status"] != "done" or known["source"] != record["source"]:
        return False
    if known["rounds"] != record["rounds"]:
        return False
    gaps = [abs(a - b) for a, b in zip(known["accuracy"], record["accuracy"], strict=True)]
    return known["environment"] != record["environment"] and statistics.fmean(gaps) <= CLOSE
