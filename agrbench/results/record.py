"""What a record is: its fields, what they may hold, and which of them must repeat bit for bit."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from agrbench.cells import EVERY, PROTOCOL, Cell
from agrbench.plugins.registry import Registry
from agrbench.specs import LARGEST

SCHEMA = 1
NULL = type(None)

Record = dict[str, Any]


@dataclass(frozen=True)
class Field:
    """A field of a record: the types of its value, the value before anything is measured, and whether it must repeat.

    A field that repeats is simulated, so two runs of one cell agree on it bit for bit; the others are timed or told.
    """

    types: tuple[type, ...]
    blank: Any
    repeats: bool = False


FIELDS: Mapping[str, Field] = {
    "schema": Field((int,), SCHEMA),
    "protocol": Field((int,), PROTOCOL),
    "status": Field((str,), "done", repeats=True),
    "reason": Field((str, NULL), None),
    "cell": Field((dict,), {}),
    "rounds": Field((list,), [], repeats=True),
    "accuracy": Field((list,), [], repeats=True),
    "loss": Field((list,), [], repeats=True),
    "success": Field((list, NULL), None, repeats=True),
    "success_untriggered": Field((list, NULL), None, repeats=True),
    "classes": Field((int, NULL), None),
    "training": Field((dict, NULL), None),
    "groups": Field((dict, NULL), None, repeats=True),
    "shared_rounds": Field((int,), 0),
    "trust": Field((dict,), {"malicious_share": [], "precision": [], "recall": []}, repeats=True),
    "rejected": Field((int,), 0, repeats=True),
    "rejected_honest": Field((int,), 0, repeats=True),
    "empty_steps": Field((int,), 0, repeats=True),
    "time": Field((dict,), {"server_s": 0.0, "round_s": 0.0, "alone": False}),
    "peak_bytes": Field((int,), 0),
    "source": Field((dict,), {}),
    "environment": Field((dict,), {}),
    "traceback": Field((str, NULL), None),
    "resolved": Field((dict,), {}),
    "digest": Field((str,), ""),
}
"""The fields, in the order in which a record is written: a new one is added here."""
SEALED = {"resolved", "digest"}  # only `sealed` adds them
OPTIONAL = {"training", "groups", *SEALED}  # records made before the field existed lack it
UNPROTECTED = {"schema", "reason", "source", "traceback", "digest"}  # fields that the digest does not cover
IDENTITY = {"dataset", "defense", "attack", "seed"}  # the parts of a cell that are no settings
NEVER_NULL = {"rounds", "accuracy"}  # curves that have a number in every measured round
DEEPEST = 32  # nested lists and dictionaries; a record has about five
ROUNDING = 1e-9  # by which a sum of shares may miss 1


def blank(cell: Cell, registry: Registry) -> Record:
    """Return a new record for a cell, with nothing measured."""
    known = {"cell": cell.as_json(), "source": registry.sources(cell)}
    return {name: copy.deepcopy(field.blank) for name, field in FIELDS.items() if name not in SEALED} | known


def sealed(record: Record, registry: Registry) -> Record:
    """Return a finished record with the value of every setting and with the digest of what was measured."""
    whole = record | {"resolved": resolved(Cell.from_json(record["cell"]), registry)}
    return whole | {"digest": digest(whole)}


def resolved(cell: Cell, registry: Registry) -> dict[str, Any]:
    """Return every setting of a cell with the value that it stands for, defaults and the dataset's own included.

    `attackers` and `participants` are the numbers of clients that are malicious and that take part in a round.
    """
    own = registry.dataset(cell.dataset).record
    settings = {name: value for name, value in dataclasses.asdict(cell).items() if name not in IDENTITY}
    meant: dict[str, Any] = {"malicious": cell.count, "byzantine": cell.bound, "start": cell.first}
    meant |= {"attackers": cell.attackers, "participants": cell.participants}
    meant |= {"rate": own.rate if cell.rate is None else cell.rate}
    model = own.model if cell.model is None else cell.model
    return settings | meant | {"model": model if isinstance(model, str) else f"{_name_of(model)} of {cell.dataset}"}


def _name_of(function: Any) -> str:
    """Name a function that builds a dataset's own model."""
    return str(getattr(function, "__qualname__", type(function).__name__))


def digest(record: Mapping[str, Any]) -> str:
    """Return the SHA-256 of what a record measured: all its fields but those that are only told."""
    covered = {name: record[name] for name in FIELDS if name in record and name not in UNPROTECTED}
    text = json.dumps(plain(covered), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def skipped(cell: Cell, registry: Registry, reason: str) -> Record:
    """Return the record of a cell that is not defined, with the reason."""
    return blank(cell, registry) | {"status": "skipped", "reason": reason}


def failed(cell: Cell, registry: Registry, reason: str, trace: str | None = None) -> Record:
    """Return the record of a cell that could not be computed, with the reason."""
    return blank(cell, registry) | {"status": "failed", "reason": reason, "traceback": trace}


def curves(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a record that must repeat bit for bit: everything simulated, nothing timed."""
    return {name: record.get(name) for name, field in FIELDS.items() if field.repeats}


def agree(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two records of a cell have the same results in every field that both have."""
    return all(one[name] == other[name] for name in curves(one) if name in one and name in other)


def check(record: Record) -> None:
    """Check the type and range of every field; readers of the record rely on it.

    Raises:
        ValueError: a value has the wrong type, is out of range, or is not the one that was measured.
    """
    if _depth(record) > DEEPEST:
        raise ValueError("its values are nested too deeply")
    _check_types(record)
    if not all(type(digest) is str for digest in record["source"].values()):
        raise ValueError("its source holds more than digests")
    if record["status"] not in ("done", "failed", "skipped"):
        raise ValueError(f"status is {record['status']!r}")
    _check_time(record["time"])
    _check_curves(record)
    _check_rounds(record)
    _check_counts(record)
    for kind, group in (record.get("groups") or {}).items():
        if not _counted(group):
            raise ValueError(f"its groups by {kind} are no counts of rows and hits")
    if "digest" in record and record["digest"] != digest(record):
        raise ValueError("its values are not those that were measured, because its digest is another")


def _depth(value: Any) -> int:
    """Return how deeply lists and dictionaries are nested, or a number above `DEEPEST`."""
    level, depth = [value], 0
    while level and depth <= DEEPEST:
        inner = (each.values() if isinstance(each, dict) else each for each in level)
        level = [value for values in inner for value in values if isinstance(value, (dict, list))]
        depth += 1
    return depth


def _check_types(record: Record) -> None:
    for name, field in FIELDS.items():
        if name in OPTIONAL and name not in record:
            continue
        value = record[name]
        if type(value) not in field.types or (type(value) is int and not _number(value)):
            raise ValueError(f"{name} is of the wrong type or size")


def _check_time(time: Mapping[str, Any]) -> None:
    seconds = [time[part] for part in ("server_s", "round_s")]
    if type(time["alone"]) is not bool or not all(_number(each) and each >= 0 for each in seconds):
        raise ValueError(f"time is {time!r}")


def _check_curves(record: Record) -> None:
    """Check that each curve has a value in range for every measured round."""
    trust = {name: record["trust"][name] for name in ("malicious_share", "precision", "recall")}
    curves = {name: record[name] for name in ("rounds", "accuracy", "loss")}
    shares = {name: record[name] for name in ("success", "success_untriggered") if record[name] is not None}
    for name, values in (curves | shares | trust).items():
        if type(values) is not list or len(values) != len(record["rounds"]):
            raise ValueError("its curves differ in length")
        if not all(_number(value) or (value is None and name not in NEVER_NULL) for value in values):
            raise ValueError(f"{name} holds more than numbers")
    if not _within((*record["accuracy"], *itertools.chain(*shares.values())), 1):
        raise ValueError("an accuracy or success is no share from 0 to 1")
    if not _within(itertools.chain(*trust.values()), 1 + ROUNDING):
        raise ValueError("a rate of trust is no share from 0 to 1")
    if not _within(record["loss"], math.inf):
        raise ValueError("a loss is below 0")


def _check_rounds(record: Record) -> None:
    """Check that the measured rounds ascend from 0 and, in a finished record, end with the cell's last one."""
    rounds, last = record["rounds"], Cell.from_json(record["cell"]).rounds
    if not all(type(each) is int for each in rounds) or any(a >= b for a, b in itertools.pairwise([-1, *rounds])):
        raise ValueError(
            f"its rounds do not ascend from 0, so it is not measured in every {EVERY}th of its {last} rounds"
        )
    if record["status"] != "done":
        return
    if not (rounds and record["classes"]):
        raise ValueError("it is done and has no curves")
    if rounds[0] != 0 or rounds[-1] != last:
        raise ValueError(f"it is done and not measured from round 0 to round {last}")


def _check_counts(record: Record) -> None:
    for name in ("shared_rounds", "rejected", "rejected_honest", "empty_steps", "peak_bytes"):
        if record[name] < 0:
            raise ValueError(f"{name} is below 0")
    if record["rejected_honest"] > record["rejected"]:
        raise ValueError("rejected_honest is above rejected")
    if record["classes"] is not None and record["classes"] < 1:
        raise ValueError("classes is below 1")


def _within(values: Iterable[float | None], most: float) -> bool:
    return all(value is None or 0 <= value <= most for value in values)


def _counted(group: Any) -> bool:
    """Return whether a group's `hits` are at most its `rows`, and its names and ids as many as these."""
    if type(group) is not dict or not {"rows", "hits"} <= set(group):
        return False
    lists = [value for name, value in group.items() if name != "of"]
    if any(type(each) is not list or len(each) != len(lists[0]) for each in lists):
        return False
    pairs = zip(group["rows"], group["hits"], strict=True)
    return all(type(row) is type(hit) is int and 0 <= hit <= row < LARGEST for row, hit in pairs)


def _number(value: object) -> bool:
    return (type(value) is float and math.isfinite(value)) or (type(value) is int and abs(value) < LARGEST)


def plain(value: Any) -> Any:
    """Replace non-finite numbers with `None`, which JSON writes as null."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
