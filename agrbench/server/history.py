"""Helpers for rules with memory: a row per client, the higher of two clusters of scores, and how gradients change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from agrbench.errors import Inapplicable
from agrbench.plugins.contract import Memory
from agrbench.server.geometry import Geometry
from agrbench.server.rounds import Round

REFERENCES = 10  # uniform random sets that the scores are compared with


class Kept(NamedTuple):
    """A table `(clients, features)`, written in place, and the row numbers of this round's clients."""

    table: Tensor
    ids: Tensor


def kept_rows(round: Round, name: str, fill: float) -> Kept:
    """Return the table that `round.memory` keeps under `name`, with rows of `fill` for clients not heard before.

    The table has a row for each client heard so far, whatever their numbers.

    Raises:
        Inapplicable: if a stage regrouped the rows, which leaves their clients unknown.
    """
    if round.clients is None:
        raise Inapplicable("it remembers what each client sent, and a stage before it regrouped them")
    ids = torch.tensor(places(round.memory, name, round.clients), device=round.device)
    table = round.memory.get(name, round.view.new_empty(0, round.view.shape[1]))
    missing = len(round.memory[f"rows of {name}"]) - len(table)
    if missing > 0:
        table = round.memory[name] = torch.cat([table, table.new_full((missing, table.shape[1]), fill)])
    return Kept(table, ids)


def places(memory: Memory, name: str, clients: Sequence[int]) -> list[int]:
    """Return the clients' row numbers in the table `name` of a memory; a client not seen before gets the next one."""
    known: dict[int, int] = memory.setdefault(f"rows of {name}", {})
    return [known.setdefault(client, len(known)) for client in clients]


def upper_cluster(scores: NDArray[np.float64], rng: Generator) -> NDArray[np.bool_]:
    """Mark the higher of two clusters, or nobody if the gap statistic finds only one (Tibshirani et al., 2001)."""
    nobody = np.zeros(len(scores), dtype=bool)
    if len(scores) < 3 or scores.min() == scores.max():  # two scores always fit two clusters
        return nobody
    low, high = scores.min(), scores.max()
    scaled = (scores - low) / (high - low)
    references = torch.rand(REFERENCES, len(scores), generator=rng, dtype=torch.float64).numpy()
    one, two, cut = _dispersions(np.vstack([scaled, references]))
    gaps = [np.log(each[1:]).mean() - np.log(each[0]) for each in (one, two)]
    wobble = np.log(two[1:]).std() * np.sqrt(1 + 1 / REFERENCES)
    if gaps[0] >= gaps[1] - wobble:
        return nobody
    above: NDArray[np.bool_] = scaled >= np.sort(scaled)[cut[0]]
    return above


def _dispersions(sets: NDArray[np.float64]) -> Sequence[NDArray[np.float64]]:
    """Return squares summed within one cluster and the best two, and the size of the lower: each `(sets,)`."""
    # Trying all cuts finds the optimum that k-means searches for, so no random start can change a verdict.
    ranked = np.sort(sets, axis=1)
    counts, sums, squares = np.arange(1, ranked.shape[1]), ranked.cumsum(1), (ranked**2).sum(1)
    below, total = sums[:, :-1], sums[:, -1:]
    halves = squares[:, None] - below**2 / counts - (total - below) ** 2 / (ranked.shape[1] - counts)
    one = squares - total[:, 0] ** 2 / ranked.shape[1]
    least = np.finfo(np.float64).tiny  # two clusters fit two distinct values exactly, and 0 has no logarithm
    return one, halves.min(1).clip(min=least), halves.argmin(1) + 1


def curvature(steps: Tensor) -> Tensor:
    """Predict how updates change after the last of `steps`, oldest first: `(k, features)` to `(features,)`.

    This is the L-BFGS Hessian `B` of the pairs (a step, the next step minus it) times the last step, from the steps'
    inner products alone. It is 0 if there are fewer than two steps or the last but one is 0.
    """
    k = len(steps)
    inner = Geometry(lambda: steps).gram
    moves = torch.eye(k, dtype=inner.dtype, device=inner.device)
    starts, changes = moves[:-1], moves[1:] - moves[:-1]  # S and Y, as combinations of steps
    if k < 2 or inner[-2, -2] == 0:
        return torch.zeros_like(steps[0])
    sigma = (changes[-1] @ inner @ starts[-1]) / inner[-2, -2]
    across = starts @ inner @ changes.T
    lower = across.tril(-1)
    top = torch.cat([sigma * (starts @ inner @ starts.T), lower], dim=1)
    middle = torch.cat([top, torch.cat([lower.T, -across.diagonal().diag()], dim=1)])
    sides = torch.cat([sigma * starts, changes])
    last = moves[-1]
    product = sigma * last - sides.T @ (torch.linalg.pinv(middle, hermitian=True) @ (sides @ inner @ last))
    change: Tensor = product.to(steps) @ steps
    return change
