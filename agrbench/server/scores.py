"""Score and choose rows: the smallest scores, neighbourhoods, clipping factors, claimed sizes, loss on trusted data."""

from __future__ import annotations

import torch
from torch import Tensor

from agrbench.errors import AgrbenchError
from agrbench.server.rounds import Round

MOST = 1e15  # examples: the largest claim that counts, so that sums of claims stay finite


def smallest(scores: Tensor, count: int) -> Tensor:
    """Mark the `count` smallest of `(rows,)` scores, the first rows on ties: Boolean `(rows,)`."""
    # Rows are in the order of client ids, and malicious ids are drawn at random: breaking ties by row favours nobody.
    kept = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
    kept[scores.argsort(stable=True)[:count]] = True
    return kept


def clipping(norms: Tensor, radius: Tensor | float) -> Tensor:
    """Return the factors that scale larger norms down to `radius`, and 1 for the others: `(rows,)`."""
    return torch.where(norms > radius, radius / norms, 1.0)


def counted(claims: Tensor) -> Tensor:
    """Return claimed numbers of examples as finite weights from 0, of which some are positive: `(rows,)`.

    A claim that is negative, infinite or NaN counts as 0, and one above 1e15 as 1e15. If all count as 0, each counts as
    1: nobody may stop a round by a claim. Beyond that, claims are believed.
    """
    sizes = claims.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).clamp(0, MOST)
    return torch.where(sizes.any(), sizes, 1.0)


def by_size(kept: Tensor, sizes: Tensor) -> Tensor:
    """Weigh the kept rows by size, or equally if each of them has size 0: `(rows,)`, adding up to 1."""
    weights = kept * sizes
    weights = torch.where(weights.any(), weights, kept.to(sizes))
    return weights / weights.sum()


def neighbourhood(distances: Tensor, neighbours: int, power: int = 2) -> Tensor:
    """Sum each row's `neighbours` smallest distances to others (Krum), each to the `power`: `(rows,)`.

    `distances` are squared, `(rows, rows)`.
    """
    others = distances.clone().fill_diagonal_(float("inf"))
    return others.sort(dim=1).values[:, :neighbours].pow(power / 2).sum(1)


def densest(closeness: Tensor, byzantine: int, neighbours: int | None, pairs: bool = False) -> Tensor:
    """Mark the `n - f` rows of the densest neighbourhoods: Boolean `(rows,)`.

    A neighbourhood is a row's `neighbours` closest rows, itself included. Its density is the sum of the row's
    `closeness` `(rows, rows)` to them or, with `pairs`, the sum over all pairs among them.
    """
    nearest = closeness.topk(_neighbours(neighbours, len(closeness)), dim=1)
    density = nearest.values.sum(1)
    if pairs:
        inside = torch.zeros_like(closeness).scatter_(1, nearest.indices, 1.0)
        density = (inside @ closeness * inside).sum(1)
    return smallest(-density, len(closeness) - byzantine)


def at_unit_norm(kept: Tensor, norms: Tensor) -> Tensor:
    """Weigh the kept rows equally, each scaled to norm 1; a row of norm 0 gets weight 0: `(rows,)`."""
    return torch.where(norms > 0, kept / norms, 0.0) / kept.sum()


def judged(round: Round, impact: str) -> tuple[Tensor, Tensor]:
    """Measure the rows of the view on trusted data: loss and accuracy, each `(rows,)`.

    With `impact="leave_one_out"`, each is left out of the mean of all, and both are negated: the higher the loss
    without a row, the less harm it did (Fang et al., USENIX Security 2020). Otherwise each is applied to the global
    model by itself.
    """
    if impact != "leave_one_out":
        return round.server.evaluate(round.view)
    others = (round.view.sum(0) - round.view) / max(round.n - 1, 1)
    loss, accuracy = round.server.evaluate(others)
    return -loss.nan_to_num(nan=float("inf"), posinf=float("inf")), -accuracy  # a NaN comes from the other rows


def lowest_loss(loss: Tensor, byzantine: int) -> Tensor:
    """Mark the `n - f` rows of lowest loss, ties by row (Fang's LRR)."""
    return smallest(loss, len(loss) - byzantine)


def highest_accuracy(loss: Tensor | None, accuracy: Tensor, byzantine: int) -> Tensor:
    """Mark the `n - f` rows of highest accuracy, ties by loss, then by row (Fang's ERR).

    Without `loss`, ties are left to `torch.topk`, whose choice depends on the order of all rows.
    """
    count = len(accuracy) - byzantine
    if loss is None:
        ranked = accuracy.float().topk(count).indices
    else:
        by_loss = loss.argsort(stable=True)
        ranked = by_loss[accuracy[by_loss].argsort(descending=True, stable=True)]
    return torch.zeros_like(accuracy, dtype=torch.bool).index_fill(0, ranked[:count], True)


def _neighbours(neighbours: int | None, n: int) -> int:
    if neighbours is None:
        return n // 2 + 1
    if not n < 2 * neighbours <= 2 * n:
        raise AgrbenchError(f"neighbours={neighbours} of {n} rows; write a number from {n // 2 + 1} to {n}")
    return neighbours
