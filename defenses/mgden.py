"""MgDen: keep the updates that both CosDen and EuDen keep (AgrAmplifier, 2022, Section 4.3.1)."""

from torch import Tensor

from agrbench.plugins import Defense
from agrbench.rounds import Round
from agrbench.selection import densest_by_cosine, densest_by_distance


def mgden(round: Round, *, neighbours: int | None = None) -> Tensor:
    """Average the intersection of both lists, which is never empty while `2f < n`: `(rows,)`.

    `neighbours` is more than half of the rows; by default `n // 2 + 1`.
    """
    by_cosine = densest_by_cosine(round.geometry, round.byzantine, neighbours)
    return by_cosine & densest_by_distance(round.geometry, round.byzantine, neighbours)


defense = Defense(
    mgden,
    family="distance",
    requires=lambda n, f, *, neighbours=None: 2 * f < n and (neighbours or n) <= n,
)
