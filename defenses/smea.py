"""SMEA: average the subset of updates with the smallest top covariance eigenvalue (Allouah et al., ICML 2023)."""

from math import comb
from typing import Literal

from torch import Tensor

from agrbench.plugins import Defense
from agrbench.server.rounds import Round
from agrbench.server.subsets import flattened, flattest


def smea(round: Round, *, search: Literal["exact", "greedy"] = "exact") -> Tensor:
    """Average the `n - f` rows whose covariance has the smallest top eigenvalue, the first set of several: `(rows,)`.

    Variant: `search="greedy"` repeatedly drops the row without which the eigenvalue is smallest; it is ours, for cases
    with too many subsets to try.
    """
    find = flattest if search == "exact" else flattened
    return find(round.geometry.distances, round.n - round.byzantine)


defense = Defense(
    smea,
    family="spectral",
    requires=lambda n, f, *, search="exact": 2 * f < n and (search == "greedy" or comb(n, f) <= 100_000),
    # The set shares n - 2f rows with the honest one. Each mean's squared distance to the mean of these is at most
    # f / (n - 2f) top eigenvalues.
    bound=lambda n, f, *, search="exact": 4 * f / (n - 2 * f) if search == "exact" else None,
    proof="after Allouah et al., ICML 2023",
)
