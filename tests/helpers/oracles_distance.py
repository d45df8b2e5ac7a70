"""Slow, obvious versions of the rules that judge by distances and spectra, in float64 loops, from their definitions.

Nothing here imports the package under test. Where rounding could turn a decision, the oracle also says how clear the
decision was, or which decisions are all acceptable.
"""

import itertools
import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from tests.helpers.oracles import Array, distance, distances, lowest, median, norm, shares

TIE = 1e-12  # scores that differ by less, relatively, are the same score


def least(scores: dict[int, float], slack: float = TIE) -> list[int]:
    """The ids whose score is the lowest, up to a relative slack."""
    floor = min(scores.values())
    return [i for i, score in sorted(scores.items()) if score <= floor * (1 + slack)]


# ---------------------------------------------------------------- Krum and its kin (Blanchard 2017, El Mhamdi 2018)


def krum_scores(view: Array, f: int, neighbours: str = "paper", power: int = 2) -> list[float]:
    """The sum of powers of distances to the nearest others: `n - f - 2` of them as published, one more in byzfl."""
    n = len(view)
    count = {"paper": n - f - 2, "byzfl": n - f - 1}[neighbours]
    # Squares are raised to half the power: those of whole numbers are exact, so ties are ties.
    squares = [[math.fsum((float(x) - float(y)) ** 2 for x, y in zip(a, b, strict=True)) for b in view] for a in view]
    return [math.fsum(sorted(squares[i][j] ** (power / 2) for j in range(n) if j != i)[:count]) for i in range(n)]


def remaining_scores(table: Array, remaining: Sequence[int], f: int) -> dict[int, float]:
    """Krum's scores among the remaining rows only, by at least one neighbour."""
    count = max(len(remaining) - f - 2, 1)
    return {i: math.fsum(sorted(float(table[i, j]) ** 2 for j in remaining if j != i)[:count]) for i in remaining}


def bulyan_pick(view: Array, table: Array, remaining: Sequence[int], f: int) -> int:
    """The row of the lowest score; of several the closest to the median of the remaining rows, then the first."""
    middle = median(view[list(remaining)])
    tied = least(remaining_scores(table, remaining, f))
    return least({i: distance(view[i], middle) for i in tied})[0]


def bulyan_selected(view: Array, f: int) -> list[int]:
    table, remaining, selected = distances(view), list(range(len(view))), []
    for _ in range(len(view) - 2 * f):
        pick = bulyan_pick(view, table, remaining, f)
        remaining.remove(pick)
        selected.append(pick)
    return sorted(selected)


def bulyan_selections(view: Array, f: int, slack: float) -> Iterable[list[int]]:
    """All selections that are acceptable where each score may be off by a relative slack.

    Rows whose scores truly tie, with none other nearby, are still told apart by the median.
    """
    n, table = len(view), distances(view)
    states = {frozenset(range(n))}
    for _ in range(n - 2 * f):
        after = set()
        for state in states:
            remaining, middle = sorted(state), median(view[sorted(state)])
            scores = remaining_scores(table, remaining, f)
            picks = least(scores, slack)
            if picks == least(scores):
                picks = least({i: distance(view[i], middle) for i in picks}, slack)
            after |= {state - {pick} for pick in picks}
        states = after
    return ([i for i in range(n) if i not in state] for state in states)


def nearest_to_the_median(view: Array, selected: Sequence[int], count: int) -> Array:
    """Mark, column by column, the `count` selected values closest to the median of the selected; ties by row."""
    kept = np.zeros(view.shape, dtype=bool)
    middle = median(view[list(selected)])
    for j in range(view.shape[1]):
        ranked = sorted(selected, key=lambda i: (abs(float(view[i, j]) - middle[j]), i))
        kept[ranked[:count], j] = True
    return kept


def bulyan(view: Array, f: int) -> Array:
    """The `(rows, columns)` marks of the values that are averaged."""
    return nearest_to_the_median(view, bulyan_selected(view, f), len(view) - 4 * f)


# ---------------------------------------------------------------- subsets of n - f rows


def subsets(n: int, f: int) -> list[tuple[int, ...]]:
    """All subsets of `n - f` rows, in lexicographic order."""
    return list(itertools.combinations(range(n), n - f))


def diameter(table: Array, subset: Sequence[int]) -> float:
    return max((float(table[i, j]) for i, j in itertools.combinations(subset, 2)), default=0.0)


def mda(view: Array, f: int) -> list[int]:
    """The first subset of smallest diameter: `argmin` keeps the first of equals."""
    table = distances(view)
    every = subsets(len(view), f)
    return list(every[int(np.argmin([diameter(table, subset) for subset in every]))])


def covers(pairs: set[tuple[int, int]], budget: int) -> bool:
    """Say whether `budget` rows touch all pairs: either the busiest row is among them, or all its partners are."""
    if not pairs:
        return True
    met = Counter(i for pair in pairs for i in pair)
    busiest, most = max(met.items(), key=lambda item: (item[1], -item[0]))
    if len(pairs) > budget * most:
        return False
    partners = {a + b - busiest for a, b in pairs if busiest in (a, b)}
    return any(
        len(touched) <= budget and covers({p for p in pairs if not touched & set(p)}, budget - len(touched))
        for touched in ({busiest}, partners)
    )


def mda_of_many(view: Array, f: int) -> list[int]:
    """The same subset where there are too many to list them.

    A subset has no pair further apart than the diameter, so the `f` rows outside it touch all such pairs. The rows are
    then taken one by one, each if a subset with it and all rows taken before exists.
    """
    n, table = len(view), distances(view)
    every = list(itertools.combinations(range(n), 2))
    reaches = sorted({0.0, *(float(table[pair]) for pair in every)})
    reach = reaches[bisect_left(reaches, True, key=lambda r: covers({p for p in every if table[p] > r}, f))]
    apart = {pair for pair in every if table[pair] > reach}
    out: set[int] = set()
    for i in range(n):
        also = out | {a + b - i for a, b in apart if i in (a, b)}
        left = {pair for pair in apart if not also & set(pair)}
        if i not in out and len(also) <= f and covers(left, f - len(also)):
            out = also
        else:
            out.add(i)
    # All that are left can stand together; the first n - f of them do.
    return [i for i in range(n) if i not in out][: n - f]


def spread(view: Array, subset: Sequence[int]) -> float:
    """The largest eigenvalue of the covariance of the subset around its own mean.

    Measured around one of the rows first, so that equal rows have no spread at all.
    """
    rows = view[list(subset)] - view[subset[0]]
    centred = rows - rows.mean(axis=0)
    return float(np.linalg.svd(centred, compute_uv=False)[0] ** 2 / len(subset))


def smea(view: Array, f: int) -> list[int]:
    order = subsets(len(view), f)
    return list(order[least({k: spread(view, subset) for k, subset in enumerate(order)})[0]])


def smea_greedy(view: Array, f: int) -> list[int]:
    """`f` times drop the row without which the rest spreads least, the first of several."""
    kept = list(range(len(view)))
    for _ in range(f):
        kept.remove(least({i: spread(view, [j for j in kept if j != i]) for i in kept})[0])
    return kept


def smea_greedy_ends(view: Array, f: int, slack: float) -> set[frozenset[int]]:
    """All ends that are acceptable where each eigenvalue may be off by a relative slack."""
    states = {frozenset(range(len(view)))}
    for _ in range(f):
        after = set()
        for state in states:
            without = {i: spread(view, sorted(state - {i})) for i in state}
            after |= {state - {i} for i in least(without, slack)}
        states = after
    return states


# ---------------------------------------------------------------- spectral filters


def caf(view: Array, f: int) -> tuple[Array, float]:
    """The weights, and how clear the least clear decision was: a share, 1 where there was none.

    Decisions are: which eigenvector is the top one, whose projection is the longest, whether the eigenvalue is the
    lowest so far, and whether enough weight has gone.
    """
    n = len(view)
    shares_left, best, kept, clear = np.ones(n), math.inf, np.ones(n) / n, 1.0
    while shares_left.sum() > n - 2 * f:
        mean = shares_left @ view / shares_left.sum()
        centred = view - mean
        root = np.sqrt(shares_left / shares_left.sum())[:, None] * centred
        _, singular, right = np.linalg.svd(root, full_matrices=False)
        value = float(singular[0] ** 2)
        second = float(singular[1] ** 2) if len(singular) > 1 else 0.0
        if math.isfinite(best):
            clear = min(clear, abs(value - best) / max(value, best, 1e-300))
        if value < best:
            best, kept = value, shares_left / shares_left.sum()
        tau = (centred @ right[0]) ** 2
        alive = sorted((float(t) for t, c in zip(tau, shares_left, strict=True) if c > 0), reverse=True)
        # A spread of rounding noise is no spread.
        if alive[0] <= (1e-12 * max(norm(row) for row in view)) ** 2:
            return kept, clear
        clear = min(clear, (value - second) / value)
        if len(alive) > 1:
            clear = min(clear, (alive[0] - alive[1]) / alive[0])
        shares_left = shares_left * np.clip(1 - tau / alive[0], 0, 1)
        shares_left[shares_left < 1e-9] = 0  # what rounding leaves of a row whose projection ties with the longest
        clear = min(clear, abs(shares_left.sum() - (n - 2 * f)) / n)
    return kept, clear


def projections(view: Array) -> tuple[Array, float]:
    """Each row less the mean, along the top right singular vector, and how far that one stands out: a share."""
    centred = view - view.mean(axis=0)
    _, singular, right = np.linalg.svd(centred, full_matrices=False)
    second = float(singular[1]) if len(singular) > 1 else 0.0
    top = float(singular[0])
    return centred @ right[0], (top**2 - second**2) / top**2 if top > 0 else 0.0


def dnc(view: Array, f: int, removed: float = 1.0) -> list[int]:
    """One iteration over all columns: keep the smallest squared projections."""
    return lowest(projections(view)[0] ** 2, len(view) - math.floor(removed * f))


# ---------------------------------------------------------------- iterations from a centre


def halfway(values: Iterable[float]) -> float:
    """The median, the mean of the two middle values of an even number."""
    ordered = sorted(values)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def rfa(view: Array, steps: int) -> Array:
    """The weights at the end of smoothed Weiszfeld steps from the mean (RFA, Pillutla et al., 2022)."""
    n = len(view)
    weights = np.ones(n) / n
    # Measured from one of the rows, so that equal rows are their own mean exactly.
    moved = view - view[0]
    centre = moved.mean(axis=0)
    for _ in range(steps):
        away = [distance(row, centre) for row in moved]
        typical = halfway(away)
        if typical == 0:
            break
        pulls = np.array([1 / max(d, 1e-6 * typical) for d in away])
        weights = pulls / pulls.sum()
        after = weights @ moved
        stepped = distance(after, centre)
        centre = after
        if stepped <= 1e-6 * typical:
            break
    return weights


def rfa_from_zero(view: Array, steps: int, nu: float) -> Array:
    """The weights at the end of smoothed Weiszfeld steps from 0, as Karimireddy et al. (ICML 2021) run them."""
    centre, weights = np.zeros(view.shape[1]), np.zeros(len(view))
    for _ in range(steps):
        pulls = np.array([1 / max(distance(row, centre), nu) for row in view])
        weights = pulls / pulls.sum()
        centre = weights @ view
    return weights


def total_distance(view: Array, point: Array, shares: Iterable[float] | None = None) -> float:
    """The sum of the distances to the rows, each times its share (1 by default)."""
    shares = [1.0] * len(view) if shares is None else shares
    return math.fsum(share * distance(row, point) for share, row in zip(shares, view, strict=True))


def unbalanced(view: Array, point: Array, shares: Sequence[float]) -> float:
    """The length of the shortest subgradient of the sum of distances: 0 at the minimum and nowhere else.

    A row at the point itself may pull in any direction, by up to its share.
    """
    away = [distance(row, point) for row in view]
    pulls = [share * (row - point) / d for share, row, d in zip(shares, view, away, strict=True) if d > 0]
    own = math.fsum(share for share, d in zip(shares, away, strict=True) if d == 0)
    return max(norm(np.sum(pulls, axis=0)) - own, 0.0) if pulls else 0.0


def excess(view: Array, point: Array, shares: Sequence[float] | None = None) -> float:
    """How far, at most, the sum of distances lies above its minimum, as a share of it; `shares` add up to 1.

    The sum is convex, and the minimum no further away than twice the sum, so it lies above a subgradient times that.
    Beside a row the subgradient at the row is the smaller one.
    """
    shares = [1 / len(view)] * len(view) if shares is None else shares
    nearest = min((row for row, share in zip(view, shares, strict=True) if share), key=lambda row: distance(row, point))
    total = total_distance(view, point, shares)
    if total == 0:
        return 0.0
    bounds = [
        total - total_distance(view, at, shares) * (1 - 2 * unbalanced(view, at, shares)) for at in (point, nearest)
    ]
    return min(bounds) / total


def clipped_towards(
    view: Array, seen: Array, tau: float | str = "median", steps: int = 1
) -> tuple[Array, float, list[Array]]:
    """The rows' weights, the share of the last step `seen`, and the centres passed (Karimireddy et al., 2021)."""
    n = len(view)
    weights, previous, centre = np.zeros(n), 1.0, seen
    passed = [seen]
    for _ in range(steps):
        away = [distance(row, centre) for row in view]
        radius = halfway(away) if isinstance(tau, str) else tau
        factors = np.array([min(1.0, radius / d) if d > 0 else 1.0 for d in away])
        centre = centre + (factors[:, None] * (view - centre)).mean(axis=0)
        weights = (1 - factors.mean()) * weights + factors / n
        previous *= 1 - factors.mean()
        passed.append(centre)
    return weights, previous, passed


def monna(view: Array, root: Array, f: int) -> Array:
    """The mean of the `n - f` rows nearest to the server's own update."""
    return shares(lowest([distance(row, root) for row in view], len(view) - f), len(view))
