"""Static clipping: scale each update down to a radius before the rule sees it (after Sun et al., 2019)."""

from typing import Literal

from torch import Tensor

from agrbench.plugins import Stage
from agrbench.server.ranks import middle
from agrbench.server.rounds import Round
from agrbench.server.scores import clipping


def clip(round: Round, *, radius: float | Literal["median"] = "median") -> Tensor:
    """Multiply each row by `min(1, radius / its norm)`; norms are those of the originals: `(rows, rows)`.

    By default the radius is the median norm, our choice. Variant: `radius=2` is the default of byzfl 0.0.11.
    """
    return clipping(round.norms, middle(round.norms) if radius == "median" else radius).diag()


stage = Stage(
    mix=clip,
    requires=lambda n, f, *, radius="median": radius == "median" or radius > 0,
    waives={"translation": "norms are taken at the origin", "hull": "it clips towards zero"},
)
