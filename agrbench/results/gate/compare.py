"""Compare the records of BASE and HEAD: what is worse beyond seeds and tolerance, and what is lost (docs/ci.md)."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from agrbench.cells import UNATTACKED, UNDEFENDED, Cell
from agrbench.errors import AgrbenchError
from agrbench.results import metrics, statistics
from agrbench.results.metrics import Group
from agrbench.results.record import Record
from agrbench.results.statistics import LEAST, LEVEL, Contrast, Sample, contrast
from agrbench.settings import spelled

if TYPE_CHECKING:
    from agrbench.plugins.registry import Registry

TOLERANCE = 2.0  # points of accuracy, or of success in percent
WORST = "worst loss"  # the axis over all attacks
BETTER, WORSE, SAME = "better", "worse", "not distinguishable"
GREEN, RED, INCOMPARABLE = "green", "red", "not comparable"
CODES = {GREEN: 0, RED: 1, INCOMPARABLE: 2}


@dataclass(frozen=True)
class Row:
    """One quantity on both sides, where larger is worse; `change` is a difference in points, or a ratio.

    `verdict` says whether the change exceeds chance (with one seed, the tolerance); `red` means worse and beyond the
    tolerance. `repeats`: the same plugin code gave the same values on every paired seed, so p is not corrected.
    """

    dataset: str | None
    settings: Mapping[str, Any]
    defense: str
    axis: str
    attack: str | None
    base: float
    head: float
    change: float
    low: float | None
    high: float | None
    p: float | None
    how: str
    verdict: str
    red: bool
    repeats: bool = False


@dataclass(frozen=True)
class Notice:
    """Something that cannot be compared, or only with reservations, and why; `red` if HEAD is to blame."""

    kind: str
    place: str
    defense: str
    attack: str | None
    reason: str
    red: bool = False


@dataclass(frozen=True)
class Comparison:
    """All rows, everything else that was found, and the files that were refused.

    `tolerance` is in points of accuracy or success or, if rows are ratios, the factor that a change may reach.
    """

    rows: tuple[Row, ...]
    findings: tuple[Notice, ...]
    tolerance: float = TOLERANCE
    refused: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """Return red, else not comparable if part of BASE or HEAD could not be read or compared, else green."""
        if any(row.red for row in self.rows) or any(finding.red for finding in self.findings):
            return RED
        other = any(finding.kind == PROTOCOL for finding in self.findings)
        return INCOMPARABLE if self.refused or other or not self.rows else GREEN


class Pair(NamedTuple):
    """One quantity of a defense on both sides, and whether the same plugin code repeated it on every paired seed."""

    group: Group
    defense: str
    axis: str
    attack: str | None
    found: Contrast
    repeats: bool


def compare_records(base: Sequence[Record], head: Sequence[Record], tolerance: float = TOLERANCE) -> Comparison:
    """Compare every metric of every defense that both sides have, and find the cells that only one side has."""
    pairs: list[Pair] = []
    heads = {_name(group): group for group in metrics.groups(head)}
    for group in metrics.groups(base):
        other = heads.get(_name(group))
        if other is not None:
            pairs += _contrasts(group, other)
    asked = [pair.found.p for pair in pairs if pair.found.p is not None and not pair.repeats]
    adjusted = iter(statistics.holm(asked))
    rows = [
        _row(pair, pair.found.p if pair.found.p is None or pair.repeats else next(adjusted), tolerance)
        for pair in pairs
    ]
    return Comparison(tuple(rows), tuple(_findings(base, head, bool(rows))), tolerance)


def _name(group: Group) -> str:
    protocol = next(iter(group.records.values()))["protocol"]
    return json.dumps([group.dataset, dict(group.settings), protocol], sort_keys=True)


def _contrasts(base: Group, head: Group) -> Iterator[Pair]:
    """Contrast everything that both groups have."""
    for defense, axis, attack, ours, theirs in _samples(base, head):
        if ours.values and theirs.values:
            under = [attack] if attack else base.attacks if axis == WORST else [UNATTACKED]
            repeats = _repeats(ours, theirs) and _same_code(base, head, defense, under)
            yield Pair(base, defense, axis, attack, contrast(ours.points, theirs.points), repeats)


def _repeats(ours: Sample, theirs: Sample) -> bool:
    """Return whether two samples have the same values, bit for bit, on at least two seeds and all that they share."""
    shared = set(ours.seeds) & set(theirs.seeds)
    return len(shared) > 1 and ours.over(shared) == theirs.over(shared)


def _same_code(base: Group, head: Group, defense: str, attacks: Iterable[str]) -> bool:
    """Return whether the runs that losses under these attacks come from were made by the same plugin code."""
    runs = {(UNDEFENDED, UNATTACKED), *((defense, attack) for attack in attacks)}
    shared = [key for key in base.records if key[:2] in runs and key in head.records]
    return all(base.records[key]["source"] == head.records[key]["source"] for key in shared)


def _samples(base: Group, head: Group) -> Iterator[tuple[str, str, str | None, Sample, Sample]]:
    yield UNDEFENDED, "error", None, metrics.error(base), metrics.error(head)
    for defense in (each for each in base.defenses if each in head.defenses):
        losses = {
            attack: (metrics.loss(base, defense, attack), metrics.loss(head, defense, attack))
            for attack in base.attacks
        }
        both = {attack: pair for attack, pair in losses.items() if all(sample.values for sample in pair)}
        if both:
            yield (
                defense,
                WORST,
                None,
                _worst(pair[0] for pair in both.values()),
                _worst(pair[1] for pair in both.values()),
            )
        for attack, pair in both.items():
            yield defense, "loss", attack, *pair
            hits = metrics.success(base, defense, attack), metrics.success(head, defense, attack)
            yield defense, "success", attack, *hits
        if defense != UNDEFENDED:
            yield defense, "fidelity loss", None, metrics.fidelity(base, defense), metrics.fidelity(head, defense)


def _worst(samples: Iterable[Sample]) -> Sample:
    """Return the sample of the attack with the largest mean, over the seeds that all attacks have."""
    each = list(samples)
    shared = set.intersection(*(set(sample.seeds) for sample in each))
    return max((sample.over(shared) for sample in each), key=lambda sample: sample.mean)


def _row(pair: Pair, p: float | None, tolerance: float) -> Row:
    group, found = pair.group, pair.found
    beyond = abs(found.difference) > tolerance + LEAST
    apart = beyond if p is None else p < 1 - LEVEL
    verdict = SAME if not apart else WORSE if found.difference > 0 else BETTER
    return Row(
        group.dataset, dict(group.settings), pair.defense, pair.axis, pair.attack, found.base, found.head,
        found.difference, found.low, found.high, p, found.how, verdict, verdict == WORSE and beyond, pair.repeats,
    )  # fmt: skip


LOST, FAILED, NEW, PROTOCOL, CODE, STALE, UNKNOWN = "lost", "failed", "new", "protocol", "code", "stale", "unknown"
CELL = ("dataset", "settings", "defense", "attack")


@dataclass
class _Cell:
    """What one side knows of a cell over all seeds: its place, its finished records, and why others are unfinished."""

    place: str
    defense: str
    attack: str
    done: dict[int, list[Record]] = dataclasses.field(default_factory=dict)
    undone: dict[str, str] = dataclasses.field(default_factory=dict)


def place(dataset: str, settings: Mapping[str, Any]) -> str:
    """Name what is compared: a dataset and the settings that differ from their defaults, with all hyperparameters."""
    return ", ".join([dataset, *(f"{name} {spelled(name, value)}" for name, value in sorted(settings.items()))])


def _cells(records: Iterable[Record]) -> dict[str, _Cell]:
    found: dict[str, _Cell] = {}
    for record in records:
        cell = {name: value for name, value in record["cell"].items() if name in CELL}
        where = place(cell["dataset"], cell["settings"])
        known = found.setdefault(json.dumps(cell, sort_keys=True), _Cell(where, cell["defense"], cell["attack"]))
        if record["status"] == "done":
            known.done.setdefault(record["protocol"], []).append(record)
        else:
            known.undone[record["status"]] = " ".join(str(record["reason"]).split())
    return found


def _findings(base: Iterable[Record], head: Iterable[Record], compared: bool) -> Iterator[Notice]:
    """Report the cells that only one side has finished, and those that compare only with reservations."""
    ours, theirs = _cells(base), _cells(head)
    for key in dict.fromkeys(itertools.chain(ours, theirs)):
        cell = ours.get(key) or theirs[key]
        before, now = ours.get(key) or _Cell("", "", ""), theirs.get(key) or _Cell("", "", "")
        yield from _judge(cell, before, now, compared)


def _judge(cell: _Cell, before: _Cell, now: _Cell, compared: bool) -> Iterator[Notice]:
    def finding(kind: str, reason: str, red: bool = False) -> Notice:
        return Notice(kind, cell.place, cell.defense, cell.attack, reason, red)

    why = "; ".join(f"{status}: {reason}" for status, reason in now.undone.items())
    if before.done and (not now.done or (why and not before.undone)):
        # If HEAD has no record of anything in BASE, it ran another grid, which is not a regression.
        yield finding(LOST, why or "no record in HEAD", bool(why) or compared)
    elif why and not before.done:
        yield finding(FAILED, why)
    elif now.done and not before.done:
        yield finding(NEW, "; ".join(before.undone) or "no record in BASE")
    elif before.done and not before.done.keys() & now.done.keys():
        sides = [", ".join(map(str, side.done)) for side in (before, now)]
        yield finding(PROTOCOL, f"protocol {sides[0]} in BASE, {sides[1]} in HEAD")
    for kind in ("defense", "attack", "dataset"):
        digests = [{r["source"].get(kind) for rs in side.done.values() for r in rs} for side in (before, now)]
        if all(digests) and digests[0] != digests[1]:
            yield finding(CODE, kind)


def stale(records: Iterable[Record], registry: Registry) -> list[Notice]:
    """Report the finished cells whose plugin files have changed, and those with plugins that are not loaded."""
    found: dict[Notice, None] = {}
    for cell in _cells(records).values():
        for record in itertools.chain(*cell.done.values()):
            try:
                fresh = record["source"] == registry.sources(Cell.from_json(record["cell"]))
            except AgrbenchError as error:
                found[Notice(UNKNOWN, cell.place, cell.defense, cell.attack, str(error))] = None
                continue
            if not fresh:
                found[Notice(STALE, cell.place, cell.defense, cell.attack, "other plugin files")] = None
    return list(found)
