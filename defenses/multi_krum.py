"""Multi-Krum: average the updates closest to their neighbours (Blanchard et al., NeurIPS 2017)."""

from typing import Literal

from torch import Tensor

from agrbench.plugins import Defense
from agrbench.server.rounds import Round
from agrbench.server.scores import neighbourhood, smallest


def multi_krum(
    round: Round,
    *,
    m: int | None = None,
    neighbours: Literal["paper", "byzfl"] = "paper",
    power: Literal[1, 2, 4] = 2,
) -> Tensor:
    """Average the `m` rows (default `n - f`) with the lowest Krum scores, defined as in `krum`: `(rows,)`.

    Variants: `neighbours="byzfl"` sums over `n - f - 1` others, as byzfl 0.0.11 does; `power=4` squares squared
    distances, as the code of Karimireddy et al. (ICLR 2022) does; `power=1` does not square them.
    """
    n, f = round.n, round.byzantine
    count = n - f - (2 if neighbours == "paper" else 1)
    return smallest(neighbourhood(round.geometry.distances, count, power), n - f if m is None else m)


defense = Defense(
    multi_krum,
    family="distance",
    requires=lambda n, f, *, m=None: 2 * f + 2 < n and (m is None or 1 <= m <= n),
)
