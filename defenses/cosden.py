"""CosDen: keep the updates in the densest neighbourhoods by cosine (AgrAmplifier, 2022, Algorithm 2)."""

from typing import Literal

from torch import Tensor

from agrbench.plugins import Defense
from agrbench.server.rounds import Round
from agrbench.server.scores import at_unit_norm, densest


def cosden(round: Round, *, neighbours: int | None = None, score: Literal["row", "released"] = "row") -> Tensor:
    """Average the `n - f` updates with the largest sum of `neighbours` largest cosines, their own included: `(rows,)`.

    `neighbours` must exceed half the rows (default `n // 2 + 1`). Variant: `score="released"` is the authors' code,
    which adds up the cosines of all pairs in a neighbourhood (theirs has 35 rows) and averages the kept updates scaled
    to norm 1.
    """
    released = score == "released"
    kept = densest(round.geometry.cosines, round.byzantine, neighbours, pairs=released)
    return at_unit_norm(kept, round.norms) if released else kept


defense = Defense(
    cosden,
    family="distance",
    requires=lambda n, f, *, neighbours=None: 2 * f < n < 2 * (neighbours or n) <= 2 * n,
    waives={"translation": "cosines are angles at the origin"},
)
