"""What cells cost: seconds of the parts of a run, measured on some cells, and the time of a grid that follows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, NamedTuple

from agrbench.cells import EVERY, UNATTACKED, Cell
from agrbench.simulation.grid import SETTINGS

PARTS = ("start", "begin", "train", "test", "server", "forge", "rehearsals")
"""Seconds to start a process; to load and deal out the data; of a round of training; of an evaluation; of the server's
round; of forging the rows of a round, without rehearsals; and the number of rehearsals of a round."""

Setup = tuple[Any, ...]
"""A dataset with all settings: cells that agree in it train and test alike."""


class Measured(NamedTuple):
    """One part of what a cell costs; all cells with the same `kind(part, cell)` have the same."""

    part: str
    cell: Cell
    value: float


class Fault(NamedTuple):
    """Why a part cannot be measured: cells that have it will fail."""

    part: str
    cell: Cell
    reason: str


class Absent(NamedTuple):
    """A dataset whose files are not here, and what to do."""

    dataset: str
    advice: str


def setup(cell: Cell) -> Setup:
    """Return what decides how a cell trains and tests."""
    return cell.dataset, *(getattr(cell, name) for name in SETTINGS)


def kind(part: str, cell: Cell) -> tuple[Setup, str]:
    """Return what decides a part of a cell: its setup and, for the server and for forging, the stack or the attack."""
    return setup(cell), {"server": cell.defense, "forge": cell.attack, "rehearsals": cell.attack}.get(part, "")


@dataclass
class Costs:
    """The parts that were measured, those that fail, and the datasets that are absent.

    A part that was not measured is taken as the mean of those like it.
    """

    known: dict[str, dict[tuple[Setup, str], float]] = field(default_factory=lambda: {part: {} for part in PARTS})
    faults: set[tuple[str, tuple[Setup, str]]] = field(default_factory=set)
    absent: dict[str, str] = field(default_factory=dict)

    def add(self, found: Measured | Fault | Absent) -> None:
        """Keep what was found."""
        if isinstance(found, Measured):
            self.known[found.part][kind(found.part, found.cell)] = found.value
        elif isinstance(found, Fault):
            self.faults.add((found.part, kind(found.part, found.cell)))
        else:
            self.absent[found.dataset] = found.advice

    def fails(self, cell: Cell) -> bool:
        """Return whether a part of this cell fails, or its data is absent."""
        return cell.dataset in self.absent or any((part, kind(part, cell)) in self.faults for part in PARTS)

    def value(self, part: str, cell: Cell) -> float:
        """Return a part: of this cell, or the mean over the same setup, or over all that was measured."""
        known, asked = self.known[part], kind(part, cell)
        if asked not in known:
            alike = [value for other, value in known.items() if other[0] == asked[0]]
            return fmean(alike or known.values() or [0.0])
        return known[asked]

    def sort(self, part: str, cells: Iterable[Cell]) -> tuple[list[Cell], list[Cell]]:
        """List the values that a part has in some cells, each by its first cell: those measured, and those missing."""
        firsts: dict[tuple[Setup, str], Cell] = {}
        for cell in cells:
            if part != "forge" or cell.attack != UNATTACKED:
                firsts.setdefault(kind(part, cell), cell)
        known = self.known[part]
        return [firsts[each] for each in firsts if each in known], [
            firsts[each] for each in firsts if each not in known
        ]

    def seconds(self, cells: Sequence[Cell], jobs: int) -> float:
        """Estimate how long `jobs` processes compute these cells, each process loading all of their data."""
        trunks, loads, work = set[Any](), dict[Any, float](), 0.0
        for cell in cells:
            load = setup(cell), cell.seed
            trunk = load, cell.defense
            work += self._run(cell, min(cell.first - 1, cell.rounds) if trunk in trunks else 0)
            trunks.add(trunk)
            loads[load] = self.value("begin", cell)
        processes = max(min(jobs, len(cells)), 1)
        return sum(self.known["start"].values()) + sum(loads.values()) + work / processes

    def _run(self, cell: Cell, shared: int) -> float:
        """Return the seconds of a cell whose first `shared` rounds another cell of its trunk has played."""
        rounds, attacked = cell.rounds - shared, 0
        if cell.attack != UNATTACKED and cell.attackers:
            attacked = len(range(cell.first, min(cell.stop or cell.rounds, cell.rounds) + 1, cell.every))
        train, test, server = (self.value(part, cell) for part in ("train", "test", "server"))
        forge = self.value("forge", cell) + self.value("rehearsals", cell) * server if attacked else 0.0
        return rounds * (train + server) + attacked * forge + (rounds // EVERY + 1) * test
