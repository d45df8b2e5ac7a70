"""Gaussian: send noise instead of updates (Blanchard et al., NeurIPS 2017)."""

import torch
from torch import Tensor

from agrbench.clients.insider import Insider
from agrbench.plugins import Attack


def gaussian(insider: Insider, *, deviation: float = 200.0) -> Tensor:
    """Send independent normal numbers with mean 0 and standard deviation `deviation`.

    Knowledge: only the number of parameters. Space: updates. Sign: none. Goal: untargeted.
    """
    shape = insider.malicious, insider.honest.shape[1]
    return deviation * torch.randn(shape, generator=insider.rng, dtype=torch.float64)


attack = Attack(forge=gaussian)
