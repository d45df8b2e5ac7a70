"""Slow, obvious versions of the rules that remember, cluster or invert clients, in float64 loops.

Nothing here imports the package under test. A row is one client's view; `n` rows, of which the server fears `f`.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch

from tests.helpers import oracles
from tests.helpers.oracles import Array


def middle(values: Sequence[float] | Array) -> float:
    """The median of numbers: of an even count the mean of the two middle ones."""
    ordered = sorted(float(value) for value in values)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


# ---------------------------------------------------------------- flame


def model_distances(models: Array) -> Array:
    """`1 - cos` of all pairs as `|a/|a| - b/|b||^2 / 2`, which keeps its digits where models nearly agree."""
    units = [model / oracles.norm(model) if oracles.norm(model) > 0 else None for model in models]
    return np.array(
        [
            [0.0 if a is b else 1.0 if a is None or b is None else oracles.distance(a, b) ** 2 / 2 for b in units]
            for a in units
        ]
    )


def components(distances: Array, threshold: float) -> list[set[int]]:
    """The connected components of the graph that joins whoever is no further apart than the threshold."""
    parts: list[set[int]] = []
    for i in range(len(distances)):
        near = [part for part in parts if any(distances[i, j] <= threshold for j in part)]
        parts = [part for part in parts if part not in near] + [{i}.union(*near)]
    return parts


def majority(distances: Array) -> tuple[float, set[int]]:
    """The smallest threshold at which more than half of all are connected, and who they are."""
    for threshold in sorted({float(x) for x in distances.flatten()}):
        for part in components(distances, threshold):
            if len(part) >= len(distances) // 2 + 1:
                return threshold, part
    raise AssertionError("at the largest distance everybody is connected")


def flame_weights(norms: Array, admitted: set[int]) -> Array:
    """`min(1, S / |g_i|)` shared among the admitted, `S` the median norm of all (Nguyen et al., USENIX 2022)."""
    limit = middle(norms)
    factors = [min(1.0, limit / norm) if norm > 0 else 1.0 for norm in norms]
    return np.array([factor / len(admitted) if i in admitted else 0.0 for i, factor in enumerate(factors)])


# ---------------------------------------------------------------- foolsgold


@dataclass
class FoolsGold:
    """Fung et al. (RAID 2020): who learns in the same direction over and over is one and the same."""

    histories: dict[int, Array] = field(default_factory=dict)

    def alphas(self, clients: Sequence[int], view: Array) -> list[float]:
        """`1 - max cs` after the pardon, before rescaling; takes the round into the histories."""
        for client, row in zip(clients, view, strict=True):
            self.histories[client] = self.histories.get(client, np.zeros_like(row)) + row
        n = len(clients)
        past = [self.histories[client] for client in clients]
        similar = [[oracles.cosine(a, b) for b in past] for a in past]
        most = [max([0.0, *(similar[i][j] for j in range(n) if j != i)]) for i in range(n)]
        alphas = []
        for i in range(n):
            pardoned = []
            for j in range(n):
                if j != i:
                    pardoned.append(similar[i][j] * (most[i] / most[j] if most[j] > most[i] else 1.0))
            alphas.append(min(max(1.0 - max(pardoned), 0.0), 1.0) if pardoned else 1.0)
        return alphas

    @staticmethod
    def weights(alphas: Sequence[float], combine: str = "mean") -> Array:
        """Rescale by the largest, take the logit and clip; for a mean, divide by the sum."""
        largest, out = max(alphas), []
        for alpha in alphas:
            a = alpha / largest if largest > 0 else 0.0
            logit = 0.0 if a <= 0 else 1.0 if a >= 1 else math.log(a / (1 - a)) + 0.5
            out.append(min(max(logit, 0.0), 1.0))
        total = math.fsum(out) if combine == "mean" else 1.0
        return np.array([value / total if total > 0 else 0.0 for value in out])


# ---------------------------------------------------------------- fldetector


def bfgs(pairs: Sequence[tuple[Array, Array]]) -> Array:
    """The Hessian after one BFGS update a pair, oldest first, from `sigma I`: what the compact form is equal to.

    Gives NaN where an update divides by what is all but zero: there rounding decides.
    """
    last_s, last_y = pairs[-1]
    width = len(last_s)
    if oracles.norm(last_s) == 0:
        return np.zeros((width, width))
    hessian = float(last_y @ last_s) / float(last_s @ last_s) * np.eye(width)
    for s, y in pairs:
        hs = hessian @ s
        curve, along = float(s @ hs), float(y @ s)
        tiny = abs(curve) < 1e-3 * oracles.norm(s) * oracles.norm(hs) or abs(along) < 1e-3 * oracles.norm(
            s
        ) * oracles.norm(y)
        if tiny or oracles.norm(y) == 0 or oracles.norm(s) == 0:
            return np.full((width, width), np.nan)
        hessian = hessian - np.outer(hs, hs) / curve + np.outer(y, y) / along
    return hessian


def spread_within(values: Array, groups: int) -> float:
    """The least within-group sum of squares of numbers in one or two groups."""

    def around(part: Array) -> float:
        return float(((part - part.mean()) ** 2).sum())

    if groups == 1:
        return around(values)
    ordered = np.sort(values)
    return min(around(ordered[:cut]) + around(ordered[cut:]) for cut in range(1, len(values)))


@cache
def reference_gains(n: int) -> tuple[float, float]:
    """From where to where, over many draws, lies `s_2` plus what a second group gains on 10 uniform sets."""
    gains = []
    for seed in range(80):
        uniform = np.random.default_rng(seed).uniform(size=(10, n))
        one, two = (np.log([spread_within(each, k) for each in uniform]) for k in (1, 2))
        gains.append(one.mean() - two.mean() + two.std() * math.sqrt(1 + 1 / 10))
    return min(gains), max(gains)


def says_two(scores: Array) -> bool | None:
    """Whether the gap statistic (Tibshirani et al., 2001) finds two groups: `gap_1 < gap_2 - s_2`.

    `None` where that hangs on the draw of the uniform sets. Of two scores nobody can tell: two groups of one each have
    no spread, and neither have those of a uniform set, so neither gap is a number.
    """
    if scores.max() == scores.min() or len(scores) < 3:
        return False
    rescaled = (scores - scores.min()) / (scores.max() - scores.min())
    one, two = spread_within(rescaled, 1), spread_within(rescaled, 2)
    gain = math.inf if two == 0 else math.log(one) - math.log(two)
    low, high = reference_gains(len(scores))
    # Another draw is hardly ever far beyond all of eighty.
    room = (high - low) / 3
    return None if low - room < gain < high + room else bool(gain > high)


def upper_group(scores: Array) -> set[int] | None:
    """The places of the higher of two groups by optimal 2-means; none where two cuts are about as good."""
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    costs = [spread_within(ordered[:cut], 1) + spread_within(ordered[cut:], 1) for cut in range(1, len(scores))]
    best = int(np.argmin(costs))
    width = float(ordered[-1] - ordered[0])
    runner = min([*costs[:best], *costs[best + 1 :], math.inf])
    if runner - costs[best] < 1e-6 * width**2:
        return None
    return {int(i) for i in order[best + 1 :]}


@dataclass
class FLDetector:
    """Zhang et al. (KDD 2022): who is not where a Hessian of the global updates predicts is malicious."""

    window: int = 10
    steps: list[Array] = field(default_factory=list)
    last: dict[int, Array] = field(default_factory=dict)
    errors: dict[int, list[float]] = field(default_factory=dict)
    number: int = 0
    unsure: bool = False

    def dropped(self, clients: Sequence[int], view: Array, previous: Array) -> set[int] | None:
        """The clients to leave out this round; `None` where a rounding or the draw of the sets decides."""
        self.number += 1
        if self.number >= 2:
            self.steps.append(previous)
        if self.number >= 3:
            self._score(clients, view)
        self.last.update(zip(clients, view, strict=True))
        judged = [client for client in clients if len(self.errors.get(client, [])) >= self.window]
        if not judged:
            return set()
        if self.unsure:
            return None
        scores = np.array([np.mean(self.errors[client][-self.window :]) for client in judged])
        # Scores that agree to a billionth are equal but for rounding, and then a rescaling blows rounding up.
        if scores.max() - scores.min() <= 1e-9 * scores.max():
            return set() if scores.max() == scores.min() else None
        two = says_two(scores)
        if two is False:
            return set()
        higher = upper_group(scores)
        return None if two is None or higher is None else {judged[place] for place in higher}

    def _score(self, clients: Sequence[int], view: Array) -> None:
        pairs = [(a, b - a) for a, b in itertools.pairwise(self.steps)][-self.window :]
        change = bfgs(pairs) @ self.steps[-1]
        self.unsure |= not np.isfinite(change).all()
        known = [i for i, client in enumerate(clients) if client in self.last]
        errors = [oracles.distance(view[i], self.last[clients[i]] + change) for i in known]
        mean = math.fsum(errors) / len(errors) if errors else 0.0
        for i, error in zip(known, errors, strict=True):
            self.errors.setdefault(clients[i], []).append(error / mean if mean > 0 else 0.0)


# ---------------------------------------------------------------- lomar


def log_sum(values: Sequence[float]) -> float:
    top = max(values)
    return top + math.log(math.fsum(math.exp(value - top) for value in values))


def log_kernel(squared: float, width: float, stretch: float = 1.0) -> float:
    """The exponent of a Gaussian kernel; 0 at no distance, however narrow the kernel."""
    if squared == 0:
        return 0.0
    return max(-stretch * squared / (2 * width * width), -1e300) if width * width > 0 else -1e300


def nearest_others(table: Array, k: int) -> list[list[int]]:
    n = len(table)
    return [sorted((j for j in range(n) if j != i), key=lambda j: (float(table[i, j]), j))[:k] for i in range(n)]


def lomar_factors(view: Array, neighbours: int | None = None, slack: float = 0.0) -> list[tuple[float, float]]:
    """Between which numbers `log F_i` lies where every distance may be off by a share `slack` of itself.

    Rows that are about as near as the last neighbour may stand for it, unless the slack is 0: then rows rank by id.
    """
    n = len(view)
    k = min(neighbours or max(n // 2, 1), n - 1)
    table = oracles.distances(view)
    near = nearest_others(table, k)
    width = middle([float(table[i, near[i][-1]]) for i in range(n)])
    dense = [
        [
            log_sum([log_kernel(float(table[i, j]) ** 2, width, stretch) for j in near[i]]) - math.log(k)
            for i in range(n)
        ]
        for stretch in (1 + 5 * slack, 1 - 5 * slack)
    ]
    factors = []
    for i in range(n):
        edge = float(table[i, near[i][-1]])
        sure = [j for j in near[i] if slack == 0 or table[i, j] < edge * (1 - 2 * slack)]
        maybe = [j for j in range(n) if j != i and j not in sure and table[i, j] <= edge * (1 + 2 * slack)]
        left = k - len(sure)
        ends = []
        for low in (True, False):
            chosen = sorted((dense[0 if low else 1][j] for j in maybe), reverse=not low)[:left]
            around = log_sum([dense[0 if low else 1][j] for j in sure] + chosen)
            ends.append(around - math.log(k) - dense[1 if low else 0][i])
        factors.append((ends[0], ends[1]))
    return factors


def lomar_kept(view: Array, f: int, neighbours: int | None = None) -> list[int]:
    """The `n - f` smallest factors (Li et al., TDSC 2021), ties by id."""
    return oracles.lowest([low for low, _ in lomar_factors(view, neighbours)], len(view) - f)


# ---------------------------------------------------------------- fedinv

Tensor = torch.Tensor


def softmax_gradient(weights: Tensor, bias: Tensor, features: Tensor, labels: Tensor) -> Tensor:
    """The gradient of the mean cross-entropy of a linear softmax model, one example at a time, by autograd."""
    w, b = weights.clone().requires_grad_(), bias.clone().requires_grad_()
    loss = torch.zeros((), dtype=weights.dtype)
    for x, y in zip(features, labels, strict=True):
        loss = loss - (y * torch.log_softmax(x @ w + b, dim=0)).sum() / len(features)
    by_weights, by_bias = torch.autograd.grad(loss, (w, b), create_graph=True)
    return torch.cat([by_weights.flatten(), by_bias])


def invert(
    update: Array, weights: Array, bias: Array, start: tuple[Tensor, Tensor], steps: int, rate: float
) -> tuple[Array, Array]:
    """The features and the labels whose gradient points against one update, after so many steps of Adam."""
    w, b = torch.from_numpy(weights), torch.from_numpy(bias)
    target = -torch.from_numpy(update)
    made = [part.double().clone() for part in start]
    moments = [(torch.zeros_like(part), torch.zeros_like(part)) for part in made]
    for step in range(1, steps + 1):
        leaves = [part.clone().requires_grad_() for part in made]
        gradient = softmax_gradient(w, b, leaves[0], torch.softmax(leaves[1], dim=1))
        lengths = gradient.norm() * target.norm()
        loss = 1 - (gradient @ target) / lengths if float(lengths.detach()) > 0 else 0 * gradient.sum()
        slopes = torch.autograd.grad(loss, leaves)
        for place, slope in enumerate(slopes):
            first, second = moments[place]
            first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope * slope
            moments[place] = first, second
            made[place] = made[place] - rate * (first / (1 - 0.9**step)) / (
                torch.sqrt(second / (1 - 0.999**step)) + 1e-8
            )
    return made[0].flatten(1).numpy(), torch.softmax(made[1], dim=1).numpy()


def transport(a: Array, b: Array) -> float:
    """Wasserstein-1 of two equally large sets of points: the cheapest way to pair them, all tried."""
    costs = oracles.distances(np.vstack([a, b]))[: len(a), len(a) :]
    pairings = itertools.permutations(range(len(b)))
    return min(math.fsum(float(costs[i, j]) for i, j in enumerate(pairing)) for pairing in pairings) / len(a)


def fedinv_distances(
    updates: Array,
    weights: Array,
    bias: Array,
    rng: torch.Generator,
    rows: int = 4,
    steps: int = 20,
    rate: float = 0.1,
) -> Array:
    """How far apart the data lie that the clients' updates are inverted to (Zhao et al., AAAI 2022)."""
    width, classes = weights.shape
    start = torch.randn(rows, width, generator=rng), torch.randn(rows, classes, generator=rng)
    points = [np.hstack(invert(update, weights, bias, start, steps, rate)) for update in updates]
    return np.array([[transport(a, b) for b in points] for a in points])


def fedinv_scores(distances: Array, f: int) -> list[float]:
    """The sum of the `n - f - 1` smallest distances to others. Low is trusted."""
    n = len(distances)
    return [math.fsum(sorted(float(distances[i, j]) for j in range(n) if j != i)[: n - f - 1]) for i in range(n)]
