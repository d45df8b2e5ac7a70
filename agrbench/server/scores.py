"""Keep the smallest scores or the middle of each column, clip, score a row by its neighbours: what many rules share."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

from agrbench.errors import AgrbenchError
from agrbench.server.rounds import Round


def smallest(scores: Tensor, count: int) -> Tensor:
    """Mark the `count` smallest of `(rows,)` scores, the first rows on ties: Boolean `(rows,)`."""
    kept = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
    kept[scores.argsort(stable=True)[:count]] = True
    return kept


class Ranks:
    """Each column's values of rank `low` to `high - 1`, of a `(rows, b)` block: their mean, and which rows hold them.

    Ranks count from 0 for the smallest value; equal values rank in the order of their rows.
    """

    def __init__(self, block: Tensor, low: int, high: int) -> None:
        if not 0 <= low < high <= len(block):
            raise ValueError(f"ranks {low} to {high - 1} of {len(block)} rows; write 0 <= low < high <= {len(block)}")
        self._block, self._low, self._high = block, low, high
        self._ranked = _sorted(block)

    @cached_property
    def holders(self) -> Tensor:
        """Give 1 to the rows that hold them and 0 to others: `(rows, b)`, in the block's dtype."""
        block, ranked = self._block, self._ranked
        held = _numbers(torch.le, block, ranked[self._high - 1], block.dtype)
        if self._low:
            held *= _numbers(torch.ge, block, ranked[self._low], block.dtype)
        for at, value, beyond in ((self._low, self._low, torch.le), (self._high, self._high - 1, torch.gt)):
            if 0 < at < len(ranked) and self._may_tie(at):  # then the first rows rank lower
                equal = _numbers(torch.eq, block, ranked[value])
                left = at - _numbers(torch.lt, ranked, ranked[value]).sum(0)
                held -= _numbers(beyond, equal.cumsum(0), left).mul_(equal)
        return held

    def _may_tie(self, at: int) -> bool:
        """Say whether a rank may hold what the one below holds; to ask a device takes longer than to settle no tie."""
        return self._block.device.type != "cpu" or bool((self._ranked[at - 1] == self._ranked[at]).any())

    @property
    def shares(self) -> Tensor:
        """Share evenly among the rows that hold them: `(rows, b)`."""
        return self.holders / (self._high - self._low)

    def mean(self) -> Tensor:
        """Average the values: `(b,)`, to the bit what equal shares of all rows add up to."""
        if self._high - self._low > 2:
            return (self.shares * self._block).sum(0)
        return (self._ranked[self._low : self._high] / (self._high - self._low)).sum(0)  # two add up in any order


def between(block: Tensor, low: int, high: int) -> Tensor:
    """Mark each column's values of rank `low` to `high - 1`, as `Ranks` count: Boolean `(rows, b)`."""
    return Ranks(block, low, high).holders.bool()


def ranks_of(weigh: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Ranks] | None:
    """Say which ranks a rule chooses by `between`, if that is all it does: their mean needs no weights."""
    if isinstance(weigh, partial) and weigh.func is between:
        return partial(Ranks, *weigh.args, **weigh.keywords)
    return None


def _numbers(compare: Callable[..., Tensor], one: Tensor, other: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Compare into 1 and 0, in a quarter of the time that truth values take."""
    return compare(one, other, out=torch.empty(one.shape, dtype=dtype, device=one.device))


def _sorted(block: Tensor) -> Tensor:
    """Sort each column; numpy's sort is vectorised and ten times as fast as torch's on a CPU."""
    if block.device.type == "cpu" and block.dtype in (torch.float32, torch.float64):
        return torch.from_numpy(np.sort(block.numpy(), axis=0))
    return block.sort(dim=0).values


def middle(values: Tensor) -> Tensor:
    """Give the median of each column, the mean of the two middle values where there are two: `(b,)`, or one number."""
    ranked = _sorted(values)
    return (ranked[(len(values) - 1) // 2] + ranked[len(values) // 2]) / 2


def nearest_to_median(block: Tensor, count: int) -> Tensor:
    """Mark each column's `count` values nearest to its median, the first rows on ties: Boolean `(rows, b)`."""
    return between((block - middle(block)).abs_(), 0, count)


def clipping(norms: Tensor, radius: Tensor | float) -> Tensor:
    """Give the factors that bring each norm down to `radius` where it is larger: `(rows,)`."""
    return torch.where(norms > radius, radius / norms, 1.0)


def neighbourhood(distances: Tensor, neighbours: int, power: int = 2) -> Tensor:
    """Score each row by its `neighbours` smallest distances to others (Krum), each to the `power`: `(rows,)`.

    `distances` are squared, `(rows, rows)`.
    """
    others = distances.clone().fill_diagonal_(float("inf"))
    return others.sort(dim=1).values[:, :neighbours].pow(power / 2).sum(1)


def densest(closeness: Tensor, byzantine: int, neighbours: int | None, pairs: bool = False) -> Tensor:
    """Mark the `n - f` rows of the densest neighbourhoods: Boolean `(rows,)`.

    A neighbourhood is a row's `neighbours` closest rows, itself included. It is as dense as the sum of the row's
    `closeness` `(rows, rows)` to them; or, with `pairs`, the sum over all pairs among them.
    """
    nearest = closeness.topk(_neighbours(neighbours, len(closeness)), dim=1)
    density = nearest.values.sum(1)
    if pairs:
        inside = torch.zeros_like(closeness).scatter_(1, nearest.indices, 1.0)
        density = (inside @ closeness * inside).sum(1)
    return smallest(-density, len(closeness) - byzantine)


def at_unit_norm(kept: Tensor, norms: Tensor) -> Tensor:
    """Share evenly among the rows kept, each scaled to norm 1; a row of norm 0 stays as it is: `(rows,)`."""
    return torch.where(norms > 0, kept / norms, 0.0) / kept.sum()


def judged(round: Round, impact: str) -> tuple[Tensor, Tensor]:
    """Measure the rows of the view on trusted data: loss and accuracy, each `(rows,)`.

    With `impact="alone"` each is applied to the global model by itself. Otherwise it is left out of the mean of all,
    and both are negated: the higher the loss without a row, the less harm it did (Fang et al., USENIX Security 2020).
    """
    if impact == "alone":
        return round.server.evaluate(round.view)
    others = (round.view.sum(0) - round.view) / max(len(round.view) - 1, 1)
    loss, accuracy = round.server.evaluate(others)
    return -loss.nan_to_num(nan=float("inf"), posinf=float("inf")), -accuracy  # it is the others that are no number


def lowest_loss(loss: Tensor, byzantine: int) -> Tensor:
    """Mark the `n - f` rows of lowest loss, ties by row (Fang's LRR)."""
    return smallest(loss, len(loss) - byzantine)


def highest_accuracy(loss: Tensor, accuracy: Tensor, byzantine: int) -> Tensor:
    """Mark the `n - f` rows of highest accuracy, ties by loss, then by row (Fang's ERR)."""
    by_loss = loss.argsort(stable=True)
    ranked = by_loss[accuracy[by_loss].argsort(descending=True, stable=True)]
    return torch.zeros_like(loss, dtype=torch.bool).index_fill(0, ranked[: len(loss) - byzantine], True)


def _neighbours(neighbours: int | None, n: int) -> int:
    if neighbours is None:
        return n // 2 + 1
    if not n < 2 * neighbours <= 2 * n:
        raise AgrbenchError(f"neighbours={neighbours} of {n} rows; write a number from {n // 2 + 1} to {n}")
    return neighbours
