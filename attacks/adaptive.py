"""Adaptive: query the whole stack, send what moves its step most (Shejwalkar, NDSS 2021; Allouah, AISTATS 2023)."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from agrbench.clients.insider import Insider
from agrbench.clients.perturbations import DIRECTIONS, against, diameter, hides, unseen, unseen_by, within
from agrbench.errors import AgrbenchError
from agrbench.plugins import Attack


def adaptive(insider: Insider, *, evaluations: int = 20, kernel: int = 2) -> Tensor:
    """Send the `v` that maximises `|AGR(H and m copies of v) - mean(H)|`, searched on four lines `v = c + gamma p`.

    Three lines start at the honest mean and follow `min_max`'s directions, beginning with `min_max`'s own `gamma`. The
    fourth starts at the mean honest view and enters the blind spot of `amp(kernel)`, beginning with the honest
    diameter; if the stack's view shows that spot but hides another (other kernel, shuffled patches), it enters that. On
    each line, `gamma` doubles while the damage grows and is then multiplied by 0.8, for `evaluations` evaluations; the
    best of all is sent. `AGR` is the whole stack, stages included, on copies of its memory and its randomness.

    Knowledge: all honest updates, the layout, and how the server would view and combine any rows, including its own
    data and randomness. Space: updates. Sign: that of the best line. Goal: untargeted.
    """
    if evaluations < 1:
        raise AgrbenchError(f"evaluations is {evaluations}; write 1 or more")
    rows = insider.honest.double()
    sent = mean = rows.mean(0)
    most = -torch.inf

    def damage(start: Tensor, p: Tensor, gamma: float) -> float:
        step = insider.respond((start + gamma * p).expand(insider.malicious, -1))
        return float(torch.linalg.vector_norm(step.double() - mean))

    for start, p, first in _lines(rows, *_unseen(insider, rows, kernel)):
        for gamma, worst in _search(partial(damage, start, p), first, evaluations):
            if worst > most:
                sent, most = start + gamma * p, worst
    return sent.expand(insider.malicious, -1)


def _unseen(insider: Insider, rows: Tensor, kernel: int) -> tuple[Tensor, Tensor]:
    """Return a row with the mean honest view, and a mask of the entries that can be lowered unseen."""
    supposed = unseen(rows, insider.layout, kernel)
    own = unseen_by(insider.see, rows)
    return own if hides(insider.see, *own) and not hides(insider.see, *supposed) else supposed


def _lines(rows: Tensor, seen: Tensor, elsewhere: Tensor) -> Iterator[tuple[Tensor, Tensor, float]]:
    """Yield each line's start, direction and first `gamma`; if that is 0 (equal rows), go the mean's length."""
    mean = rows.mean(0)
    directions = [against(rows, direction) for direction in DIRECTIONS]
    lines = [(mean, p, within(rows, p)) for p in directions]
    lines.append((seen, -elsewhere, diameter(rows) / torch.linalg.vector_norm(elsewhere)))
    for start, p, first in lines:
        length = torch.linalg.vector_norm(p)
        gamma = float(first) if first > 0 else float(torch.linalg.vector_norm(mean) / length)
        if length > 0 and gamma > 0:
            yield start, p, gamma


def _search(damage: Callable[[float], float], gamma: float, evaluations: int) -> Iterator[tuple[float, float]]:
    """Yield every `gamma` tried and its damage: doubled while the damage grows, then multiplied by 0.8."""
    last, factor = -torch.inf, 2.0
    for _ in range(evaluations):
        now = damage(gamma)
        yield gamma, now
        factor = factor if now > last else 0.8
        last, gamma = now, gamma * factor


attack = Attack(forge=adaptive, rehearses=True)
