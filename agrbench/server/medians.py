"""The geometric median of rows from their distances alone: the point of least `F(v) = sum_i s_i |g_i - v|`."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from agrbench.server.weighted_means import centred

GRADIENT = 1e-9  # a gradient no longer than this leaves `F` within 2e-9 of its minimum, relatively
EQUAL = 1e-9  # sums of distances, or pulls, that differ by a smaller share are equal
FAST = 10  # Weiszfeld's steps, cheaper than Newton's, go on while each divides the gradient by this
PARTS = [2.0**-k for k in range(20)]  # of a step, tried in turn until one descends
MOST = 100  # steps; 3 to 10 are usual
TINY = torch.finfo(torch.float64).tiny


def minimiser(distances: Tensor, shares: Tensor) -> Tensor:
    """Return the weights of the point of least `F`, from squared distances `(rows, rows)` and `shares` `(rows,)`.

    A row minimises `F` if the unit vectors to the others, times their shares, add up to no more than the share of the
    rows in its place (Vardi and Zhang, PNAS 2000). Only a row of least `F` can. If it does not, `F` descends from there
    without meeting another row, so Newton's method needs no smoothing.
    """
    sums = torch.where(shares > 0, distances.sqrt() @ shares, torch.inf)
    best = sums <= sums.min() * (1 + EQUAL)
    row = best.int().argmax()
    away = distances[row].sqrt()
    pulls = torch.where(away > 0, shares / away, 0.0)
    inner = centred(distances, torch.zeros_like(shares).index_fill_(0, row, 1.0))
    inner = torch.where((away > 0) & (away > 0)[:, None], inner, 0.0)  # no rounding between rows in one place
    pull, own = length(pulls, inner), shares[away == 0].sum()
    if pull <= own * (1 + EQUAL):
        return torch.where(best, shares, 0.0) / shares[best].sum()
    return descended(inner, shares, (1 - own / pull) * pulls / pulls.sum())


class Point(NamedTuple):
    """A combination of rows: its coefficients, inner products with the rows, and distances to them, each `(rows,)`."""

    coefficients: Tensor
    products: Tensor
    away: Tensor


def at(coefficients: Tensor, inner: Tensor) -> Point:
    """Measure the point of these coefficients, from the rows' inner products."""
    products = inner @ coefficients
    squares = inner.diagonal() - 2 * products + coefficients @ products
    return Point(coefficients, products, squares.clamp(min=TINY).sqrt())


def rise(point: Point, other: Point, inner: Tensor, shares: Tensor) -> Tensor:
    """Return how much larger `F` is at another point, to all digits, even if large distances hide it in `F` itself."""
    along = inner @ (other.coefficients - point.coefficients)
    squares = (point.coefficients + other.coefficients) @ along - 2 * along
    return shares @ (squares / (point.away + other.away))


def descended(inner: Tensor, shares: Tensor, start: Tensor) -> Tensor:
    """Descend from a point of lower `F` than any row, by Weiszfeld's steps or Newton's, to the minimiser's weights."""
    point, before = at(start, inner), torch.inf
    for _ in range(MOST):
        pulls = shares / point.away
        change = pulls / pulls.sum() - point.coefficients
        gradient = float(pulls.sum() * length(change, inner))
        if gradient <= GRADIENT:
            break
        step, before = change if gradient < before / FAST else newton(point, pulls, inner), gradient
        tried = (at(point.coefficients + move, inner) for move in [*(part * step for part in PARTS), change])
        lower = next((other for other in tried if rise(point, other, inner, shares) < 0), None)
        if lower is None:
            break
        point = lower
    return pulls / pulls.sum()


def newton(point: Point, pulls: Tensor, inner: Tensor) -> Tensor:
    """Return Newton's step from a point, as a change of its coefficients.

    The step is a combination of the vectors to the rows, so Newton's equations have an unknown for each row, however
    many features there are.
    """
    apart = inner - point.products[:, None] - point.products + point.coefficients @ point.products
    scale = pulls.sqrt() / point.away
    matrix = pulls.sum().expand_as(pulls).diag() - scale[:, None] * apart * scale
    weights: Tensor = scale * torch.linalg.solve_ex(matrix, pulls.sqrt() * point.away).result
    return weights - weights.sum() * point.coefficients


def length(coefficients: Tensor, inner: Tensor) -> Tensor:
    """Return the length of a combination of rows, from their inner products."""
    squared: Tensor = coefficients @ inner @ coefficients
    return squared.clamp(min=0).sqrt()
