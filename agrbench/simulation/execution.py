"""Run many cells in worker processes and write one record each; a process that dies costs only its own cell."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from agrbench.cells import Cell
from agrbench.errors import AgrbenchError
from agrbench.plugins.registry import Registry
from agrbench.results.claims import Claims
from agrbench.results.record import Record, failed
from agrbench.results.store import Store
from agrbench.results.writing import Unwritable
from agrbench.simulation.workers import MOMENT, Limits, Worker, end_left_behind, ready

UNLIMITED = Limits()
LOOK = 2.0  # seconds between looks at what other grids have written
STILLBORN = 3  # workers in a row that end before they finish a cell


class Turns:
    """The order of work: cells of one trunk run one after another in one process, which lets them share rounds.

    A process that finds no unstarted trunk takes half of the cells that wait for the busiest process.
    """

    def __init__(self, cells: Iterable[Cell]) -> None:
        trunks: dict[Cell, deque[Cell]] = {}
        for cell in cells:
            trunks.setdefault(cell.trunk, deque()).append(cell)
        self._untouched = deque(trunks.values())
        self._waiting: dict[int, deque[Cell]] = {}

    def next(self, place: int) -> Cell | None:
        """Return the next cell for the process at `place`, or `None` if none is left."""
        if not self._waiting.get(place):
            self._waiting[place] = self._untouched.popleft() if self._untouched else self._half()
        mine = self._waiting[place]
        return mine.popleft() if mine else None

    def _half(self) -> deque[Cell]:
        busiest = max(self._waiting.values(), key=len, default=deque[Cell]())
        return deque(reversed([busiest.pop() for _ in range((len(busiest) + 1) // 2)]))


def execute(
    cells: Sequence[Cell], registry: Registry, store: Store, jobs: int, limits: Limits = UNLIMITED
) -> Iterator[Record]:
    """Compute cells in `jobs` processes, yielding each record once it is on disk; the store has been prepared.

    A process that ends or exceeds a limit costs the cell that it computes. Cells that use foreign plugins (not shipped
    with agrbench) are computed in processes that compute nothing else, because a plugin may change what all plugins of
    its process share, such as functions of torch.

    Raises:
        AgrbenchError: processes end as soon as they begin, so nothing can be computed.
    """
    end_left_behind()
    crew = _Crew(registry, store, min(jobs, len(cells)), limits)
    with Claims(store, cells) as claims:
        queue = _Queue(Turns(sorted(cells, key=crew.foreign)), claims)
        try:
            for place in range(crew.jobs):
                crew.employ(place, queue.next(place))
            while crew.busy or queue.elsewhere:
                ready(list(crew.busy.values()))
                if not crew.busy:
                    time.sleep(MOMENT)
                for place, record in crew.results():
                    claims.release(Cell.from_json(record["cell"]))
                    crew.employ(place, queue.next(place))
                    yield record
                yield from queue.written()
                for place in set(range(crew.jobs)) - set(crew.busy):
                    crew.employ(place, queue.next(place))
                queue.looked()
        finally:
            crew.dismiss()


class _Queue:
    """The cells that wait: those of this process by turns, then those that other processes in the folder compute."""

    def __init__(self, turns: Turns, claims: Claims) -> None:
        self.turns, self.claims = turns, claims
        self.elsewhere: list[Cell] = []
        self._looked = time.monotonic()

    def next(self, place: int) -> Cell | None:
        """Return a cell that this process has claimed for the worker at a place, or `None` if there is none now."""
        while (cell := self.turns.next(place)) is not None:
            if self.claims.take(cell):
                return cell
            self.elsewhere.append(cell)
        for cell in self.elsewhere if self._due() else ():
            if self.claims.take(cell):
                self.elsewhere.remove(cell)
                return cell
        return None

    def written(self) -> Iterator[Record]:
        """Yield the records that other processes have written."""
        for cell in self.elsewhere.copy() if self._due() else ():
            record = self.claims.theirs(cell)
            if record is not None:
                self.elsewhere.remove(cell)
                yield record

    def looked(self) -> None:
        """Wait a while before the next look at what others do."""
        if self._due():
            self._looked = time.monotonic()

    def _due(self) -> bool:
        return time.monotonic() - self._looked > LOOK


class _Crew:
    """The workers of one execution, by place."""

    def __init__(self, registry: Registry, store: Store, jobs: int, limits: Limits) -> None:
        self.registry, self.store, self.jobs, self.limits = registry, store, jobs, limits
        self.workers: dict[int, Worker] = {}
        self._kinds: dict[int, tuple[str, ...]] = {}
        self._stillborn = 0

    @property
    def busy(self) -> dict[int, Worker]:
        """Return the workers that compute a cell."""
        return {place: worker for place, worker in self.workers.items() if worker.cell is not None}

    def foreign(self, cell: Cell) -> tuple[str, ...]:
        """List the files of the foreign plugins that a cell uses, sorted."""
        return tuple(sorted({str(each.path) for each in self.registry.plugins_of(cell) if not each.shipped}))

    def employ(self, place: int, cell: Cell | None) -> None:
        """Let the worker at a place compute a cell, or a new one if the old one computed other foreign plugins."""
        if cell is None:
            return
        kind = self.foreign(cell)
        if place in self.workers and self._kinds[place] != kind:
            self.workers.pop(place).kill()
        if place not in self.workers:
            self.workers[place] = Worker(self.registry.files, self.store.folder, self.jobs == 1)
            self._kinds[place] = kind
        self.workers[place].start(cell)

    def results(self) -> Iterator[tuple[int, Record]]:
        """Yield the records that there are now, and those of cells whose workers ended or exceeded a limit."""
        for place, worker in self.busy.items():
            cell = worker.cell
            try:
                record = worker.record()
                exceeded = worker.exceeded(self.limits) if record is None else None
                why = exceeded or worker.ended() if record is None else None
            except Unwritable as error:
                if not self._kinds[place]:
                    raise
                record, exceeded, why = None, None, str(error)  # a foreign plugin may have limited its own process
            if record is not None:
                self._stillborn = 0
                yield place, record
            elif why is not None and cell is not None:
                yield place, worker.record() or self._lost(place, cell, why, at_work=exceeded is not None)

    def _lost(self, place: int, cell: Cell, why: str, at_work: bool) -> Record:
        """Record that a cell failed because its worker is gone or, `at_work`, over a limit; free its place."""
        worker = self.workers.pop(place)
        worker.kill()
        whose = self._kinds[place]
        self._stillborn = 0 if whose or worker.finished or at_work else self._stillborn + 1
        record = failed(cell, self.registry, f"{why} (it uses {', '.join(whose)})" if whose else why)
        self.store.write(record)
        if self._stillborn == STILLBORN:
            raise AgrbenchError(
                f"{STILLBORN} processes in a row ended before they computed anything ({why}); "
                f"free some memory, or raise what limits processes here"
            )
        return record

    def dismiss(self) -> None:
        """End all workers at once; records are written whole or not at all."""
        for worker in self.workers.values():
            worker.kill()
