"""G-asc: send the clean update reversed (AgrAmplifier, 2022, Section 4.2.1)."""

from torch import Tensor

from agrbench.clients.insider import Insider
from agrbench.plugins import Attack


def gradient_ascent(insider: Insider) -> Tensor:
    """Send minus the clean update.

    Knowledge: own data. Space: updates. Sign: against the client's own clean update. Goal: untargeted.
    """
    return -insider.clean


attack = Attack(
    forge=gradient_ascent,
    within=lambda rows, insider: rows.norm(dim=1) <= insider.clean.norm(dim=1),
)
