"""The laws of a plugin in a real grid: a replay plays one in a process that no test has touched, and compares.

The grid plays twice in that process, forwards and backwards, the second time beside judges that see its rounds mirrored
(`agrbench.simulation.traces`), and once here, where it is watched.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from multiprocessing.util import Finalize
from pathlib import Path

import torch
from hypothesis import strategies as st
from torch import Tensor

from agrbench.cells import AMPLIFIER, UNATTACKED, UNDEFENDED, Cell
from agrbench.conformance.cases import Violation
from agrbench.conformance.laws import EXACT, LONG, few
from agrbench.conformance.search import search
from agrbench.plugins import registry
from agrbench.plugins.registry import Registry
from agrbench.simulation.prefixes import Tree
from agrbench.simulation.traces import PlayedRound, Trace, trace, traced
from agrbench.simulation.workers import Limits, Worker, as_program, ready

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
AVERAGES = 0.1  # of the way from the honest mean to the mean of all: a step so near that of averaging is averaging


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
            rounds = REHEARSED if known.attack(self.attack).record.rehearses else self.rounds
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
            if (why := worker.ended(Limits())) is not None and (answer := worker.record()) is None:
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
    if worker is not None and worker.ended(Limits()) is None:
        return worker
    words = [f"--plugin={file}" for file in known.files]
    words += ["-D", DATASET, "-d", replay.stack or UNDEFENDED, "-a", replay.attack or BLATANT]
    with as_program(["grid", *words, "--clients", str(replay.clients), "--rounds", str(replay.rounds)]):
        worker = Worker(known.files, Path("results"), alone=True)
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


def repeated(replay: Replay) -> None:
    """Decide alike in every round when the same process plays a grid again, in another order."""
    recording = replay.begin()
    for first, second in zip(recording.there, recording.again, strict=True):
        _compare(first, second, "the first time", "the second time in the same process")


def unwatched(replay: Replay) -> None:
    """Decide in every round of a grid, in a process that runs no test, as in the same round here."""
    recording = replay.begin()
    for there, here in zip(recording.there, recording.here, strict=True):
        _compare(there, here, "in a grid", "here, under test")


def followed(replay: Replay) -> None:
    """Follow clients through a grid whatever their numbers are and whichever rows they have."""
    for cell, each in _rounds(replay):
        _require_like(cell, each, "renumbered", "with other numbers for the clients")
        _require_like(cell, each, "reordered", "with the rows in another order")


def lawful(replay: Replay) -> None:
    """Keep the laws of single steps in every round of a grid, except for waived ones."""
    recording, waived = replay.begin(), replay.waived
    wait = {each.cell: LONG if each.remembers else 0 for each in recording.there}
    for cell, each in _rounds(replay):
        _require_like(cell, each, "scaled", "when all vectors are scaled")
        _require_like(cell, each, "moved", "when all vectors are moved")
        if "hull" not in waived:
            _require_inside(cell, each)
        if "resists" not in waived and cell.attack == BLATANT and each.number >= START + wait[cell]:
            _require_judgement(cell, each)


def _rounds(replay: Replay) -> Iterator[tuple[Cell, PlayedRound]]:
    """Yield the rounds of ordinary size, as they were played before the mirrors."""
    for played in replay.begin().again:
        _require_played(played)
        for each in played.rounds:
            if each.is_ordinary:
                yield played.cell, each


def _require_played(played: Trace) -> None:
    if played.fault:
        raise Violation(f"in round {len(played.rounds) + 1} of {_named(played.cell)}: {played.fault}")


def _compare(one: Trace, other: Trace, when: str, then: str) -> None:
    """Raise at the first round that differs between two traces of a cell, and by what differs there."""
    for played in (one, other):
        _require_played(played)
    for first, second in zip(one.rounds, other.rounds, strict=True):
        for what, of in COMPARED.items():
            if not torch.equal(of(first), of(second)):
                raise Violation(
                    f"in round {first.number} of {_named(one.cell)}, {what} {_apart(of(first), of(second), when, then)}"
                )
    for name, value in one.measured.items():
        if repr(value) != repr(other.measured[name]):
            raise Violation(f"of {_named(one.cell)}, {name} is {value} {when}, and {other.measured[name]} {then}")


COMPARED: Mapping[str, Callable[[PlayedRound], Tensor]] = {
    "the entries of the malicious rows": lambda each: each.updates[list(each.malicious)].nan_to_num(),
    "the entries of the updates": lambda each: each.updates.nan_to_num(),
    "the entries of the step": lambda each: each.step.nan_to_num(),
    "the excluded clients": lambda each: torch.tensor(each.excluded),
}
"""What two traces of a round are compared by, in this order: a step may differ because the updates do."""


def _apart(one: Tensor, other: Tensor, when: str, then: str) -> str:
    """Write two tensors by their entries that differ most."""
    if one.shape != other.shape:
        return f"are {few(one)} {when}, and {few(other)} {then}"
    place = int((one.double() - other.double()).abs().argmax())
    left, right = (float(each.flatten()[place]) for each in (one, other))
    return f"have {left:.6g} at {place} {when}, and {right:.6g} {then}"


def _require_like(cell: Cell, each: PlayedRound, mirror: str, how: str) -> None:
    other = each.mirrored.get(mirror)
    if isinstance(other, Tensor):
        apart = _apart(each.step, other, "as the grid played it", how)
        raise Violation(f"in round {each.number} of {_named(cell)}, the entries of the step {apart}")
    if other is not None:
        raise Violation(f"in round {each.number} of {_named(cell)}, {how}: {other}")


def _require_inside(cell: Cell, each: PlayedRound) -> None:
    room = EXACT * float(each.updates.abs().max())
    low, high = each.updates.amin(0) - room, each.updates.amax(0) + room
    outside = ((each.step < low) | (each.step > high)).nonzero().flatten().tolist()
    if outside:
        at = outside[0]
        raise Violation(
            f"in round {each.number} of {_named(cell)}, the step has {float(each.step[at]):g} at {at}, and the updates "
            f"{few(each.updates[:, at])}"
        )


def _require_judgement(cell: Cell, each: PlayedRound) -> None:
    """Raise if the step is the mean of all rows, although some lie far beyond the others."""
    honest = [row for row in range(len(each.updates)) if row not in each.malicious]
    everybody, trusted = each.updates.double().mean(0), each.updates[honest].double().mean(0)
    off, far = (float(torch.linalg.vector_norm(vector - everybody)) for vector in (each.step, trusted))
    if off < AVERAGES * far:
        raise Violation(
            f"in round {each.number} of {_named(cell)}, the step is the mean of all {len(each.updates)} updates, "
            f"{len(each.malicious)} of them malicious, which lies {far:.3g} from the honest mean"
        )


def _named(cell: Cell) -> str:
    return f"{cell.dataset} {cell.defense} {cell.attack}"
