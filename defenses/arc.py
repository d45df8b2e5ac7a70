"""ARC: clip the largest updates to the next largest norm (Allouah et al., ICLR 2025)."""

from torch import Tensor

from agrbench.plugins import Stage
from agrbench.server.rounds import Round
from agrbench.server.scores import clipping


def arc(round: Round) -> Tensor:
    """Clip the `floor(2f (n - f) / n)` largest norms of the originals to the next largest: `(rows, rows)`."""
    n, f = len(round.norms), round.byzantine
    clipped = 2 * f * (n - f) // n
    return clipping(round.norms, round.norms.sort(descending=True).values[clipped]).diag()


stage = Stage(
    mix=arc,
    requires=lambda n, f: 2 * f < n,
    waives={"translation": "norms are taken at the origin", "hull": "it clips towards zero"},
)
