"""Searches for breaking points, followed through the records that `agrbench breaking-point` left."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from agrbench import specs
from agrbench.cells import UNATTACKED, UNDEFENDED, Cell
from agrbench.errors import AgrbenchError
from agrbench.plugins.registry import Registry
from agrbench.results.breaking import Search
from agrbench.results.record import Record


def setting(cell: Cell) -> str:
    """Name what a breaking point is measured under: everything but the malicious clients' number."""
    free = replace(cell, defense=UNDEFENDED, attack=UNATTACKED, seed=0, malicious=0, byzantine=None)
    return json.dumps(free.as_json(), sort_keys=True)


def recorded(records: Iterable[Record], registry: Registry) -> dict[str, list[Search]]:
    """Return by setting the searches that records tell of, one for each defense.

    Records are left out where the server assumes another number than the true one, and settings that were run with one
    number of malicious clients only, which no search does. A search whose records end early still has a number to
    measure next.
    """
    known = {Cell.from_json(record["cell"]).key: record for record in _searched(records)}
    by_setting: dict[str, list[Cell]] = {}
    for cell in (Cell.from_json(record["cell"]) for record in known.values() if record["status"] == "done"):
        if cell.bound == cell.assumed:
            by_setting.setdefault(setting(cell), []).append(cell)
    return {name: _searches(cells, known, registry) for name, cells in by_setting.items()}


def _searched(records: Iterable[Record]) -> Iterator[Record]:
    """Yield the records of settings that were run with several numbers of malicious clients."""
    found: dict[str, dict[object, list[Record]]] = {}
    for record in records:
        settings = dict(record["cell"]["settings"])
        number, _ = settings.pop("malicious", None), settings.pop("byzantine", None)
        name = json.dumps([record["cell"]["dataset"], settings], sort_keys=True)
        found.setdefault(name, {}).setdefault(number, []).append(record)
    for each in found.values():
        yield from (record for mine in each.values() if len(each) > 1 for record in mine)


def _searches(cells: Sequence[Cell], known: Mapping[str, Record], registry: Registry) -> list[Search]:
    """Follow a search for each defense of one setting, over the attacks and seeds that most defenses have."""
    attacks, seeds = _usual(cells)
    found = []
    for defense in dict.fromkeys(cell.defense for cell in cells):
        start = replace(cells[0], defense=defense, attack=UNATTACKED, seed=0, malicious=0, byzantine=None)
        with contextlib.suppress(AgrbenchError):  # a defense that is not defined with nobody malicious
            search = Search.of(start, attacks, seeds, registry)
            _follow(search, known)
            found.append(search)
    return found


def _usual(cells: Sequence[Cell]) -> tuple[list[str], int]:
    """Return the attacks, and the number of seeds from 0 on, that most defenses have."""
    attacks: dict[object, set[str]] = {}
    seeds: dict[object, set[str]] = {}
    for cell in cells:
        if cell.attack != UNATTACKED:
            attacks.setdefault(cell.attack, set()).add(cell.defense)
        seeds.setdefault(cell.seed, set()).add(cell.defense)
    known = usual(seeds)
    return sorted(map(str, usual(attacks)), key=specs.natural), next(
        seed for seed in itertools.count() if seed not in known
    )


def _follow(search: Search, known: Mapping[str, Record]) -> None:
    """Bisect as long as there are records."""
    while (count := search.next) is not None and search.measure(count, lambda cell: known.get(cell.key)):
        pass


def usual(holders: Mapping[object, set[str]]) -> set[object]:
    """Return the keys that more than half as many defenses have as the one that most have."""
    most = max(map(len, holders.values()), default=0)
    return {key for key, names in holders.items() if 2 * len(names) > most}
