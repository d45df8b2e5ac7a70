"""Size inflation: send the clean update reversed, and claim to have many examples (ours, 2026)."""

from torch import Tensor

from agrbench.clients.insider import Insider
from agrbench.errors import AgrbenchError
from agrbench.plugins import Attack


def size_inflation(insider: Insider, *, scale: float = 1.0) -> Tensor:
    """Send minus `scale` times the clean update, and claim `factor` times the true number of examples.

    A rule that ignores sizes sees `sign_flip`. A rule that believes them counts each malicious client `factor` times.

    Knowledge: own data. Space: updates. Sign: against the client's own clean update. Goal: untargeted.
    """
    return -scale * insider.clean.double()


def claim(sizes: Tensor, *, factor: float = 10.0) -> Tensor:
    """Claim `factor` times as many examples as there are: `(malicious,)`."""
    if not factor > 0:
        raise AgrbenchError(f"factor is {factor}; write a number above 0")
    return factor * sizes


attack = Attack(
    forge=size_inflation,
    claim=claim,
    within=lambda rows, insider, *, scale=1.0: (rows + scale * insider.clean.double()).abs() <= 0,
)
