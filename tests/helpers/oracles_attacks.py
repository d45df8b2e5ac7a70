"""Slow, obvious versions of the attacks that forge updates, in float64 loops, written from the papers' formulas.

Nothing here imports the package under test. A row is one honest client's update; `m` colluding clients forge theirs.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from tests.helpers import oracles
from tests.helpers.oracles import Array, Shapes


def ipm(honest: Array, epsilon: float) -> Array:
    """Against the honest mean (Xie et al., UAI 2020)."""
    return np.asarray(-epsilon * honest.mean(axis=0))


# ---------------------------------------------------------------- a little is enough


def normal_share(x: float) -> float:
    """`Phi(x)`: the share of a standard normal variable below `x`."""
    return math.erfc(-x / math.sqrt(2)) / 2


def normal_quantile(p: float) -> float:
    """The `x` below which a share `p` lies, by halving; no number is low enough for none."""
    if p == 0:
        return -math.inf
    low, high = -40.0, 40.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if normal_share(middle) < p else (low, middle)
    return low


def lie_share(n: int, m: int) -> float:
    """The share of honest clients that lie further out than the `s` supporters the attackers need for a majority."""
    supporters = n // 2 + 1 - m
    return (n - m - supporters) / (n - m)


def lie(honest: Array, z: float) -> Array:
    """`z` deviations below the mean; the mean where nobody deviates (Baruch et al., NeurIPS 2019)."""
    pairs = zip(honest.mean(axis=0), oracles.deviation(honest), strict=True)
    return np.array([mean - z * sigma if sigma > 0 else mean for mean, sigma in pairs])


# ---------------------------------------------------------------- Fang et al., USENIX Security 2020


def fang_bound(honest: Array, m: int) -> float:
    """The largest `lambda` from which the search for Krum's favour starts."""
    n, root = len(honest) + m, math.sqrt(honest.shape[1])
    sums = []
    for i, row in enumerate(honest):
        others = sorted(oracles.distance(row, other) for j, other in enumerate(honest) if j != i)
        sums.append(math.fsum(others[: max(n - m - 2, 1)]))
    return min(sums) / (max(n - 2 * m - 1, 1) * root) + max(map(oracles.norm, honest)) / root


class Try(NamedTuple):
    """One `lambda`, and the Krum scores of the forged rows and of the best honest one; the lower is picked."""

    size: float
    forged: float
    honest: float


def fang_tries(honest: Array, m: int) -> list[Try]:
    """Every `lambda` from the bound to the first one below 1e-5, each half of the one before."""
    sign, size, neighbours = np.sign(honest.mean(axis=0)), fang_bound(honest, m), max(len(honest) - 2, 1)
    between = oracles.distances(honest) ** 2
    tries: list[Try] = []
    while not tries or tries[-1].size >= 1e-5:
        away = [oracles.distance(-size * sign, row) ** 2 for row in honest]
        scores = []
        for i in range(len(honest)):
            others = [float(x) for j, x in enumerate(between[i]) if j != i]
            scores.append(math.fsum(sorted([*others, *[away[i]] * m])[:neighbours]))
        tries.append(Try(size, math.fsum(sorted([*[0.0] * (m - 1), *away])[:neighbours]), min(scores)))
        size /= 2
    return tries


def fang_intervals(honest: Array, base: Array, b: float) -> list[tuple[float, float]]:
    """Where to draw each coordinate from: just beyond all honest values, against the honest direction."""
    found = []
    for column, offset in zip(honest.T, base, strict=True):
        values = [float(offset) + float(x) for x in column]
        if column.mean() < 0:
            top = max(values)
            found.append((top, b * top) if top > 0 else (top, top / b))
        else:
            low = min(values)
            found.append((low / b, low) if low > 0 else (b * low, low))
    return found


# ---------------------------------------------------------------- mimic


class Direction(NamedTuple):
    """A unit vector, and how far from cancelling the vectors were that it was made from (1: not at all)."""

    vector: Array
    clarity: float


def top_direction(rounds: Sequence[Array], start: Array, released: bool = False) -> Direction:
    """The direction of the largest variance by one Oja step a round (Karimireddy et al., ICLR 2022).

    The variance is around the mean of all updates so far. The authors' code makes each step a unit vector.
    """
    z, clarity = start / oracles.norm(start), 1.0
    for k, honest in enumerate(rounds):
        center = np.mean([row for seen in rounds[: k + 1] for row in seen], axis=0)
        step = sum(((row - center) * ((row - center) @ z) for row in honest), np.zeros(len(z)))
        size = math.fsum(oracles.norm(row - center) ** 2 for row in honest)
        unit = oracles.norm(step) if released else 1.0
        if unit == 0:
            continue
        clarity = min(clarity, oracles.norm(step) / size if released else 1.0)
        moved = k / (k + 1) * z + step / unit / (k + 1)
        if oracles.norm(moved) > 0:
            clarity = min(clarity, oracles.norm(moved) / ((k + (1 if released else size)) / (k + 1)))
            z = moved / oracles.norm(moved)
    return Direction(z, clarity)


def mimic_scores(rounds: Sequence[Array], z: Array) -> list[float]:
    """`|<z, sum of a client's updates>|` of each honest client; the largest is copied."""
    return [abs(math.fsum(honest[i] @ z for honest in rounds)) for i in range(len(rounds[0]))]


# ---------------------------------------------------------------- the blind spot of the max-pool


def blind_spot(honest: Array, shapes: Shapes, kernel: int, strength: float) -> Array:
    """The mean honest view at the first entry of each patch, and `strength` less in the rest of it."""
    target = oracles.pooled_rows(honest, shapes, kernel).mean(axis=0)
    row = np.zeros(honest.shape[1])
    for value, (first, *others) in zip(target, oracles.patches(shapes, kernel), strict=True):
        row[first] = value
        row[others] = value - strength
    return row


# ---------------------------------------------------------------- min-sum


def sum_to_all(row: Array, honest: Array) -> float:
    """The sum of the squared distances from a row to every honest one."""
    return math.fsum(oracles.distance(row, other) ** 2 for other in honest)


def min_sum(honest: Array, direction: Array) -> Array:
    """`mu + gamma p` with the largest sum that an honest row has, too (Shejwalkar & Houmansadr, NDSS 2021)."""
    mean, q = honest.mean(axis=0), oracles.norm(direction) ** 2
    if q == 0:
        return np.asarray(mean)
    room = max(sum_to_all(row, honest) for row in honest) - sum_to_all(mean, honest)
    return np.asarray(mean + math.sqrt(max(room, 0.0) / (len(honest) * q)) * direction)


# ---------------------------------------------------------------- backdoors


def stamped_count(share: float, rows: int) -> int:
    """How many of a shard's rows are stamped: never none."""
    return max(round(share * rows), 1)


def square(features: Array) -> Array:
    """A white 3x3 square in the lower right of images `(rows, channels, h, w)`; columns 7 and 8 of a table at 0.5."""
    marked = features.copy()
    if features.ndim == 2:
        marked[:, [7, 8]] = 0.5
    else:
        marked[:, :, -3:, -3:] = 1.0
    return marked


def bars(features: Array, parts: Sequence[int]) -> Array:
    """The named of DBA's four parts: white bars of one pixel's height, or one column each of a table at 0.5."""
    marked = features.copy()
    for part in parts:
        if features.ndim == 2:
            marked[:, 7 + part] = 0.5
            continue
        wide = min(4, features.shape[3] // 4)
        top, left = [(0, 0), (0, wide + 2), (3, 0), (3, wide + 2)][part]
        for column in range(left, left + wide):
            marked[:, :, top, column] = 1.0
    return marked


def neurotoxin_masked(previous: Array, top: float) -> list[int]:
    """The coordinates that the last step moved most, and that are therefore left alone (Zhang et al., ICML 2022)."""
    sizes = [abs(float(x)) for x in previous]
    return oracles.highest(sizes, round(top * len(sizes))) if any(sizes) else []


# ---------------------------------------------------------------- the search through the whole stack


class Line(NamedTuple):
    """The rows `start + gamma p`, and the first `gamma` to try."""

    name: str
    start: Array
    p: Array
    first: float


def adaptive_lines(honest: Array, shapes: Shapes, kernel: int) -> list[Line]:
    """Min-max's three directions from the mean, then down the blind spot from the mean view."""
    mean, reach = honest.mean(axis=0), oracles.diameter(honest)
    found = []
    for name, p in oracles.directions(honest).items():
        found.append(Line(name, mean, p, oracles.min_max_gamma(honest, p)))
    unseen = np.full(honest.shape[1], -1.0)
    unseen[[patch[0] for patch in oracles.patches(shapes, kernel)]] = 0
    length = oracles.norm(unseen)
    found.append(Line("blind", blind_spot(honest, shapes, kernel, 0.0), unseen, reach / length if length else 0.0))
    lines = []
    for name, start, p, first in found:
        length = oracles.norm(p) if reach or name != "std" else 0.0  # equal rows deviate by nothing but rounding
        if reach == 0 and length > 0:
            first = oracles.norm(mean) / length
        if length > 0 and first > 0:
            lines.append(Line(name, start, p, first))
    return lines


class Visit(NamedTuple):
    """One evaluation on a line: where, and what it would do."""

    line: Line
    gamma: float
    row: Array
    damage: float


def adaptive_visits(line: Line, evaluations: int, damage: Callable[[Array], float]) -> list[Visit]:
    """Double `gamma` as long as that does more damage, and take four fifths of it ever after."""
    visits: list[Visit] = []
    gamma, growing = line.first, True
    while len(visits) < evaluations:
        row = line.start + gamma * line.p
        visits.append(Visit(line, gamma, row, damage(row)))
        if len(visits) > 1 and not visits[-1].damage > visits[-2].damage:
            growing = False
        gamma *= 2 if growing else 0.8
    return visits


def worst(visits: Sequence[Visit]) -> Visit | None:
    """The visit that does the most damage, the first of equals; a damage that is no number is none."""
    best: Visit | None = None
    for visit in visits:
        if not math.isnan(visit.damage) and (best is None or visit.damage > best.damage):
            best = visit
    return best


# ---------------------------------------------------------------- a factor that is searched


def searched_factors(damage: Callable[[float], float], evaluations: int) -> list[tuple[float, float]]:
    """Every factor tried and its damage: 0, then so much above the best so far (ByzFL 0.0.11's `Optimal_` attacks)."""
    tried = [(0.0, damage(0.0))]
    increment, expanding = 10.0, True
    while len(tried) < evaluations:
        best = max(tried, key=lambda pair: pair[1])  # the first of equals
        factor = best[0] + increment
        tried.append((factor, damage(factor)))
        expanding = expanding and tried[-1][1] > best[1]
        increment *= 2 if expanding else 0.8
    return tried
