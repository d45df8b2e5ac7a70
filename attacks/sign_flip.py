"""Sign flip: send the clean update reversed and scaled (Li et al., AAAI 2019)."""

from torch import Tensor

from agrbench.clients.insider import Insider
from agrbench.plugins import Attack


def sign_flip(insider: Insider, *, strength: float = 1.0) -> Tensor:
    """Send minus `strength` times the clean update.

    Knowledge: own data. Space: updates. Sign: against the client's own clean update. Goal: untargeted.
    """
    return -strength * insider.clean.double()


attack = Attack(
    forge=sign_flip,
    within=lambda rows, insider, *, strength=1.0: (rows + strength * insider.clean.double()).abs() <= 0,
)
