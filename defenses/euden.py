"""EuDen: keep the updates in the densest neighbourhoods by Euclidean distance (AgrAmplifier, 2022, Algorithm 2)."""

from torch import Tensor

from agrbench.plugins import Defense
from agrbench.rounds import Round
from agrbench.selection import densest_by_distance


def euden(round: Round, *, neighbours: int | None = None) -> Tensor:
    """Average the `n - f` updates with the smallest sum of `neighbours` distances, their own 0 included: `(rows,)`.

    `neighbours` is more than half of the rows; by default `n // 2 + 1`.
    """
    return densest_by_distance(round.geometry, round.byzantine, neighbours)


defense = Defense(
    euden,
    family="distance",
    requires=lambda n, f, *, neighbours=None: 2 * f < n and (neighbours or n) <= n,
)
