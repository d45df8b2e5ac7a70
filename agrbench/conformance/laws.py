"""The laws of defenses and row stages: each is a function of a case that raises `Violation` if the case breaks it.

A law about a continuous quantity applies to clear cases only: those in which a nudge of the updates hardly moves the
step. If a nudge changes the verdict, rounding may change it too.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from agrbench.conformance.cases import Case, Violation, require
from agrbench.randomness import generator
from agrbench.server.judge import Judge

EXACT = 1e-5  # of the largest entry: far above the rounding of float64, far below any mistake
NUDGE = 1e-8
NEIGHBOURS = 32  # nudges that must all agree for a case to be clear
OUTCOMES = 256  # nudges that must reach every outcome of a tie: some outcomes occur once in 25 nudges
LONG = 14  # rounds shown to a rule that remembers: our slowest rule judges from the twelfth on


def shape(case: Case) -> None:
    """Return a step with one entry per parameter, in the updates' dtype."""
    step = case.step()
    if step.shape != case.updates[0].shape or step.dtype != case.updates.dtype:
        raise Violation(f"the step is {tuple(step.shape)} of {step.dtype}, the updates {_form(case.updates)}")


def finite(case: Case) -> None:
    """Return a finite step for updates from 1e-30 to 1e15, rows of zeros and equal rows included."""
    if not case.step().isfinite().all():
        raise Violation(f"the step is {few(case.step())}")


def length(case: Case) -> None:
    """Return a step no longer than the summed lengths of all updates, the server's update and the last step."""
    parts = [*case.updates.double(), case.root.double(), case.previous.double()]
    longest = sum(float(torch.linalg.vector_norm(part)) for part in parts)
    found = float(torch.linalg.vector_norm(case.step().double()))
    if found > longest * (1 + EXACT):
        raise Violation(f"the step has length {found:g}, and all that it was given {longest:g}")


def untouched(case: Case) -> None:
    """Leave every input unchanged."""
    parts = {"updates": case.updates, "root": case.root, "previous": case.previous, "sizes": case.sizes}
    before = {name: part.clone() for name, part in parts.items()}
    judge = case.judge()
    for number in (1, 2):
        case.outcome(judge, number)
    for name, part in parts.items():
        if not torch.equal(part, before[name]):
            raise Violation(f"{name} were {few(before[name])} and are {few(part)}")


def determinism(case: Case) -> None:
    """Return a bit-identical step when run twice on the same input."""
    first, second = case.step(), case.step()
    if not torch.equal(first, second):
        raise Violation(f"the step is {few(first)}, and again {few(second)}")


def permutation(case: Case, order: Sequence[int]) -> None:
    """Return the same step for every order of the clients."""
    step, other = case.step(), _ordered(case, order).step()
    if not close(step, other, case.scale):
        require(is_clear(case))
        raise Violation(f"the step is {few(step)}, and {few(other)} with the clients in the order {list(order)}")


def ties(case: Case, order: Sequence[int]) -> None:
    """Break exact ties, in any order of the clients, only as some tiny change of the updates would break them."""
    other = _ordered(case, order).step()
    if close(case.step(), other, case.scale):
        return
    nearby = (_nudged(case, number).step() for number in range(OUTCOMES))
    if not any(close(other, step, case.scale) for step in nearby):
        raise Violation(
            f"with the clients in the order {list(order)} the step is {few(other)}, which none of {OUTCOMES} nudges "
            f"gives; in their own order it is {few(case.step())}"
        )


def scaling(case: Case, power: int) -> None:
    """Scale the step by c, 1e-12 to 1e12, when the updates, the server's update and the last step are scaled by c."""
    factor = 10.0**power
    scaled = case.but(updates=factor * case.updates, root=factor * case.root, previous=factor * case.previous)
    step, other = factor * case.step(), scaled.step()
    if not close(step, other, scaled.scale):
        require(is_clear(case))
        raise Violation(
            f"{factor:g} times the step is {few(step)}, and that of {factor:g} times the updates {few(other)}"
        )


def translation(case: Case, shift: Sequence[float]) -> None:
    """Shift the step by v when the updates, the server's update and the last step are all shifted by v."""
    by = torch.as_tensor(shift, dtype=case.updates.dtype)
    moved = case.but(updates=case.updates + by, root=case.root + by, previous=case.previous + by)
    step, other = case.step() + by, moved.step()
    if not close(step, other, max(case.scale, moved.scale)):
        require(is_clear(case) and is_clear(moved))
        raise Violation(f"the step, moved, is {few(step)}, and that of the moved updates {few(other)}")


def unanimity(case: Case) -> None:
    """Return the common update when all clients send the same one."""
    agreed = case.but(updates=case.updates[:1].expand_as(case.updates).clone())
    if not close(agreed.step(), case.updates[0], agreed.scale):
        raise Violation(
            f"all {len(case.updates)} clients send {few(case.updates[0])}, and the step is {few(agreed.step())}"
        )


def hull(case: Case) -> None:
    """Keep each coordinate of the step between the smallest and the largest value that the clients send there."""
    step, room = case.step(), EXACT * float(case.updates.abs().max())
    low, high = case.updates.amin(0) - room, case.updates.amax(0) + room
    outside = ((step < low) | (step > high)).nonzero().flatten().tolist()
    if outside:
        at = outside[0]
        raise Violation(f"the step has {float(step[at]):g} at {at}, and the updates {few(case.updates[:, at])}")


def amplified(case: Case) -> None:
    """Return the same step behind amp(kernel=1), whose patches of one entry show linear layers unchanged."""
    step, other = case.step(), case.but(stack=f"amp(kernel=1)+{case.stack}").step()
    if not close(step, other, case.scale):
        raise Violation(f"the step is {few(step)}, and {few(other)} after amp(kernel=1)")


def memory(case: Case) -> None:
    """Continue from a copy of its memory exactly as from the original; keep no state elsewhere."""
    probe, judge = case.judge(), case.judge()
    _play(case, probe, 1, 3)
    rounds = LONG if any(probe.memories.values()) else 3
    _play(case, judge, 1, (rounds + 1) // 2)
    resumed = case.judge()
    resumed.memories = copy.deepcopy(judge.memories)
    went, again = (_play(case, each, (rounds + 1) // 2, rounds) for each in (judge, resumed))
    for number, (one, other) in enumerate(zip(went, again, strict=True), start=(rounds + 1) // 2):
        if not torch.equal(one, other):
            raise Violation(f"in round {number} the step is {few(one)}, and {few(other)} from a copy of the memory")


def resists(case: Case) -> None:
    """Come closer to the honest mean than plain averaging does, under a blatant attack by f clients.

    A rule that remembers is shown 14 rounds, whose updates vary.
    """
    judge = case.judge()
    case.outcome(judge)
    remembers = any(judge.memories.values())
    judge, excluded = case.judge(), set[int]()
    for number in range(1, LONG + 1 if remembers else 2):
        now = case.but(updates=_moved_on(case, number))
        outcome = now.outcome(judge, number, sorted(excluded))
        excluded |= set(outcome.exclude)
    honest = now.updates[: len(now.updates) - case.byzantine].mean(0)
    off, plain = (float(torch.linalg.vector_norm(step - honest)) for step in (outcome.step, now.updates.mean(0)))
    if not off < 0.9 * plain:
        raise Violation(f"the step lies {off:g} from the mean of the honest, and the mean of all clients {plain:g}")


def heard(case: Case) -> None:
    """Let every client contribute to at least one output row."""
    mute = (case.outcome().weights == 0).nonzero().flatten().tolist()
    if mute:
        require(case.updates.any(1).all())
        raise Violation(f"client {mute[0]} of {len(case.updates)} has no share in the mean of the rows")


def agreement(case: Case, other: str) -> None:
    """Return the same step as another rule."""
    step, differs = case.step(), case.but(stack=other).step()
    if not close(step, differs, case.scale):
        require(is_clear(case) and is_clear(case.but(stack=other)))
        raise Violation(f"{case.stack} gives {few(step)}, and {other} gives {few(differs)}")


def _play(case: Case, judge: Judge, first: int, last: int) -> list[Tensor]:
    """Play rounds `first` to `last - 1`, rotating the updates among the clients and rescaling them."""
    return [
        case.but(updates=case.updates.roll(number, 1) * (1 + number % 3)).outcome(judge, number).step
        for number in range(first, last)
    ]


def _moved_on(case: Case, number: int) -> Tensor:
    """Rotate the honest clients' deviations from their mean, and vary the strength of the others."""
    honest = len(case.updates) - case.byzantine
    mean = case.updates[:honest].mean(0)
    swapped = mean + (case.updates[:honest] - mean).roll(number - 1, 0)
    return torch.cat([swapped, case.updates[honest:] * (1 + (number - 1) * 5 % 7)])


def _ordered(case: Case, order: Sequence[int]) -> Case:
    return case.but(updates=case.updates[list(order)], sizes=case.sizes[list(order)])


def _nudged(case: Case, number: int) -> Case:
    rng = generator(number, "nudge")
    noise = torch.randn(case.updates.shape, generator=rng, dtype=torch.float64)
    return case.but(updates=case.updates + NUDGE * case.scale * noise.to(case.updates))


def is_clear(case: Case) -> bool:
    """Return whether nudges hardly move the step."""
    step = case.step()
    return all(close(step, _nudged(case, number).step(), case.scale) for number in range(NEIGHBOURS))


def close(one: Tensor, other: Tensor, scale: float) -> bool:
    """Return whether two vectors differ only by rounding, at this scale."""
    return bool(((one - other).abs() <= EXACT * scale).all())


def _form(rows: Tensor) -> str:
    return f"{tuple(rows.shape)} of {rows.dtype}"


def few(values: Tensor) -> str:
    """Write the first few numbers."""
    shown = ", ".join(f"{value:.6g}" for value in values.flatten()[:8].tolist())
    return f"[{shown}{', ...' if values.numel() > 8 else ''}]"
