"""Krum: trust the one update closest to its neighbours (Blanchard et al., NeurIPS 2017)."""

from typing import Literal

from torch import Tensor

from agrbench.plugins import Defense
from agrbench.server.rounds import Round
from agrbench.server.scores import neighbourhood, smallest


def krum(round: Round, *, neighbours: Literal["paper", "byzfl"] = "paper", power: Literal[1, 2, 4] = 2) -> Tensor:
    """Pick the row whose `n - f - 2` nearest *other* rows have the smallest sum of squared distances: `(rows,)`.

    Variants: `neighbours="byzfl"` sums over `n - f - 1` others, as byzfl 0.0.11 does; `power=4` squares squared
    distances, as the code of Karimireddy et al. (ICLR 2022) does; `power=1` does not square them.
    """
    count = round.n - round.byzantine - (2 if neighbours == "paper" else 1)
    return smallest(neighbourhood(round.geometry.distances, count, power), 1)


defense = Defense(
    krum,
    family="distance",
    requires=lambda n, f: 2 * f + 2 < n,
    # Theirs is 6 (n - f) / (n - 2f), for one more neighbour: of n - f - 2 and the row itself, n - 2f - 1 are honest.
    bound=lambda n, f, *, neighbours="paper", power=2: (
        6 * (n - f) / (n - 2 * f - (neighbours == "paper")) if power == 2 else None
    ),
    proof="Allouah et al., AISTATS 2023",
)
