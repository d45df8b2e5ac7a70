"""Replays of a real grid: which cells, and their traces, played by a worker that no test has touched, and here.

The worker plays the cells forwards and backwards, the second time beside judges that see the rounds mirrored
(`agrbench.simulation.traces`); this process plays them once, where the plugin is watched.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from multiprocessing.util import Finalize

from hypothesis import strategies as st

from agrbench.cells import AMPLIFIER, UNATTACKED, UNDEFENDED, Cell
from agrbench.conformance.search import search
from agrbench.plugins import registry
from agrbench.plugins.registry import Registry
from agrbench.simulation.prefixes import Tree
from agrbench.simulation.traces import Trace, trace, traced
from agrbench.simulation.workers import Worker, as_program, ready

ROUNDS, FEWEST = 60, 20  # of the longest cell: more than fifty of them attacked; and for a quick look
START = 10
REHEARSED = START + 2  # rounds of an attack that rehearses, which asks the stack 80 times a round
DATASET, MODEL = "digits", "mlp(16)"
BLATANT = "ipm(epsilon=100.0)"  # its paper's larger value: malicious rows far beyond all honest ones
SUBTLE = "lie"
BEFORE = "krum"  # the rule that judges what a column stage shows
SEEN = f"{AMPLIFIER}+{BEFORE}"  # a stack with a view, against which attacks are replayed
MORE = 4  # clients who pause in each round of a sampled cell
STANDING = (11, 2)
SPARSE = 4  # a rule that remembers nothing is mirrored in each fourth round only
MIRRORS = {"renumbered": "", "reordered": "permutation", "scaled": "scaling", "moved": "translation"}
"""The mirrors of `agrbench.simulation.traces`, and the property by whose waiver each is left out."""


@dataclass(frozen=True)
class Replay:
    """A small grid of real rounds with one plugin: a stack under several attacks, or an attack against several stacks.

    `clients` take part in each round, of whom `byzantine` are malicious. The longest cell has `rounds` rounds.
    """

    stack: str = ""
    attack: str = ""
    plugins: tuple[str, ...] = ()
    clients: int = STANDING[0]
    byzantine: int = STANDING[1]
    rounds: int = ROUNDS

    def lasting(self, examples: int) -> Replay:
        """Return a replay as long as so many examples deserve."""
        return replace(self, rounds=min(max(examples, FEWEST), self.rounds))

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Return the cells, of which one draws its clients anew in each round, so that they come and go."""
        known = registry.of(self.plugins)
        if self.attack:
            rounds = REHEARSED if known.attack(self.attack).record.queries else self.rounds
            everyone, some = (UNDEFENDED, self.attack, rounds), (SEEN, self.attack, rounds)
            return self._cell(*everyone), self._cell(*some, paused=MORE)
        third = self.rounds // 3
        return (
            self._cell(self.stack, UNATTACKED, third),
            self._cell(self.stack, BLATANT, self.rounds),
            self._cell(self.stack, SUBTLE, 2 * third, paused=MORE),
        )

    def _cell(self, stack: str, attack: str, rounds: int, paused: int = 0) -> Cell:
        f = self.byzantine
        return Cell(
            DATASET, stack, attack, clients=self.clients + paused, malicious=f, byzantine=f, rounds=rounds,
            start=START, model=MODEL, sample=self.clients if paused else None,
        )  # fmt: skip

    @property
    def sentence(self) -> str:
        """Say what is replayed."""
        cells = ", ".join(f"{cell.defense} {cell.attack} {cell.rounds}" for cell in self.cells)
        sampled = self.cells[-1]
        return (
            f"replayed {sum(cell.rounds for cell in self.cells)} rounds of {DATASET} ({cells}) with {self.clients} "
            f"clients, {self.byzantine} malicious; in the last cell they are drawn from {sampled.clients}"
        )

    @property
    def waived(self) -> frozenset[str]:
        """Return the properties that the stack's parts waive."""
        stack = registry.of(self.plugins).stack(self.stack)
        return frozenset().union(stack.defense.record.waives, *(stage.record.waives for stage in stack.stages))

    def mirrors(self, remembers: bool) -> tuple[str, ...]:
        """List the mirrors in which the stack must decide alike; an attack has none.

        That a step moves with the updates is said of rounds without a past only.
        """
        if self.attack:
            return ()
        return tuple(
            name
            for name, waiver in MIRRORS.items()
            if waiver not in self.waived and not (name == "moved" and remembers)
        )

    def begin(self) -> Recording:
        """Return the recording of this replay, which begins with the first call."""
        return _recording(self, registry.of(self.plugins))


class Recording:
    """The traces of a replay's cells; a worker begins to compute them when this is made."""

    def __init__(self, replay: Replay, known: Registry) -> None:
        self._replay, self._known, self._cells = replay, known, replay.cells
        self._worker = _worker(known, replay)
        self._worker.start(self._cells[0], traced)

    @cached_property
    def _told(self) -> tuple[list[Trace], list[Trace]]:
        there = [self._result(), *(self._played(cell) for cell in self._cells[1:])]
        remembers = any(each.remembers for each in there)
        names = self._replay.mirrors(remembers)
        again = [self._played(cell, names, 1 if remembers else SPARSE) for cell in self._cells[::-1]]
        _keep(self._known, self._worker)
        return there, again[::-1]

    @property
    def there(self) -> list[Trace]:
        """Return the cells as the worker plays them first."""
        return self._told[0]

    @property
    def again(self) -> list[Trace]:
        """Return the cells as the worker plays them again, backwards, while mirrors look on."""
        return self._told[1]

    @cached_property
    def here(self) -> list[Trace]:
        """Return the cells as they are played in this process, backwards, in a test as clear as can be."""
        tree, found = Tree(self._known), list[Trace]()
        with _variable("PYTEST_CURRENT_TEST", "replays"):
            search(lambda: found.extend(trace(cell, tree) for cell in self._cells[::-1]), st.just({}), 1)
        return found[::-1]

    def _played(self, cell: Cell, names: Sequence[str] = (), every: int = 1) -> Trace:
        self._worker.start(cell, partial(traced, names=names, every=every))
        return self._result()

    def _result(self) -> Trace:
        """Wait for the trace of the cell that the worker computes."""
        cell, worker = self._worker.cell, self._worker
        assert cell is not None
        while (answer := worker.record()) is None:
            ready([worker])
            if (why := worker.ended()) is not None and (answer := worker.record()) is None:
                return Trace(cell, False, (), {}, why)
        found: Trace = pickle.loads(answer)
        return found


@lru_cache(maxsize=2)
def _recording(replay: Replay, known: Registry) -> Recording:
    return Recording(replay, known)


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
        os.environ.update({} if before is None else {name: before})


_idle: dict[Registry, Worker] = {}


def _worker(known: Registry, replay: Replay) -> Worker:
    """Return a worker that looks like one of `agrbench grid`; as there, foreign plugins share one with no others."""
    worker = _idle.pop(known, None)
    if worker is not None and worker.ended() is None:
        return worker
    words = [f"--plugin={file}" for file in known.files]
    words += ["-D", DATASET, "-d", replay.stack or UNDEFENDED, "-a", replay.attack or BLATANT]
    with as_program(["grid", *words, "--clients", str(replay.clients), "--rounds", str(replay.rounds)]):
        worker = Worker(known.files)
    Finalize(None, worker.kill, exitpriority=1)  # before this process waits for it at its end
    return worker


def _keep(known: Registry, worker: Worker) -> None:
    """Keep a worker for the next replay of the same plugin files, and end that of other files."""
    for other in [each for each in _idle if each.files]:
        _idle.pop(other).kill()
    if known in _idle:
        worker.kill()
    else:
        _idle[known] = worker
