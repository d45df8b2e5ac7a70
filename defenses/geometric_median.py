"""Geometric median: the point of least summed distance to the updates, or RFA's steps to it (Pillutla et al., 2022)."""

from typing import NamedTuple

import torch
from torch import Tensor

from agrbench.plugins import Defense
from agrbench.server.ranks import middle, middle_by_size
from agrbench.server.rounds import Round
from agrbench.server.weighted_means import between_means, centred, from_mean

GRADIENT = 1e-9  # a gradient no longer than this leaves `F` within 2e-9 of its minimum, relatively
EQUAL = 1e-9  # sums of distances, or pulls, that differ by a smaller share are equal
FAST = 10  # Weiszfeld's steps, cheaper than Newton's, go on while each divides the gradient by this
PARTS = [2.0**-k for k in range(20)]  # of a step, tried in turn until one descends
MOST = 100  # steps; 3 to 10 are usual
TINY = torch.finfo(torch.float64).tiny
NU = 1e-6  # RFA: times the median distance; smaller distances count as this, and a smaller step is the last


def geometric_median(round: Round, *, steps: int | None = None, weighted: bool = False) -> Tensor:
    """Weigh rows so that their mean minimises `F(v) = sum_i s_i |g_i - v|`, where `s_i = 1 / n`: `(rows,)`.

    `F` is within 2e-9 of its minimum, relatively, or as low as float64 can tell. If all points of a line segment
    minimise `F`, the result is the mean of the rows at its ends.

    Variants: `steps=3` is RFA as published (Pillutla et al., IEEE TSP 2022, Algorithm 2); `steps=8` is how Karimireddy
    et al. (ICML 2021) run it. Starting from the mean, both weigh rows by `s_i / max(|g_i - v|, nu)`, with `v` the last
    weighted mean and `nu` 1e-6 of the median `|g_i - v|`. They stop early after a step no longer than `nu`, or when
    more than half of the rows equal `v`.

    `weighted=True` sets `s_i` to the share of all examples that the row claims, as RFA does, and takes the weighted
    mean, median and majority throughout. It believes the claims: whoever claims more examples than all others together
    decides the step.
    """
    distances = round.geometry.distances
    sizes = round.sizes.to(distances) if weighted else torch.ones_like(distances[0])
    return minimiser(distances, sizes / sizes.sum()) if steps is None else reweighed(distances, sizes, steps, weighted)


def reweighed(distances: Tensor, sizes: Tensor, steps: int, weighted: bool) -> Tensor:
    """Take RFA's smoothed Weiszfeld steps from the mean."""
    weights = sizes / sizes.sum()
    for _ in range(steps):
        away = from_mean(weights, distances).sqrt()
        least = NU * (middle_by_size(away, sizes) if weighted else middle(away))
        if least == 0:
            break
        before, weights = weights, sizes * (1 / away.clamp(min=least))
        weights = weights / weights.sum()
        if between_means(weights - before, distances) <= least.square():
            break
    return weights


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


defense = Defense(
    geometric_median,
    family="distance",
    requires=lambda n, f, *, steps=None: 2 * f < n and (steps is None or steps >= 1),
    bound=lambda n, f, *, steps=None, weighted=False: (
        None if weighted or steps is not None else 4 * (1 + f / (n - 2 * f)) ** 2
    ),
    proof="Allouah et al., AISTATS 2023, of the exact median",
)
