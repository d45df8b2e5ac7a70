"""Norm clipping: scale each update down to the median norm (after Sun et al., 2019)."""

from torch import Tensor

from agrbench.plugins import Defense
from agrbench.server.ranks import middle
from agrbench.server.rounds import Round
from agrbench.server.scores import clipping


def norm_clipping(round: Round) -> Tensor:
    """Average the updates, each times `min(1, median norm / its norm)`: `(rows,)`.

    Sun et al. clip to a fixed norm, which is `clip(radius=...)+fedavg`; the median is our choice.
    """
    return clipping(round.norms, middle(round.norms)) / len(round.norms)


defense = Defense(
    norm_clipping,
    family="norm",
    requires=lambda n, f: 2 * f < n,
    amplifier=None,
    waives={
        "amplified": "it reads norms, which are those of the originals",
        "translation": "norms are taken at the origin",
        "hull": "it clips towards zero",
    },
)
