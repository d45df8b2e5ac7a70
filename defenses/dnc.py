"""DnC: drop the updates farthest along the direction in which they vary most (Shejwalkar & Houmansadr, NDSS 2021)."""

from functools import partial
from math import floor

import torch
from torch import Tensor

from agrbench.plugins import Defense
from agrbench.server.geometry import Geometry
from agrbench.server.rounds import Round
from agrbench.server.scores import smallest
from agrbench.server.weighted_means import principal


def dnc(round: Round, *, coordinates: int = 10_000, iterations: int = 1, removed: float = 1.0) -> Tensor:
    """Drop rows with the `floor(removed * f)` largest squared projections on the top right singular vector: `(rows,)`.

    Each of the `iterations` centres the rows on `coordinates` random columns. The rows kept by all iterations are
    averaged or, if there are none, those kept by the last.
    """
    n = round.n
    even = round.view.new_full((n,), 1 / n, dtype=torch.float64)
    everywhere = torch.ones_like(even, dtype=torch.bool)
    kept = everywhere
    for _ in range(iterations):
        columns = torch.randperm(round.view.shape[1], generator=round.rng)[:coordinates].sort().values
        some = Geometry(partial(round.view.index_select, 1, columns.to(round.device)))
        kept = smallest(principal(some.distances, even).projections, n - floor(removed * round.byzantine + 1e-9))
        everywhere = everywhere & kept
    return everywhere if everywhere.any() else kept


defense = Defense(
    dnc,
    family="spectral",
    requires=lambda n, f, *, coordinates=10_000, iterations=1, removed=1.0: (
        2 * f < n and 0 <= removed * f < n and removed >= 0 and coordinates >= 1 and iterations >= 1
    ),
)
