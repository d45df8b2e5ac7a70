"""Multi-Krum: average the updates closest to their neighbours (Blanchard et al., NeurIPS 2017)."""

from typing import Literal

from torch import Tensor

from agrbench.plugins import Defense
from agrbench.server.rounds import Round
from agrbench.server.scores import by_size, neighbourhood, smallest


def multi_krum(
    round: Round,
    *,
    m: int | None = None,
    neighbours: Literal["paper", "byzfl"] = "paper",
    power: Literal[1, 2, 4] = 2,
    weighted: bool = False,
) -> Tensor:
    """Average the `m` rows (default `n - f`) with the lowest Krum scores, defined as in `krum`: `(rows,)`.

    Variants: `neighbours="byzfl"` sums over `n - f - 1` others, as byzfl 0.0.11 does; `power=4` squares squared
    distances, as the code of Karimireddy et al. (ICLR 2022) does; `power=1` does not square them.
    `weighted=True` averages the same rows by the numbers of examples that they claim. It believes the claims: one
    selected row may claim nearly all of the weight.
    """
    n, f = round.n, round.byzantine
    count = n - f - (2 if neighbours == "paper" else 1)
    kept = smallest(neighbourhood(round.geometry.distances, count, power), n - f if m is None else m)
    return by_size(kept, round.sizes) if weighted else kept


defense = Defense(
    multi_krum,
    family="distance",
    requires=lambda n, f, *, m=None: 2 * f + 2 < n and (m is None or 1 <= m <= n),
)
