"""MDA: average the updates of smallest diameter (Rousseeuw, 1985; El Mhamdi et al., 2020)."""

from torch import Tensor

from agrbench.plugins import Defense
from agrbench.server.rounds import Round
from agrbench.server.subsets import tightest


def mda(round: Round) -> Tensor:
    """Average the `n - f` rows whose two farthest are closest, the lexicographically first of several: `(rows,)`."""
    return tightest(round.geometry.distances, round.n - round.byzantine)


defense = Defense(
    mda,
    family="distance",
    requires=lambda n, f: 2 * f < n,
    waives={
        "permutation": "many sets may have the same two farthest rows; it takes the first of them",
        "ties": "the same",
    },
    # Within 2f / (n - f) diameters of the honest mean, and a squared diameter is at most 2 (n - f) mean deviations.
    bound=lambda n, f: 8 * f * f / (n - f),
    proof="after Farhadkhani et al., ICML 2022",
)
