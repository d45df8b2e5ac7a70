"""Write the page: a template, its styles and its program, and the records themselves, in one file."""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from agrbench.cells import Cell
from agrbench.errors import AgrbenchError
from agrbench.plugins.registry import Registry
from agrbench.results import metrics, store
from agrbench.results.again import reproduce
from agrbench.results.leaderboard.page import certificates, points_of
from agrbench.results.metrics import Group
from agrbench.results.page.model import Known, model, rules
from agrbench.results.record import Record, plain
from agrbench.results.store import PACKED

PROGRAM = ("dom", "state", "records", "view", "table", "heat", "charts", "curves", "panel", "download", "app")


def build(sources: Sequence[Path], registry: Registry, demanded: Sequence[str], certificates_of: Path) -> str:
    """Return the page of the records in folders and packed files, each of which is a collection of its own.

    `demanded` are the attacks that a claim of robustness must survive, and `certificates_of` is a file of certificates,
    which need not exist.

    Raises:
        AgrbenchError: there is no finished record, no such source, or two files of one source contradict each other.
    """
    found = {source: [record for _, record in store.readable([source])] for source in dict.fromkeys(sources)}
    points: dict[str, Mapping[str, str]] = {}
    for records in found.values():
        points |= points_of(records, registry)
    known = Known(registry, demanded, points, certificates(certificates_of))
    names = _names(list(found))
    spelled = functools.partial(registry.spelled, "dataset")
    groups = [(names[source], group) for source, records in found.items() for group in metrics.groups(records, spelled)]
    if not groups:
        raise AgrbenchError("no finished record there; run `agrbench grid` first, or name another folder")
    shipped = Registry()
    payloads = (_payload(group, shipped) for _, group in groups)
    return write([model(name, group, known) for name, group in groups], payloads)


def write(models: Iterable[Mapping[str, Any]], payloads: Iterable[Mapping[str, Any]]) -> str:
    """Return the page of some groups and of the records of each.

    Nothing in the data can end the element that holds it, the program is the only one that the page may run, and the
    page may load nothing from anywhere.
    """
    shown = list(models)
    program = "(() => {\n'use strict';\n" + "\n".join(map(_asset, (f"{name}.js" for name in PROGRAM))) + "\n})();\n"
    parts = {
        "{{style}}": _asset("style.css"),
        "{{program}}": program,
        "{{digest}}": base64.b64encode(hashlib.sha256(program.encode()).digest()).decode(),
        "{{version}}": version("agrbench"),
        "{{model}}": _embedded({"groups": shown, "start": max(shown, key=_breadth)["id"]}),
        "{{records}}": "\n".join(map(_packed, payloads)),
    }
    return "".join(parts.get(piece, piece) for piece in re.split(r"(\{\{[a-z]+\}\})", _asset("page.html")))


def _breadth(shown: Mapping[str, Any]) -> tuple[int, int]:
    """Return how many rules a group ranks, in any form, and how many cells it has: the page opens at the broadest."""
    ranked = {rules(row["name"])[-1] for row in shown["defenses"] if row["rank"] is not None}
    return len(ranked), len(shown["cells"])


def _names(sources: Sequence[Path]) -> dict[Path, str]:
    """Name each collection by its folder or file, and those of one name by their paths."""
    short = {source: source.resolve().name.removesuffix(PACKED) for source in sources}
    often = Counter(short.values())
    return {source: name if often[name] == 1 else str(source) for source, name in short.items()}


def _payload(group: Group, shipped: Registry) -> dict[str, Any]:
    """Return the records of a group, and for each defense and attack the command that computes all seeds again."""
    latest: dict[tuple[str, str], Record] = {}
    for (defense, attack, seed), record in group.records.items():
        if seed >= latest.get((defense, attack), record)["cell"]["seed"]:
            latest[defense, attack] = record
    again = [[*pair, reproduce(Cell.from_json(record["cell"]), shipped)] for pair, record in latest.items()]
    return {"records": list(group.records.values()), "again": again}


def _packed(payload: Mapping[str, Any]) -> str:
    """Compress records into the text of an element that holds them; letters and digits need no escape."""
    content = base64.b64encode(gzip.compress(_json(payload).encode(), 7, mtime=0)).decode()
    return f'<script type="text/plain" class="records">{content}</script>'


def _embedded(value: Any) -> str:
    """Write data as JSON that an element of a page may hold: no tag and no comment can begin or end in it."""
    return _json(value).replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _json(value: Any) -> str:
    """Write JSON in ASCII, with `null` for numbers that are not finite, which few values hold."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except ValueError:
        return json.dumps(plain(value), separators=(",", ":"), allow_nan=False)


def _asset(name: str) -> str:
    return files("agrbench.results.page").joinpath(name).read_text(encoding="utf-8")
