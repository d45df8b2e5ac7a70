"""What a record is: its fields, what they may hold, and which of them must repeat bit for bit."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agrbench.cells import PROTOCOL, Cell
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
}
"""The fields, in the order in which a record is written: a new one is added here."""
OPTIONAL = {"training", "groups"}  # records made before the field existed lack it


def blank(cell: Cell, registry: Registry) -> Record:
    """Return a new record for a cell, with nothing measured."""
    known = {"cell": cell.as_json(), "source": registry.sources(cell)}
    return {name: copy.deepcopy(field.blank) for name, field in FIELDS.items()} | known


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
    """Check the type and range of every field; readers of the record rely on it."""
    for name, field in FIELDS.items():
        if name in OPTIONAL and name not in record:
            continue
        value = record[name]
        if type(value) not in field.types or (type(value) is int and not _number(value)):
            raise ValueError(f"{name} is of the wrong type or size")
    if record["status"] not in ("done", "failed", "skipped"):
        raise ValueError(f"status is {record['status']!r}")
    time, trust = record["time"], record["trust"]
    if type(time["alone"]) is not bool or not all(_number(time[part]) for part in ("server_s", "round_s")):
        raise ValueError(f"time is {time!r}")
    curves = {name: record[name] for name in ("rounds", "accuracy", "loss")}
    curves |= {name: record[name] for name in ("success", "success_untriggered") if record[name] is not None}
    curves |= {name: trust[name] for name in ("malicious_share", "precision", "recall")}
    for name, values in curves.items():
        whole = name in ("rounds", "accuracy")
        if type(values) is not list or len(values) != len(record["rounds"]):
            raise ValueError("its curves differ in length")
        if not all(_number(value) or (value is None and not whole) for value in values):
            raise ValueError(f"{name} holds more than numbers")
    shares = (*record["accuracy"], *(record["success"] or ()), *(record["success_untriggered"] or ()))
    if not all(value is None or 0 <= value <= 1 for value in shares):
        raise ValueError("an accuracy or success is no share from 0 to 1")
    if record["status"] == "done" and not (record["rounds"] and record["classes"]):
        raise ValueError("it is done and has no curves")
    for kind, group in (record.get("groups") or {}).items():
        if not _counted(group):
            raise ValueError(f"its groups by {kind} are no counts of rows and hits")


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
