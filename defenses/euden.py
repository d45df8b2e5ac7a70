"""EuDen: keep the updates in the densest neighbourhoods by Euclidean distance (AgrAmplifier, 2022, Algorithm 2)."""

from typing import Literal

from torch import Tensor

from agrbench.plugins import Defense
from agrbench.server.rounds import Round
from agrbench.server.scores import at_unit_norm, densest


def euden(round: Round, *, neighbours: int | None = None, score: Literal["row", "released"] = "row") -> Tensor:
    """Average the `n - f` updates with the smallest sum of `neighbours` smallest distances, own 0 included: `(rows,)`.

    `neighbours` must exceed half the rows (default `n // 2 + 1`). Variant: `score="released"` is the authors' code,
    which scales all updates to norm 1 first, adds up the distances of all pairs in a neighbourhood (theirs has 35 rows)
    and averages the kept updates as scaled.
    """
    released = score == "released"
    geometry = round.unit_geometry if released else round.geometry
    kept = densest(-geometry.distances.sqrt(), round.byzantine, neighbours, pairs=released)
    return at_unit_norm(kept, round.norms) if released else kept


defense = Defense(
    euden,
    family="distance",
    requires=lambda n, f, *, neighbours=None: 2 * f < n < 2 * (neighbours or n) <= 2 * n,
)
