"""The engine `local`: processes of this machine, each of which computes many cells; one that dies costs one cell."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from types import TracebackType
from typing import Self

from agrbench.cells import Cell
from agrbench.errors import AgrbenchError
from agrbench.machine import cores
from agrbench.plugins.registry import Registry
from agrbench.simulation.computing import attempt
from agrbench.simulation.engines import Answer, Lost, Source, foreign
from agrbench.simulation.workers import MOMENT, Limits, Work, Worker, end_left_behind, ready

UNLIMITED = Limits()
STILLBORN = 3  # workers in a row that end before they finish a cell


def fitting(cells: Sequence[Cell], jobs: int | None) -> tuple[int, str]:
    """Return how many processes compute cells: as many as requested, as long as each thread has a core.

    The text says so if that is fewer than requested; it is empty otherwise.
    """
    each, here = max((cell.threads for cell in cells), default=1), cores()
    most = max(here // each, 1)
    if jobs is None or jobs <= most:
        return jobs or most, ""
    return most, f"--jobs {jobs} x {each} thread(s) would be more than the {here} core(s) here: {most} at once"


class Local:
    """Worker processes, by place; they are kept from one run to the next.

    A process that ends or exceeds a limit costs the cell that it computes. Cells that use foreign plugins (not shipped
    with agrbench) are computed in processes that compute nothing else, because a plugin may change what all plugins of
    its process share, such as functions of torch.

    Args:
        registry: the plugins that cells name.
        jobs: how many cells to compute at once; by default, as many as there are cores for.
        limits: what one cell may take.
        work: what to do with each cell.
        shared: whether other engines compute on this machine, which disturbs times.
    """

    def __init__(
        self, registry: Registry, jobs: int | None = None, limits: Limits = UNLIMITED, work: Work = attempt,
        shared: bool = False,
    ) -> None:  # fmt: skip
        end_left_behind()
        self.registry, self.limits, self.work = registry, limits, work
        self._wanted, self._shared, self._alone = jobs, shared, not shared
        self._places, _ = fitting([], jobs)
        self._workers: dict[int, Worker] = {}
        self._kinds: dict[int, tuple[str, ...] | None] = {}  # `None` until its first cell
        self._stillborn = 0

    def __enter__(self) -> Self:
        self._hire(0)  # which imports what it needs while this process finds out what there is to compute
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for place in list(self._workers):
            self._end(place)

    def prepare(self, cells: Sequence[Cell]) -> str:
        """Choose how many processes compute these cells."""
        each, here = max((cell.threads for cell in cells), default=1), cores()
        if each > here:
            raise AgrbenchError(f"threads is {each} and there are {here} cores here; write --threads {here} or less")
        self._places, remark = fitting(cells, self._wanted)
        self._alone = not self._shared and min(self._places, len(cells)) == 1
        return remark

    def run(self, source: Source) -> Generator[Answer | None, None, None]:
        """Compute what a source has, a cell at a time, so that places which run out take over from others."""
        try:
            while True:
                for place in range(self._places):
                    if place not in self._busy:
                        self._employ(place, source.next(place))
                if self._busy:
                    ready(list(self._busy.values()))
                else:
                    time.sleep(MOMENT)
                found = list(self._answers())
                yield from found or (None,)
        finally:
            for place in self._busy:
                self._end(place)

    @property
    def _busy(self) -> dict[int, Worker]:
        return {place: worker for place, worker in self._workers.items() if worker.cell is not None}

    def _hire(self, place: int) -> Worker:
        self._workers[place], self._kinds[place] = Worker(self.registry.files), None
        return self._workers[place]

    def _end(self, place: int) -> None:
        self._workers.pop(place).kill()

    def _employ(self, place: int, cell: Cell | None) -> None:
        """Let the worker at a place compute a cell, or a new one if the old one computed other foreign plugins."""
        if cell is None:
            return
        kind = foreign(cell, self.registry)
        if place in self._workers and self._kinds[place] not in (None, kind):
            self._end(place)
        worker = self._workers[place] if place in self._workers else self._hire(place)
        self._kinds[place] = kind
        worker.start(cell, self.work, self._alone)

    def _answers(self) -> Iterator[Answer]:
        """Yield the answers that there are now, and those of cells whose workers ended or exceeded a limit."""
        for place, worker in self._busy.items():
            cell = worker.cell
            assert cell is not None
            answer = worker.record()
            exceeded = worker.exceeded(self.limits) if answer is None else None
            why = exceeded or worker.ended() if answer is None else None
            if why is not None and (answer := worker.record()) is None:
                answer = self._lost(place, why, at_work=exceeded is not None)
            elif answer is not None:
                self._stillborn = 0
            if answer is not None:
                yield Answer(cell, answer)

    def _lost(self, place: int, why: str, at_work: bool) -> Lost:
        """Free the place of a worker that is gone or, `at_work`, over a limit, and say what that costs."""
        worker, whose = self._workers[place], self._kinds[place]
        self._end(place)
        self._stillborn = 0 if whose or worker.finished or at_work else self._stillborn + 1
        if self._stillborn == STILLBORN:
            raise AgrbenchError(
                f"{STILLBORN} processes in a row ended before they computed anything ({why}); "
                f"free some memory, or raise what limits processes here"
            )
        return Lost(f"{why} (it uses {', '.join(whose)})" if whose else why)
