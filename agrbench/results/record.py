"""What a record is: its fields, what they may hold, and which of them must repeat bit for bit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from agrbench.cells import PROTOCOL, Cell
from agrbench.plugins.registry import Registry
from agrbench.specs import LARGEST

SCHEMA = 1

Record = dict[str, Any]


def blank(cell: Cell, registry: Registry) -> Record:
    """Return a new record for a cell, with nothing measured."""
    return {
        "schema": SCHEMA,
        "protocol": PROTOCOL,
        "status": "done",
        "reason": None,
        "cell": cell.as_json(),
        "rounds": [],
        "accuracy": [],
        "loss": [],
        "success": None,
        "success_untriggered": None,
        "classes": None,
        "training": None,
        "shared_rounds": 0,
        "trust": {"malicious_share": [], "precision": [], "recall": []},
        "rejected": 0,
        "rejected_honest": 0,
        "empty_steps": 0,
        "time": {"server_s": 0.0, "round_s": 0.0, "alone": False},
        "peak_bytes": 0,
        "source": registry.sources(cell),
        "environment": {},
        "traceback": None,
    }


def skipped(cell: Cell, registry: Registry, reason: str) -> Record:
    """Return the record of a cell that is not defined, with the reason."""
    return blank(cell, registry) | {"status": "skipped", "reason": reason}


def failed(cell: Cell, registry: Registry, reason: str, trace: str | None = None) -> Record:
    """Return the record of a cell that could not be computed, with the reason."""
    return blank(cell, registry) | {"status": "failed", "reason": reason, "traceback": trace}


def curves(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a record that must repeat bit for bit: everything simulated, nothing timed."""
    return {name: record.get(name) for name in REPEATED}


NULL = type(None)
FIELDS: dict[str, tuple[type, ...]] = {
    "protocol": (int,), "status": (str,), "reason": (str, NULL), "traceback": (str, NULL), "classes": (int, NULL),
    "rounds": (list,), "accuracy": (list,), "loss": (list,), "success": (list, NULL), "trust": (dict,),
    "success_untriggered": (list, NULL), "shared_rounds": (int,), "rejected": (int,), "rejected_honest": (int,),
    "empty_steps": (int,), "time": (dict,), "peak_bytes": (int,), "source": (dict,), "environment": (dict,),
}  # fmt: skip
REPEATED = (
    "status", "rounds", "accuracy", "loss", "success", "success_untriggered", "trust", "rejected", "rejected_honest",
    "empty_steps",
)  # fmt: skip


def check(record: Record) -> None:
    """Check the type and range of every field; readers of the record rely on it."""
    for name, types in FIELDS.items():
        value = record[name]
        if type(value) not in types or (type(value) is int and not _number(value)):
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


def _number(value: object) -> bool:
    return (type(value) is float and math.isfinite(value)) or (type(value) is int and abs(value) < LARGEST)


def plain(value: Any) -> Any:
    """Replace non-finite numbers with `None`, which JSON writes as null."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
