"""Have cells computed by an engine, and write one record each as it comes; what is lost costs only its own cells."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import cast

from agrbench.cells import Cell
from agrbench.errors import AgrbenchError
from agrbench.plugins.registry import Registry
from agrbench.processes import TimeIsUp
from agrbench.results.claims import Claims, Stamps
from agrbench.results.record import Record, check, failed, plain
from agrbench.results.store import Store
from agrbench.simulation.engines import Answer, Branch, Engine, Lost, foreign
from agrbench.simulation.engines.turns import Turns

LOOK = 2.0  # seconds between looks at what other grids have written


def execute(
    cells: Sequence[Cell],
    registry: Registry,
    store: Store,
    engine: Engine,
    until: float | None = None,
    before: Stamps | None = None,
) -> Iterator[Record]:
    """Let an engine compute cells, yielding each record once it is on disk; the store has been prepared.

    `before` holds the stamps that the cells' files had when they were found to wait (default: those of now): what
    another grid has written since is yielded and not computed again.

    Raises:
        AgrbenchError: nothing can be computed, or a record cannot be written.
        TimeIsUp: the monotonic clock shows `until`.
    """
    if not cells:
        return
    engine.prepare(cells)
    turns = Turns(sorted(cells, key=lambda cell: foreign(cell, registry)))
    with Claims(store, cells, before=before) as claims, closing(engine.run(queue := _Queue(turns, claims))) as answers:
        for answer in answers:
            if answer is not None:
                record = _record(answer, registry)
                store.write(record, create=False)
                queue.done(answer.cell)
                yield record
            yield from queue.written()
            if queue.over:
                return
            if until is not None and time.monotonic() > until:
                raise TimeIsUp


def _record(answer: Answer, registry: Registry) -> Record:
    """Return the record of a cell: the one that was computed, if it is whole, or else one that says why there is none.

    A plugin may have changed what its process computes records with.
    """
    cell, value = answer
    if isinstance(value, Lost):
        return failed(cell, registry, value.why)
    try:
        check(plain(value))
        if Cell.from_json(value["cell"]).key == cell.key:
            return cast(Record, value)
        why = "it is of another cell"
    except (AgrbenchError, AttributeError, KeyError, TypeError, ValueError) as error:
        why = str(error)
    whose = ", ".join(foreign(cell, registry))
    return failed(cell, registry, f"what its process returned is no record ({why}){f'; it uses {whose}' * bool(whose)}")


class _Queue:
    """The cells that wait: those of this process by turns, then those that other processes in the folder compute."""

    def __init__(self, turns: Turns, claims: Claims) -> None:
        self.turns, self.claims = turns, claims
        self.here: set[Cell] = set()
        self.elsewhere: list[Cell] = []
        self._tried = time.monotonic()
        self._looked = time.monotonic()

    def next(self, place: int) -> Cell | None:
        """Return a cell that this process has claimed for the worker at a place, or `None` if there is none now."""
        while (cell := self.turns.next(place)) is not None:
            if self._take(cell):
                return cell
            self.elsewhere.append(cell)
        if time.monotonic() - self._tried > LOOK:
            for cell in self.elsewhere:
                if self._take(cell):
                    self.elsewhere.remove(cell)
                    return cell
            self._tried = time.monotonic()
        return None

    def branch(self) -> Branch:
        """Return the cells of the next trunk that this process has claimed, or else one that others have left."""
        while cells := self.turns.branch():
            mine = tuple(cell for cell in cells if self._take(cell))
            self.elsewhere += [cell for cell in cells if cell not in mine]
            if mine:
                return mine
        left = self.next(0)
        return () if left is None else (left,)

    def done(self, cell: Cell) -> None:
        """Note that the record of a cell is written."""
        self.here.discard(cell)
        self.claims.release(cell)

    @property
    def over(self) -> bool:
        """Return whether every cell has its record."""
        return not (self.turns.left or self.here or self.elsewhere)

    def _take(self, cell: Cell) -> bool:
        taken = self.claims.take(cell)
        if taken:
            self.here.add(cell)
        return taken

    def written(self) -> Iterator[Record]:
        """Yield the records that other processes have written."""
        if time.monotonic() - self._looked > LOOK:
            self._looked = time.monotonic()
            for cell in self.elsewhere.copy():
                record = self.claims.theirs(cell)
                if record is not None:
                    self.elsewhere.remove(cell)
                    yield record
