"""Slow, obvious versions of every rule and attack, in float64 loops, written from the papers' formulas.

Nothing here imports the package under test. A row is one client's update; `n` rows, of which the server fears `f`. At
the end stand the updates that the property tests are run on.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from hypothesis import assume
from hypothesis import strategies as st

from tests.helpers.shapes import in_torchs_order

Array = npt.NDArray[np.float64]
Shapes = Sequence[tuple[int, ...]]


# ---------------------------------------------------------------- geometry


def norm(row: Array) -> float:
    return math.sqrt(math.fsum(float(x) * float(x) for x in row))


def distance(a: Array, b: Array) -> float:
    return norm(a - b)


def cosine(a: Array, b: Array) -> float:
    """The cosine of two rows; 0 where one of them is zero, since a zero row points nowhere."""
    lengths = norm(a) * norm(b)
    return math.fsum(float(x) * float(y) for x, y in zip(a, b, strict=True)) / lengths if lengths > 0 else 0.0


def distances(rows: Array) -> Array:
    return np.array([[distance(a, b) for b in rows] for a in rows])


def cosines(rows: Array) -> Array:
    """All cosines; a row's own is 1, even where the row is zero."""
    n = len(rows)
    return np.array([[1.0 if i == j else cosine(rows[i], rows[j]) for j in range(n)] for i in range(n)])


# ---------------------------------------------------------------- choosing


def lowest(scores: Sequence[float] | Array, count: int) -> list[int]:
    """The ids of the `count` lowest scores, the smaller id first among equals."""
    return sorted(sorted(range(len(scores)), key=lambda i: (scores[i], i))[:count])


def highest(scores: Sequence[float] | Array, count: int) -> list[int]:
    return lowest([-float(s) for s in scores], count)


def shares(kept: Sequence[int], n: int) -> Array:
    """Equal weights over the kept rows, zero elsewhere."""
    return np.array([1.0 / len(kept) if i in kept else 0.0 for i in range(n)])


def weighted(weights: Array, rows: Array) -> Array:
    """`sum_i w_i U_i`, each coordinate summed exactly."""
    return np.array([math.fsum(float(w) * float(x) for w, x in zip(weights, column, strict=True)) for column in rows.T])


# ---------------------------------------------------------------- the max-pool of AgrAmplifier (ACSAC 2022)


def patches(shapes: Shapes, kernel: int) -> list[list[int]]:
    """The coordinates of each patch, layer by layer, row-major.

    A 2-D shape is `(d_in, d_out)`; a 1-D shape equal to the `d_out` right before it is that layer's bias and one more
    row of it; any other 1-D shape is a layer of one row; `(out, in, h, w)` folds to `(in h w, out)`.
    """
    layers: list[list[list[int]]] = []  # layer -> row -> column -> coordinate
    start, awaits_bias = 0, 0
    for shape in shapes:
        size = math.prod(shape)
        flat = list(range(start, start + size))
        start += size
        if len(shape) == 1 and shape[0] == awaits_bias:
            layers[-1].append(flat)
            awaits_bias = 0
        elif len(shape) == 1:
            layers.append([flat])
            awaits_bias = 0
        elif len(shape) == 2:
            layers.append([flat[r * shape[1] : (r + 1) * shape[1]] for r in range(shape[0])])
            awaits_bias = shape[1]
        else:
            out, inner = shape[0], size // shape[0]
            layers.append([[flat[o * inner + r] for o in range(out)] for r in range(inner)])
            awaits_bias = out
    found: list[list[int]] = []
    for layer in layers:
        for top in range(0, len(layer), kernel):
            for left in range(0, len(layer[0]), kernel):
                found.append([c for line in layer[top : top + kernel] for c in line[left : left + kernel]])
    return found


def pooled(row: Array, shapes: Shapes, kernel: int) -> Array:
    """The largest entry of each patch."""
    return np.array([max(float(row[c]) for c in patch) for patch in patches(shapes, kernel)])


def restored(row: Array, shapes: Shapes, kernel: int) -> Array:
    """The largest entry of each patch left in place (the first of several), zero elsewhere."""
    kept = np.zeros_like(row)
    for patch in patches(shapes, kernel):
        best = patch[0]
        for c in patch:
            if row[c] > row[best]:
                best = c
        kept[best] = row[best]
    return kept


def pooled_rows(rows: Array, shapes: Shapes, kernel: int) -> Array:
    return np.array([pooled(row, shapes, kernel) for row in rows])


def restored_rows(rows: Array, shapes: Shapes, kernel: int) -> Array:
    return np.array([restored(row, shapes, kernel) for row in rows])


def spread(weights: Array, shapes: Shapes, kernel: int) -> Array:
    """Patch weights `(rows, patches)` written to every coordinate of their patch."""
    wide = np.zeros((len(weights), parameters(shapes)))
    for p, patch in enumerate(patches(shapes, kernel)):
        for c in patch:
            wide[:, c] = weights[:, p]
    return wide


# ---------------------------------------------------------------- defenses


def fedavg(rows: Array) -> Array:
    return shares(range(len(rows)), len(rows))


def cosden_scores(view: Array, neighbours: int) -> list[float]:
    """`S_i`: the sum of the largest cosines of row `i` to all rows, itself included. High is trusted."""
    table = cosines(view)
    return [math.fsum(sorted(map(float, line), reverse=True)[:neighbours]) for line in table]


def euden_scores(view: Array, neighbours: int) -> list[float]:
    """The sum of the smallest unsquared distances of row `i` to all rows, itself included. Low is trusted."""
    table = distances(view)
    return [math.fsum(sorted(map(float, line))[:neighbours]) for line in table]


def most(n: int) -> int:
    """The default neighbourhood: the smallest majority."""
    return n // 2 + 1


def cosden(view: Array, f: int, neighbours: int | None = None) -> Array:
    n = len(view)
    return shares(highest(cosden_scores(view, neighbours or most(n)), n - f), n)


def euden(view: Array, f: int, neighbours: int | None = None) -> Array:
    n = len(view)
    return shares(lowest(euden_scores(view, neighbours or most(n)), n - f), n)


def mgden(view: Array, f: int, neighbours: int | None = None) -> Array:
    both = (cosden(view, f, neighbours) > 0) & (euden(view, f, neighbours) > 0)
    return shares([i for i in range(len(view)) if both[i]], len(view))


def fang_lrr_kept(losses: Sequence[float], f: int) -> list[int]:
    """The `n - f` lowest losses (Fang et al., USENIX Security 2020), ties by id."""
    return lowest(losses, len(losses) - f)


def fang_err_kept(losses: Sequence[float], accuracies: Sequence[float], f: int) -> list[int]:
    """The `n - f` highest accuracies, ties by loss and then by id."""
    order = sorted(range(len(losses)), key=lambda i: (-accuracies[i], losses[i], i))
    return sorted(order[: len(losses) - f])


def fang_lrr(losses: Sequence[float], f: int) -> Array:
    return shares(fang_lrr_kept(losses, f), len(losses))


def fang_err(losses: Sequence[float], accuracies: Sequence[float], f: int) -> Array:
    return shares(fang_err_kept(losses, accuracies, f), len(losses))


def fang(losses: Sequence[float], accuracies: Sequence[float], f: int) -> Array:
    both = sorted(set(fang_lrr_kept(losses, f)) & set(fang_err_kept(losses, accuracies, f)))
    return shares(both, len(losses))


def fltrust(
    rows: Array, root: Array, view: Array | None = None, seen_root: Array | None = None, pooled: bool = False
) -> Array:
    """`relu(cos(g_i, g_0)) / sum * |g_0| / |g_i|` (Cao et al., NDSS 2021).

    The cosines are taken on the view, the norms on the updates themselves; AgrAmplifier's code takes the server's on
    the view, too. A zero update has no weight; where nobody is trusted nobody has.
    """
    view = rows if view is None else view
    seen_root = root if seen_root is None else seen_root
    trust = [max(cosine(seen, seen_root), 0.0) if norm(row) > 0 else 0.0 for row, seen in zip(rows, view, strict=True)]
    total = math.fsum(trust)
    if total == 0:
        return np.zeros(len(rows))
    length = norm(seen_root if pooled else root)
    return np.array([t / total * length / norm(row) if t > 0 else 0.0 for t, row in zip(trust, rows, strict=True)])


def krum_scores(view: Array, f: int) -> list[float]:
    """The sum of squared distances to the `n - f - 2` nearest other rows (Blanchard et al., NeurIPS 2017)."""
    n = len(view)
    scores = []
    for i in range(n):
        others = sorted(distance(view[i], view[j]) ** 2 for j in range(n) if j != i)
        scores.append(math.fsum(others[: n - f - 2]))
    return scores


def krum(view: Array, f: int) -> Array:
    return shares(lowest(krum_scores(view, f), 1), len(view))


def median(rows: Array) -> Array:
    """The middle value of each coordinate, the mean of the two middle ones when there are two."""
    n = len(rows)
    out = []
    for column in rows.T:
        ordered = sorted(float(x) for x in column)
        out.append((ordered[(n - 1) // 2] + ordered[n // 2]) / 2)
    return np.array(out)


def lower_median(rows: Array) -> Array:
    """The middle value of each coordinate, the lower of two, as `torch.median` has it."""
    return np.array([sorted(map(float, column))[(len(rows) - 1) // 2] for column in rows.T])


def trimmed_mean(rows: Array, f: int) -> Array:
    """The mean of each coordinate without its `f` largest and its `f` smallest values (Yin et al., ICML 2018)."""
    n = len(rows)
    return np.array([math.fsum(sorted(map(float, column))[f : n - f]) / (n - 2 * f) for column in rows.T])


def trimmed_weights(view: Array, f: int) -> Array:
    """The `(rows, columns)` weights of the trimmed mean; rows that tie are ordered by id."""
    n, width = view.shape
    weights = np.zeros((n, width))
    for j in range(width):
        order = sorted(range(n), key=lambda i: (float(view[i, j]), i))
        for i in order[f : n - f]:
            weights[i, j] = 1.0 / (n - 2 * f)
    return weights


def median_weights(view: Array) -> Array:
    """The `(rows, columns)` weights of the median: all on the middle row, or half on each of the two."""
    n = len(view)
    return trimmed_weights(view, (n - 1) // 2)


def nnm(view: Array, f: int) -> Array:
    """The mixing matrix: each row the mean of its `n - f` nearest (Allouah et al., AISTATS 2023).

    The row itself is always among them, and of others equally far the smaller id.
    """
    n, table = len(view), distances(view)
    mixing = []
    for i in range(n):
        order = sorted(range(n), key=lambda j: (float(table[i, j]), j != i, j))
        mixing.append(shares(order[: n - f], n))
    return np.array(mixing)


# ---------------------------------------------------------------- attacks


def label_flip(clean: Array, poisoned: Array) -> Array:
    """What the poisoned data taught."""
    return poisoned


def gradient_ascent(clean: Array, poisoned: Array) -> Array:
    return -clean


def flip_ascent(clean: Array, poisoned: Array) -> Array:
    return poisoned - clean


def scaling_factor(honest: int, malicious: int) -> float:
    """`1 / M_f`, where `M_f` is the malicious share of all clients."""
    return (honest + malicious) / malicious


def scaling(poisoned: Array, honest: int) -> Array:
    return poisoned * scaling_factor(honest, len(poisoned))


def deviation(rows: Array) -> Array:
    """The coordinate-wise sample standard deviation, dividing by `n - 1`; zero for a single row."""
    n, mean = len(rows), rows.mean(axis=0)
    return np.sqrt(((rows - mean) ** 2).sum(axis=0) / (n - 1)) if n > 1 else np.zeros_like(mean)


def directions(honest: Array) -> dict[str, Array]:
    """The three directions of Shejwalkar and Houmansadr (NDSS 2021)."""
    mean = honest.mean(axis=0)
    length = norm(mean)
    return {
        "std": -deviation(honest),
        "sign": -np.sign(mean),
        "unit": -mean / length if length > 0 else np.zeros_like(mean),
    }


def diameter(rows: Array) -> float:
    return max(distance(a, b) for a in rows for b in rows)


def min_max_gamma(honest: Array, direction: Array) -> float:
    """The largest `gamma` with `max_i |mu + gamma p - g_i| <= R`: the least root of one quadratic per honest row."""
    mean, reach = honest.mean(axis=0), diameter(honest)
    q = math.fsum(float(x) ** 2 for x in direction)
    if q == 0:
        return 0.0
    roots = []
    for row in honest:
        a = distance(mean, row) ** 2
        b = math.fsum(float(x) * float(y) for x, y in zip(direction, mean - row, strict=True))
        roots.append((-b + math.sqrt(max(b * b + q * (reach * reach - a), 0.0))) / q)
    return max(min(roots), 0.0)


def min_max(honest: Array, direction: Array) -> Array:
    return np.asarray(honest.mean(axis=0) + min_max_gamma(honest, direction) * direction)


def bisect_gamma(honest: Array, direction: Array, within: Callable[[Array], bool] | None = None) -> float:
    """The same `gamma` without the formula: double until the constraint breaks, then halve the interval.

    The constraint is convex in `gamma` and holds at 0, so the legal values are one interval from 0.
    """
    mean, reach = honest.mean(axis=0), diameter(honest)
    if norm(direction) == 0:
        return 0.0

    def legal(gamma: float) -> bool:
        row = mean + gamma * direction
        return within(row) if within else all(distance(row, other) <= reach for other in honest)

    low, high = 0.0, max(reach, 1e-300) / norm(direction)
    while legal(high):
        low, high = high, 2 * high
        if high > 1e300:
            return low
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if legal(middle) else (low, middle)
    return low


# ---------------------------------------------------------------- updates to try


@st.composite
def updates(
    draw: st.DrawFn, clients: tuple[int, int] = (1, 12), width: tuple[int, int] = (1, 40), ties: bool = True
) -> Array:
    """Rows in float64, all of them float32 numbers: normal, small whole numbers, or nearly coinciding.

    All are times a power of two between about 1e-12 and 1e12, so that scaling rounds nothing and ties stay ties. With
    `ties`, rows may repeat or be zero; one row may be a thousand times the others.
    """
    n, d = draw(st.integers(*clients)), draw(st.integers(*width))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["normal", "whole", "close"] if ties else ["normal", "close"]))
    rows = rng.normal(size=(n, d))
    if kind == "whole":
        rows = rng.integers(-3, 4, size=(n, d)).astype(np.float64)
    elif kind == "close":
        rows = rng.normal(size=d) + 1e-3 * rows
    if ties and draw(st.booleans()):
        rows = rows[rng.integers(0, n, size=n)]
    if ties and draw(st.integers(0, 3)) == 0:
        rows[rng.integers(n)] = 0
    if draw(st.integers(0, 3)) == 0:
        rows[rng.integers(n)] *= 1000
    scaled = rows * 2.0 ** draw(st.integers(-40, 40))
    return scaled.astype(np.float32).astype(np.float64)


@st.composite
def layouts(draw: st.DrawFn, linear: bool = False) -> list[tuple[int, ...]]:
    """Shapes of one to three layers: weights with and without a bias, lone vectors, and small convolutions."""
    shapes: list[tuple[int, ...]] = []
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(
            st.sampled_from(["weight", "biased", "vector"] if linear else ["weight", "biased", "vector", "conv"])
        )
        if kind == "vector":
            shapes.append((draw(st.integers(1, 7)),))
        elif kind == "conv":
            out = draw(st.integers(1, 3))
            shapes += [(out, draw(st.integers(1, 2)), 2, 2), (out,)]
        else:
            high, wide = draw(st.integers(1, 5)), draw(st.integers(1, 4))
            shapes += [(high, wide)] if kind == "weight" else [(high, wide), (wide,)]
    assume(not in_torchs_order(shapes))
    return shapes


def parameters(shapes: Shapes) -> int:
    return sum(math.prod(shape) for shape in shapes)
