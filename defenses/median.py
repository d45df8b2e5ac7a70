"""Coordinate-wise median; an even number of rows averages the two middle values (Yin et al., ICML 2018)."""

from typing import Literal

from agrbench.plugins import Defense
from agrbench.server.ranks import Between, MiddleBySize
from agrbench.server.rounds import Round


def median(round: Round, *, even: Literal["mean", "lower"] = "mean", weighted: bool = False) -> Between | MiddleBySize:
    """Average the middle values of each column: one for an odd number of rows, two for an even number.

    Variants: `even="lower"` takes the lower of two middle values, as `torch.median` does, and so does AgrAmplifier's
    code; `weighted=True` is the weighted median, in which each row counts as often as it claims to have examples.
    It believes the claims: whoever claims more examples than all others together decides every step alone.
    """
    if weighted:
        return MiddleBySize(round.sizes)
    n = round.n
    low = (n - 1) // 2
    return Between(low, low + 1 if even == "lower" else n // 2 + 1)


defense = Defense(
    median,
    family="coordinate",
    requires=lambda n, f: 2 * f < n,
    bound=lambda n, f, *, weighted=False: None if weighted else 4 * (1 + f / (n - 2 * f)) ** 2,
    proof="Allouah et al., AISTATS 2023",
)
