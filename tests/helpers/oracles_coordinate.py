"""Slow, obvious versions of the rules by coordinate, norm and layer, and of the row stages, in float64 loops.

Written from the papers' formulas; nothing here imports the package under test. A row is one client's update; `n` rows,
of which the server fears `f`. A view is what a rule judges; norms are always those of the updates themselves.
"""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from sklearn.cluster import MeanShift, estimate_bandwidth

from tests.helpers.oracles import Array, Shapes, lowest, norm, patches


def middle(values: Sequence[float] | Array) -> float:
    """The median: the mean of the two middle values when there are two."""
    ordered = sorted(float(x) for x in values)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def norms(rows: Array) -> list[float]:
    return [norm(row) for row in rows]


def clip_factors(lengths: Sequence[float], radius: float) -> Array:
    """`min(1, radius / |g_i|)`; a row of norm 0 stays as it is."""
    return np.array([1.0 if length <= radius else radius / length for length in lengths])


# ---------------------------------------------------------------- by coordinate


def meamed_weights(view: Array, f: int) -> Array:
    """Equal shares of the `n - f` values of each column that are closest to its median (Xie et al., 2018)."""
    n, width = view.shape
    weights = np.zeros((n, width))
    for j in range(width):
        centre = middle(view[:, j])
        for i in lowest([abs(float(x) - centre) for x in view[:, j]], n - f):
            weights[i, j] = 1.0 / (n - f)
    return weights


def rlr_weights(view: Array, threshold: float) -> Array:
    """The mean where `threshold` signs agree on balance, minus the mean elsewhere (Ozdayi et al., AAAI 2021)."""
    n, width = view.shape
    weights = np.zeros((n, width))
    for j in range(width):
        balance = sum((x > 0) - (x < 0) for x in map(float, view[:, j]))
        weights[:, j] = (1.0 if abs(balance) >= threshold else -1.0) / n
    return weights


# ---------------------------------------------------------------- by norm


def norm_clipping(rows: Array) -> Array:
    """The mean of the updates clipped to their median norm."""
    lengths = norms(rows)
    return clip_factors(lengths, middle(lengths)) / len(rows)


def moderate(lengths: Sequence[float]) -> list[int]:
    """The rows whose norm is from a tenth of the median norm to three times it."""
    centre = middle(lengths)
    return [i for i, length in enumerate(lengths) if 0.1 * centre <= length <= 3 * centre]


def sign_features(rows: Array, coordinates: Sequence[int]) -> Array:
    """The shares of positive, zero and negative entries of each row at these coordinates."""
    found = []
    for row in rows:
        entries = [float(row[c]) for c in coordinates]
        counts = [sum(x > 0 for x in entries), sum(x == 0 for x in entries), sum(x < 0 for x in entries)]
        found.append([count / len(entries) for count in counts])
    return np.array(found)


def sign_clusters(features: Array, widen: float = 1.0) -> list[list[int]]:
    """The clusters that may be called the largest: mean shift, or equal features where the bandwidth is 0.

    `widen` multiplies the bandwidth, to see whether a result hangs on rounding.
    """
    n = len(features)
    bandwidth = float(estimate_bandwidth(features, quantile=0.5))
    if bandwidth == 0:
        alike = [[j for j in range(n) if (features[i] == features[j]).all()] for i in range(n)]
        most = max(map(len, alike))
        return [group for i, group in enumerate(alike) if len(group) == most and group[0] == i]
    labels = MeanShift(bandwidth=bandwidth * widen).fit(features).labels_
    groups = [[i for i in range(n) if labels[i] == label] for label in range(max(labels) + 1)]
    return [max(groups, key=len)]


def signguard_weights(rows: Array, cluster: Sequence[int]) -> Array:
    """The mean of the rows of moderate norm in the cluster, clipped to the median norm of all (Xu et al., 2022)."""
    lengths = norms(rows)
    factors = clip_factors(lengths, middle(lengths))
    kept = [i for i in moderate(lengths) if i in cluster]
    return np.array([factors[i] / len(kept) if i in kept else 0.0 for i in range(len(rows))])


# ---------------------------------------------------------------- by layer


def layers(shapes: Shapes) -> list[list[int]]:
    """The coordinates of each layer: a 1-D shape as long as the `d_out` right before it is that layer's bias."""
    found: list[list[int]] = []
    start, awaits_bias = 0, 0
    for shape in shapes:
        flat = list(range(start, start + math.prod(shape)))
        start += len(flat)
        if len(shape) == 1 and shape[0] == awaits_bias:
            found[-1] += flat
        else:
            found.append(flat)
        awaits_bias = 0 if len(shape) == 1 else shape[1 if len(shape) == 2 else 0]
    return found


def pooled_layers(shapes: Shapes, kernel: int) -> list[list[int]]:
    """The patches of each layer."""
    owner = {c: number for number, layer in enumerate(layers(shapes)) for c in layer}
    found: list[list[int]] = [[] for _ in layers(shapes)]
    for place, patch in enumerate(patches(shapes, kernel)):
        found[owner[patch[0]]].append(place)
    return found


def sparsified(row: Array, sparsity: str) -> Array:
    """The largest entries by magnitude in place, zero elsewhere: all that tie with the last one kept are kept."""
    count = math.ceil((1 - Fraction(sparsity)) * len(row))
    edge = sorted((abs(float(x)) for x in row), reverse=True)[count - 1]
    return np.array([float(x) if abs(float(x)) >= edge else 0.0 for x in row])


def purity(entries: Array) -> float:
    """The share of positive ones among the entries that are not zero; a half where all are zero."""
    signs = [(x > 0) - (x < 0) for x in map(float, entries) if x != 0]
    return 0.5 * (1 + sum(signs) / len(signs)) if signs else 0.5


def outlying(values: Sequence[float]) -> tuple[list[float], float]:
    """The distances to the median in population standard deviations, 0 where all are equal; and the deviation."""
    mean = math.fsum(values) / len(values)
    deviation = math.sqrt(math.fsum((x - mean) ** 2 for x in values) / len(values))
    if deviation <= 1e-12 * max(abs(x) for x in values):
        return [0.0] * len(values), 0.0
    return [abs(x - middle(values)) / deviation for x in values], deviation


def lasa_statistics(
    lengths: Sequence[float], view: Array, view_layers: Sequence[Sequence[int]], sparsity: str
) -> tuple[Array, list[list[float]], list[list[float]]]:
    """The clip factors; and the norm and the sign purity of each layer of each clipped, sparsified row."""
    factors = clip_factors(lengths, middle(lengths))
    thinned = np.array([sparsified(s * row, sparsity) for s, row in zip(factors, view, strict=True)])
    sizes = [[norm(row[list(layer)]) for row in thinned] for layer in view_layers]
    purities = [[purity(row[list(layer)]) for row in thinned] for layer in view_layers]
    return factors, sizes, purities


def lasa_weights(
    lengths: Sequence[float],
    view: Array,
    view_layers: Sequence[Sequence[int]],
    sparsity: str = "0.3",
    norm_limit: float = 1.0,
    sign_limit: float = 1.0,
) -> Array:
    """The `(rows, layers)` weights: a layer's mean over those who are unsuspicious in it (Xu et al., WACV 2025)."""
    factors, sizes, purities = lasa_statistics(lengths, view, view_layers, sparsity)
    weights = np.zeros((len(view), len(view_layers)))
    for number, (size, pure) in enumerate(zip(sizes, purities, strict=True)):
        both = zip(outlying(size)[0], outlying(pure)[0], strict=True)
        kept = [i for i, (a, p) in enumerate(both) if a <= norm_limit and p <= sign_limit]
        for i in kept:
            weights[i, number] = factors[i] / len(kept)
    return weights


def over_layers(weights: Array, shapes: Shapes) -> Array:
    """Layer weights `(rows, layers)` written to every coordinate of their layer."""
    wide = np.zeros((len(weights), sum(map(len, layers(shapes)))))
    for number, layer in enumerate(layers(shapes)):
        for c in layer:
            wide[:, c] = weights[:, number]
    return wide


# ---------------------------------------------------------------- leaving one out


def without_each(view: Array) -> Array:
    """The mean of all other rows, for each row; of one row, nothing."""
    n = len(view)
    found = np.zeros_like(view)
    for i in range(n):
        for j in range(view.shape[1]):
            others = [float(view[k, j]) for k in range(n) if k != i]
            found[i, j] = math.fsum(others) / len(others) if others else 0.0
    return found


def left_out_lrr(losses: Sequence[float], f: int) -> list[int]:
    """The `n - f` lowest impacts `loss(all) - loss(without i)` (Fang et al., USENIX Security 2020), ties by id."""
    return lowest([-loss for loss in losses], len(losses) - f)


def left_out_err(losses: Sequence[float], accuracies: Sequence[float], f: int) -> list[int]:
    """The `n - f` lowest impacts `accuracy(without i) - accuracy(all)`, ties by loss impact and then by id."""
    order = sorted(range(len(losses)), key=lambda i: (accuracies[i], -losses[i], i))
    return sorted(order[: len(losses) - f])


# ---------------------------------------------------------------- row stages


def clip(rows: Array, radius: float | None = None) -> Array:
    """The matrix that shrinks rows to a radius, by default to their median norm."""
    lengths = norms(rows)
    return np.diag(clip_factors(lengths, middle(lengths) if radius is None else radius))


def arc(rows: Array, f: int) -> Array:
    """The matrix that clips the `floor(2 f (n - f) / n)` largest norms to the next (Allouah et al., ICLR 2025)."""
    n, lengths = len(rows), norms(rows)
    count = (2 * f * (n - f)) // n
    return np.diag(clip_factors(lengths, sorted(lengths, reverse=True)[count]))


def buckets(mixing: Array, size: int) -> list[list[int]]:
    """The members of each bucket, having made sure that the matrix is one of buckets in the right order."""
    n = mixing.shape[1]
    found = [[j for j in range(n) if mixing[b, j] != 0] for b in range(len(mixing))]
    assert sorted(j for members in found for j in members) == list(range(n))
    assert len(found) == -(-n // size)
    assert sorted(map(len, found)) == sorted([size] * (n // size) + [n % size] * (n % size > 0))
    assert [members[0] for members in found] == sorted(members[0] for members in found)
    for members, shares in zip(found, mixing, strict=True):
        assert all(abs(shares[j] - 1 / len(members)) <= 1e-15 for j in members)
    return found


def squared(rows: Array) -> Array:
    """All squared distances."""
    return np.array([[math.fsum(float(x) ** 2 for x in a - b) for b in rows] for a in rows])
