"""CosDen: keep the updates in the densest neighbourhoods by cosine (AgrAmplifier, 2022, Algorithm 2)."""

from torch import Tensor

from agrbench.plugins import Defense
from agrbench.rounds import Round
from agrbench.selection import densest_by_cosine


def cosden(round: Round, *, neighbours: int | None = None) -> Tensor:
    """Average the `n - f` updates with the largest sum of `neighbours` cosines, their own included: `(rows,)`.

    `neighbours` is more than half of the rows; by default `n // 2 + 1`.
    """
    return densest_by_cosine(round.geometry, round.byzantine, neighbours)


defense = Defense(
    cosden,
    family="distance",
    requires=lambda n, f, *, neighbours=None: 2 * f < n and (neighbours or n) <= n,
)
