"""Run many cells in spawned processes and write one record each; a process that dies costs only its own cell."""

from __future__ import annotations

import signal
import traceback
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agrbench import machine
from agrbench.cells import Cell
from agrbench.errors import AgrbenchError, Inapplicable
from agrbench.plugins.registry import Registry
from agrbench.results.record import Record, blank, failed, skipped
from agrbench.results.store import Store

if TYPE_CHECKING:
    from agrbench.simulation.prefixes import Tree


def compute(cell: Cell, registry: Registry, alone: bool, tree: Tree | None = None) -> Record:
    """Simulate a cell, reusing what `tree` keeps from earlier cells, and return its complete record.

    Raises:
        AgrbenchError: see `run.simulate`.
    """
    from agrbench import threads
    from agrbench.simulation.prefixes import Tree

    with threads.using(cell.threads):
        measured = (tree or Tree(registry)).simulate(cell)
    record = blank(cell, registry) | measured
    record["time"]["alone"] = alone
    record["environment"] = machine.environment(cell.device, cell.threads)
    return record


def attempt(cell: Cell, files: Sequence[Path], folder: Path, alone: bool) -> Record:
    """Compute a cell in a worker, then write and return its record, even if the cell is skipped or fails."""
    tree = _tree(tuple(files))
    registry = tree.registry
    try:
        record = compute(cell, registry, alone, tree)
    except Inapplicable as error:
        record = skipped(cell, registry, str(error))
    except AgrbenchError as error:
        record = failed(cell, registry, str(error), traceback.format_exc())
    except Exception as error:
        reason = f"{type(error).__name__}: {error}; this is a fault of agrbench: please report it with the traceback"
        record = failed(cell, registry, reason, traceback.format_exc())
    Store(folder).write(record)
    return record


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


def execute(cells: Sequence[Cell], registry: Registry, store: Store, jobs: int) -> Iterator[Record]:
    """Compute cells in `jobs` processes, yielding each record once it is on disk.

    Each process has a pool to itself. If it dies (out of memory, for example), its cell is known.
    """
    turns, jobs = Turns(cells), min(jobs, len(cells))
    pools = {place: _pool() for place in range(jobs)}
    running: dict[Future[Record], tuple[int, Cell]] = {}

    def start(place: int) -> None:
        if cell := turns.next(place):
            future = pools[place].submit(attempt, cell, registry.files, store.folder, jobs == 1)
            running[future] = place, cell

    try:
        for place in pools:
            start(place)
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                place, cell = running.pop(future)
                try:
                    record = future.result()
                except BrokenProcessPool:
                    record = failed(cell, registry, "its process was killed, perhaps for want of memory; try --jobs 1")
                    store.write(record)
                    pools[place] = _pool()
                start(place)
                yield record
    finally:
        busy = {place for place, _ in running.values()}
        for place, pool in pools.items():
            _stop(pool, place in busy)


def _pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_begin)


def _stop(pool: ProcessPoolExecutor, busy: bool) -> None:
    """Shut a pool down, killing it if it is busy: records are written whole or not at all."""
    processes: list[Any] = list((pool._processes or {}).values()) if busy else []
    for process in processes:
        process.terminate()
    pool.shutdown(wait=True, cancel_futures=True)


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    machine.use_large_pages()  # keeping large blocks in malloc instead fragments its heap: 860 MB to hold 100


@cache
def _tree(files: tuple[Path, ...]) -> Tree:
    """Read plugin files once per worker, and keep what the worker's cells share."""
    from agrbench.simulation.prefixes import Tree

    return Tree(Registry(files, forgiving=True))
