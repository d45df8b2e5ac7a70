"""The order of work: which cells an engine computes next, and where."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from agrbench.cells import Cell
from agrbench.simulation.engines import Branch


class Turns:
    """Cells of one trunk run one after another in one process, which lets them share rounds.

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

    def branch(self) -> Branch:
        """Return all cells of the next trunk that no process has begun."""
        return tuple(self._untouched.popleft()) if self._untouched else ()

    @property
    def left(self) -> bool:
        """Return whether cells have not had their turn."""
        return bool(self._untouched) or any(self._waiting.values())

    def _half(self) -> deque[Cell]:
        busiest = max(self._waiting.values(), key=len, default=deque[Cell]())
        return deque(reversed([busiest.pop() for _ in range((len(busiest) + 1) // 2)]))
