"""Play a cell and keep each round: what the server was given, its step, and what its rule decides in mirrors."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from agrbench import threads
from agrbench.cells import UNDEFENDED, Cell
from agrbench.errors import AgrbenchError
from agrbench.randomness import generator
from agrbench.server.judge import Judge
from agrbench.server.rounds import Server, was_read
from agrbench.simulation.prefixes import Tree
from agrbench.simulation.run import Run

FACTOR = 2.0**10  # a power of two, by which floats are scaled without rounding
SHIFT = 0.1  # of the largest entry of the first round
ROUNDING = 1e-5  # of the largest entry: what steps may differ by, far above the rounding of float32
NUDGE = 1e-6  # of the largest entry: above the rounding of float32
NUDGES = 32  # none of which may move the step as a mirror does
ORDINARY = 1e12  # larger entries belong to a model that has diverged; their squares are near the end of float32
PARTS = ("root", "evaluate", "gradients", "model", "previous", "sizes")


class PlayedRound(NamedTuple):
    """One round: the clients of the rows, the rows `(clients, parameters)`, which are malicious, and what was decided.

    `excluded` are the clients excluded from the next round on. `mirrored` holds the step of each mirror in which the
    rule clearly decides otherwise, or how it fails there.
    """

    number: int
    clients: tuple[int, ...]
    malicious: tuple[int, ...]
    updates: Tensor
    step: Tensor
    excluded: tuple[int, ...]
    mirrored: Mapping[str, Tensor | str]

    @property
    def is_ordinary(self) -> bool:
        """Return whether the updates are of ordinary size, so that what rounds is small beside them."""
        return bool(self.updates.abs().max() < ORDINARY)


class Trace(NamedTuple):
    """The rounds of a cell, the measured part of its record, and why it ended early (`""`: it did not).

    `remembers` says whether a part of the stack has put anything into its memory.
    """

    cell: Cell
    remembers: bool
    rounds: Sequence[PlayedRound]
    measured: Mapping[str, Any]
    fault: str


class Seen(NamedTuple):
    """What a judge is given in a round: rows, their clients, the excluded clients, and what the server has."""

    updates: Tensor
    senders: tuple[int, ...]
    excluded: tuple[int, ...]
    server: Server


@dataclass
class Mirror:
    """A judge that sees all rounds of a run changed in one way, and remembers them so; `undo` takes its step back.

    `asks` names what a rule must not ask for, because there is no telling how it would change.
    """

    judge: Judge
    change: Callable[[Seen, int], Seen]
    undo: Callable[[Tensor], Tensor]
    asks: tuple[str, ...] = ()


def traced(cell: Cell, tree: Tree, alone: bool, names: Sequence[str] = (), every: int = 1) -> bytes:
    """Return the pickled trace of a cell: work for a worker (`agrbench.simulation.workers`)."""
    return pickle.dumps(trace(cell, tree, names, every))  # a connection would pass on each tensor as an open file


def trace(cell: Cell, tree: Tree, names: Sequence[str] = (), every: int = 1) -> Trace:
    """Play a cell and keep its rounds; the mirrors of these names see each `every`-th round.

    They must see all rounds if the rule remembers. A fault of a plugin ends the trace, and is kept.
    """
    rounds: list[PlayedRound] = []
    measured: dict[str, Any] = {}
    fault, remembers = "", False
    try:
        with threads.using(cell.threads):
            run = Run(cell, tree.registry, tree.prepare(replace(cell.trunk, defense=UNDEFENDED)))
            beside = {name: mirror for name, mirror in mirrors(run).items() if name in names}
            for number in range(1, cell.rounds + 1):
                rounds.append(_played(run, number, {} if number % every else beside))
            measured, remembers = run.measured(), any(run.judge.memories.values())
            del measured["time"]
    except AgrbenchError as error:
        fault = str(error)
    return Trace(cell, remembers, rounds, measured, fault)


def _played(run: Run, number: int, beside: dict[str, Mirror]) -> PlayedRound:
    before, excluded = replace(run.state), tuple(sorted(run.state.excluded))
    judge = run.judge.rehearse() if beside else run.judge
    run.play(number)
    rows = tuple(run.cohort.malicious.tolist()) if run.attacked(number) else ()
    left_out = tuple(sorted(run.state.excluded))
    step, updates = run.state.previous, run.clean.updates.clone()
    played = PlayedRound(number, run.cohort.clients, rows, updates, step, left_out, {})
    if not beside or not played.is_ordinary:
        return played
    after, run.state = run.state, before
    server = run.server(lambda: run.training.root().rehearse(), number)
    looked = _Look(Seen(updates, run.cohort.clients, excluded, server), number, run.cell.bound, step, judge)
    found = dict(looked.differing(beside))
    run.state = after
    return played._replace(mirrored=found)


@dataclass(frozen=True)
class _Look:
    """One round that has been played, to be looked at in mirrors; `judge` is as it was before the round."""

    seen: Seen
    number: int
    bound: int
    step: Tensor
    judge: Judge

    def differing(self, beside: dict[str, Mirror]) -> Iterator[tuple[str, Tensor | str]]:
        """Yield the mirrors in which the rule decides otherwise, and drop those that have nothing more to say."""
        self._ask(self.judge, self.seen)  # so that what it asks for is known
        for name, mirror in list(beside.items()):
            if any(was_read(self.seen.server, asked) for asked in mirror.asks):
                continue
            try:
                step = mirror.undo(self._ask(mirror.judge, mirror.change(self.seen, self.number)))
            except AgrbenchError as error:
                yield name, str(error)
                del beside[name]
                continue
            off = self._off(step)
            if off > ROUNDING and self._is_clear(off):
                yield name, step
            elif off > ROUNDING and any(mirror.judge.memories.values()):
                del beside[name]  # from here on it remembers another past

    def _ask(self, judge: Judge, seen: Seen) -> Tensor:
        return judge.step(seen.updates, self.bound, seen.server, self.number, seen.excluded, seen.senders).step

    def _off(self, step: Tensor) -> float:
        """Return how far a step is from the one that was taken, as a share of the largest entry of the updates."""
        return float((step - self.step).abs().max() / self.seen.updates.abs().max())

    def _is_clear(self, off: float) -> bool:
        """Return whether no nudge of the updates moves the step half as far; else rounding may as well."""
        nudged = (partial(_nudged, self.seen, each) for each in range(NUDGES))
        return all(self._off(self._ask(self.judge.rehearse(), make())) < off / 2 for make in nudged)


def mirrors(run: Run) -> dict[str, Mirror]:
    """Return judges that see a run's clients under other numbers, in another order, and all vectors scaled or moved."""
    names = torch.randperm(run.cell.clients, generator=generator(run.cell.seed, "names"))
    moved, losses = _Moved(), ("evaluate", "gradients")

    def mirror(change: Callable[[Seen, int], Seen], undo: Callable[[Tensor], Tensor], asks: Sequence[str]) -> Mirror:
        judge = Judge(run.judge.stack, run.learner.layout, run.randomness, run.device)
        return Mirror(judge, change, undo, tuple(asks))

    return {
        "renumbered": mirror(partial(_renumbered, names), torch.clone, ()),
        "reordered": mirror(_reordered, torch.clone, ()),
        "scaled": mirror(_scaled, lambda step: step / FACTOR, losses),
        "moved": mirror(moved, lambda step: step - moved.by, losses),
    }


def _renumbered(names: Tensor, seen: Seen, number: int) -> Seen:
    places = names.argsort()
    return Seen(
        seen.updates,
        tuple(names[list(seen.senders)].tolist()),
        tuple(sorted(names[list(seen.excluded)].tolist())),
        _with(seen.server, sizes=lambda: seen.server.sizes[places]),
    )


def _reordered(seen: Seen, number: int) -> Seen:
    order = torch.randperm(len(seen.updates), generator=generator(number, "order"))
    return seen._replace(updates=seen.updates[order], senders=tuple(seen.senders[row] for row in order.tolist()))


def _scaled(seen: Seen, number: int) -> Seen:
    return _by_vectors(seen, lambda vectors: FACTOR * vectors)


class _Moved:
    """Add one vector to all others; in float64, because updates shrink beside it."""

    def __call__(self, seen: Seen, number: int) -> Seen:
        if not hasattr(self, "by"):
            size = SHIFT * float(seen.updates.abs().max())
            self.by = size * torch.randn(seen.updates.shape[1], generator=generator(0, "move"), dtype=torch.float64)
        return _by_vectors(seen, lambda vectors: vectors.double() + self.by)


def _nudged(seen: Seen, each: int) -> Seen:
    noise = torch.randn(seen.updates.shape, generator=generator(each, "nudge"))
    return seen._replace(updates=seen.updates + NUDGE * seen.updates.abs().max() * noise.to(seen.updates))


def _by_vectors(seen: Seen, change: Callable[[Tensor], Tensor]) -> Seen:
    vectors = {name: partial(_changed, change, seen.server, name) for name in ("root", "model", "previous")}
    return seen._replace(updates=change(seen.updates), server=_with(seen.server, **vectors))


def _changed(change: Callable[[Tensor], Tensor], server: Server, name: str) -> Tensor:
    return change(getattr(server, name))


def _with(server: Server, **changed: Callable[[], Any]) -> Server:
    """Return a server that has what another has, except for what is changed."""
    return Server(**{name: partial(getattr, server, name) for name in PARTS} | changed)
