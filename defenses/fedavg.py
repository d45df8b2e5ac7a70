"""FedAvg: the plain mean of all updates (McMahan et al., AISTATS 2017)."""

import torch
from torch import Tensor

from agrbench.plugins import Defense
from agrbench.rounds import Round


def fedavg(round: Round) -> Tensor:
    """Trust everybody alike: `(clients,)`."""
    return torch.ones(len(round.view), dtype=torch.bool, device=round.view.device)


defense = Defense(
    fedavg,
    family="baseline",
    amplifier=None,
    waives={"resists": "it is the baseline", "amplified": "it judges nothing"},
)
