"""The laws of a plugin in a real grid: each is a function of a replay and raises `Violation` if it is broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from agrbench.cells import Cell
from agrbench.conformance.cases import Violation
from agrbench.conformance.laws import EXACT, LONG, few
from agrbench.conformance.recordings import BLATANT, START, Replay
from agrbench.simulation.traces import PlayedRound, Trace

AVERAGES = 0.1  # of the way from the honest mean to the mean of all: a step so near that of averaging is averaging


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
