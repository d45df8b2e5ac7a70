"""MDA: average the subset of updates with the smallest diameter (Rousseeuw, 1985; El Mhamdi et al., 2020)."""

from torch import Tensor

from agrbench.plugins import Defense
from agrbench.server.rounds import Round
from agrbench.server.subsets import tightest


def mda(round: Round) -> Tensor:
    """Average the `n - f` rows of smallest diameter, the lexicographically first set of several: `(rows,)`."""
    return tightest(round.geometry.distances, round.n - round.byzantine)


defense = Defense(
    mda,
    family="distance",
    requires=lambda n, f: 2 * f < n,
    waives={
        "permutation": "many sets may have the same two farthest rows; it takes the first of them",
        "ties": "the same",
    },
    # The step is within 2f / (n - f) diameters of the honest mean; diameter^2 <= 2 (n - f) mean squared deviations.
    bound=lambda n, f: 8 * f * f / (n - f),
    proof="after Farhadkhani et al., ICML 2022",
)
