"""SMEA: average the updates of smallest largest covariance eigenvalue (Allouah et al., ICML 2023)."""

from math import comb
from typing import Literal

from torch import Tensor

from agrbench.plugins import Defense
from agrbench.server.rounds import Round
from agrbench.server.subsets import flattened, flattest


def smea(round: Round, *, search: Literal["exact", "greedy"] = "exact") -> Tensor:
    """Average the `n - f` rows whose covariance has the smallest largest eigenvalue, the first of several: `(rows,)`.

    Variant: `search="greedy"` drops one row at a time, that without which the eigenvalue is smallest; it is ours, for
    where there are too many subsets to try.
    """
    find = flattest if search == "exact" else flattened
    return find(round.geometry.distances, round.n - round.byzantine)


defense = Defense(
    smea,
    family="spectral",
    requires=lambda n, f, *, search="exact": 2 * f < n and (search == "greedy" or comb(n, f) <= 100_000),
    # A set differs from the honest one by f rows, so each mean lies within f / (n - 2f) eigenvalues of that of both.
    bound=lambda n, f, *, search="exact": 4 * f / (n - 2 * f) if search == "exact" else None,
    proof="after Allouah et al., ICML 2023",
)
