"""No attack: malicious clients behave honestly."""

from torch import Tensor

from agrbench.clients.insider import Insider
from agrbench.plugins import Attack


def none(insider: Insider) -> Tensor:
    """Send the clean updates.

    Knowledge: own data. Space: updates. Sign: that of the clean update. Goal: none, it is the baseline.
    """
    return insider.clean


attack = Attack(forge=none, waives={"moves": "it is the baseline"})
