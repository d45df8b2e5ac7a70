"""Zero: send zeros to dilute the honest updates (as in Blanchard et al., NeurIPS 2017)."""

import torch
from torch import Tensor

from agrbench.clients.insider import Insider
from agrbench.plugins import Attack


def zero(insider: Insider) -> Tensor:
    """Send zeros.

    Knowledge: only the number of parameters. Space: updates. Sign: none. Goal: untargeted.
    """
    return torch.zeros(insider.malicious, insider.honest.shape[1], dtype=insider.honest.dtype)


attack = Attack(forge=zero, within=lambda rows, insider: rows == 0)
