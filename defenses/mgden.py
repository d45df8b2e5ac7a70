"""MgDen: keep the updates that both CosDen and EuDen keep (AgrAmplifier, 2022, Section 4.3.1)."""

from typing import Literal

from torch import Tensor

from agrbench.plugins import Defense
from agrbench.server.rounds import Round
from agrbench.server.scores import at_unit_norm, densest


def mgden(round: Round, *, neighbours: int | None = None, score: Literal["row", "released"] = "row") -> Tensor:
    """Average the updates that both CosDen and EuDen keep; if `2f < n`, there always are some: `(rows,)`.

    `neighbours` must exceed half the rows (default `n // 2 + 1`). Variant: `score="released"` takes both lists from the
    authors' code (see `cosden` and `euden`) and averages the kept updates scaled to norm 1.
    """
    released = score == "released"
    geometry = round.unit_geometry if released else round.geometry
    by_cosine = densest(round.geometry.cosines, round.byzantine, neighbours, pairs=released)
    kept = by_cosine & densest(-geometry.distances.sqrt(), round.byzantine, neighbours, pairs=released)
    return at_unit_norm(kept, round.norms) if released else kept


defense = Defense(
    mgden,
    family="distance",
    requires=lambda n, f, *, neighbours=None: 2 * f < n < 2 * (neighbours or n) <= 2 * n,
    waives={"translation": "cosines are angles at the origin"},
)
