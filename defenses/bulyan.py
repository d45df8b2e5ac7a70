"""Bulyan: select rows by repeated Krum, then average the middle of each column (El Mhamdi et al., ICML 2018)."""

from collections.abc import Callable

import torch
from torch import Tensor

from agrbench.plugins import Defense
from agrbench.server.geometry import distances_to
from agrbench.server.ranks import middle, nearest_to_median
from agrbench.server.rounds import Round
from agrbench.server.scores import neighbourhood

TIE = 1e-12  # scores and distances whose relative difference is smaller count as equal


def bulyan(round: Round) -> Callable[[Tensor], Tensor]:
    """Select `n - 2f` rows by Krum, rescored after each; per column, average their `n - 4f` values nearest the median.

    A score is a sum over `max(remaining - f - 2, 1)` other rows. Ties go to the row nearest to the coordinate-wise
    median of the remaining rows, then to the first client. There always are ties if `f` is 1 or 2: the last rows are
    scored by one neighbour, and two rows that are nearest to each other have the same distance to it.
    """
    n, f = round.n, round.byzantine
    remaining, selected = torch.arange(n, device=round.device), []
    for _ in range(n - 2 * f):
        chosen = _closest(round, remaining, max(len(remaining) - f - 2, 1))
        selected.append(int(remaining[chosen]))
        remaining = torch.cat([remaining[:chosen], remaining[chosen + 1 :]])
    rows = torch.tensor(sorted(selected), device=round.device)

    def weigh(block: Tensor) -> Tensor:
        kept = torch.zeros_like(block, dtype=torch.bool)
        kept[rows] = nearest_to_median(block[rows], n - 4 * f)
        return kept

    return weigh


def _closest(round: Round, remaining: Tensor, neighbours: int) -> int:
    """Return the position of Krum's pick among the remaining rows."""
    distances = round.geometry.distances[remaining[:, None], remaining]
    scores = neighbourhood(distances, neighbours) if len(remaining) > 1 else distances[0]
    tied = (scores <= scores.min() * (1 + TIE)).nonzero().flatten()
    if distances[tied[:, None], tied].max() > 0:
        rows = round.view[remaining]
        away = distances_to(rows[tied], middle(rows)).sqrt()
        tied = tied[away <= away.min() * (1 + TIE)]
    return int(tied[0])


defense = Defense(
    bulyan,
    family="distance",
    requires=lambda n, f: 4 * f + 3 <= n,
)
