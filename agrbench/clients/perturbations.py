"""Geometry shared by attacks: directions away from the honest mean, how far to go, and the blind spots of views."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Literal

import torch
from torch import Tensor

from agrbench.clients.insider import Insider
from agrbench.errors import AgrbenchError
from agrbench.layout import Layout
from agrbench.server.amplifier import Patches
from agrbench.server.geometry import Geometry, by_columns

Direction = Literal["std", "sign", "unit"]
DIRECTIONS: tuple[Direction, ...] = ("std", "sign", "unit")


def against(rows: Tensor, direction: Direction) -> Tensor:
    """Return a direction against the mean of float64 `(rows, parameters)` (Shejwalkar and Houmansadr, NDSS 2021).

    It is `(parameters,)`: minus each coordinate's standard deviation (`"std"`, ddof 1; 0 for one row), minus the mean's
    signs (`"sign"`), or minus the mean scaled to length 1 (`"unit"`).
    """
    if direction == "std":
        return -_deviations(rows) if len(rows) > 1 else torch.zeros_like(rows[0])
    if direction == "sign":
        return -rows.mean(0).sign()
    if direction == "unit":
        return -torch.nn.functional.normalize(rows.mean(0), dim=0)
    raise AgrbenchError(f"direction={direction!r}; write 'std', 'sign' or 'unit'")


def _deviations(rows: Tensor) -> Tensor:
    """Return each column's standard deviation, ddof 1; it is exactly 0 for equal values."""

    def block(columns: slice) -> Tensor:
        apart = rows[:, columns] - rows[0, columns]
        return apart.sub_(apart.mean(0)).square_().sum(0)

    return torch.cat(list(by_columns(block, rows))).div_(len(rows) - 1).sqrt_()


def diameter(rows: Tensor) -> Tensor:
    """Return the largest distance between two rows, a scalar in float64."""
    return Geometry(lambda: rows).distances.max().sqrt()


def within(rows: Tensor, p: Tensor) -> Tensor:
    """Return the largest scalar `gamma` for which no row is further from `mu + gamma p` than the rows' diameter `R`.

    It is exact: with `q = |p|^2`, `a_i = |mu - g_i|^2` and `b_i = <p, mu - g_i>`,
    `gamma = min_i (-b_i + sqrt(b_i^2 + q (R^2 - a_i))) / q`; if `q = 0` or `R = 0`, it is 0.
    """
    q, furthest = p @ p, diameter(rows)
    if q == 0 or furthest == 0:
        return torch.zeros_like(q)

    def block(columns: slice) -> Tensor:
        some = rows[:, columns]
        apart = some.mean(0) - some
        return torch.stack([apart @ p[columns], apart.square_().sum(1)])

    b, a = reduce(torch.add, by_columns(block, rows))
    gamma: Tensor = ((-b + (b * b + q * (furthest.square() - a).clamp(min=0)).sqrt()) / q).min()
    return gamma


def strongest(insider: Insider, start: Tensor, p: Tensor, evaluations: int = 20) -> float:
    """Return the `gamma` whose row `start + gamma p`, if all send it, moves the step furthest from the honest mean.

    `start` and `p` are `(parameters,)` in float64. `gamma` begins at 0 and is raised from the best one so far, first by
    10. The increment doubles while every increment does more damage, and then shrinks by 0.8 after each evaluation.
    """
    mean, row = insider.honest.double().mean(0), torch.empty_like(start)

    def damage(gamma: float) -> float:
        step = insider.respond(torch.add(start, p, alpha=gamma, out=row).expand(insider.malicious, -1))
        return float(torch.linalg.vector_norm(step.double() - mean))

    best, more, factor = 0.0, 10.0, 2.0
    most = damage(best)
    for _ in range(evaluations - 1):
        now = damage(best + more)
        if now > most:
            best, most = best + more, now
        else:
            factor = 0.8
        more *= factor
    return best


def unseen(rows: Tensor, layout: Layout | None, kernel: int) -> tuple[Tensor, Tensor]:
    """Return a row whose view is the mean view of `rows`, and a mask of its hidden entries, both `(parameters,)`.

    All entries of a `kernel` x `kernel` patch equal the mean of the rows' largest entries there. The mask is 0 on each
    patch's first entry and 1 on the others, which can be lowered without changing the view.
    """
    if layout is None:
        raise AgrbenchError("this plugin needs layout, which was not given; pass layout=: the layers' shapes")
    patches = Patches.of(layout, kernel)
    seen = patches.pooled().view(rows).mean(0)[patches.patch_of.to(rows.device)]
    first = patches.restored().view(torch.ones_like(rows[:1]))[0]  # among equal entries, the first is kept
    return seen, 1 - first


def unseen_by(see: Callable[[Tensor], Tensor], rows: Tensor) -> tuple[Tensor, Tensor]:
    """Do the same for any view that shows some entries of a row, such as one with other or shuffled patches.

    The view of a row of rising entries reveals which entries it shows. These are set to the mean view of `rows`; the
    others are set to the mean of `rows`, which is no larger if the view shows the largest entries.
    """
    rising = torch.arange(1, rows.shape[1] + 1, device=rows.device, dtype=rows.dtype)
    shown = see(rising[None])[0].long() - 1
    return rows.mean(0).index_copy(0, shown, see(rows).mean(0)), torch.ones_like(rising).index_fill(0, shown, 0.0)


def hides(see: Callable[[Tensor], Tensor], seen: Tensor, elsewhere: Tensor) -> bool:
    """Return whether lowering a row far, at the entries marked by `elsewhere`, leaves its view unchanged."""
    far = 1 + 4 * seen.abs().max()
    before, after = see(torch.stack([seen, seen - far * elsewhere]))
    return bool(elsewhere.any()) and torch.equal(before, after)
