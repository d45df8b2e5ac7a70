"""FedAvg: the plain mean of all updates (McMahan et al., AISTATS 2017)."""

import torch
from torch import Tensor

from agrbench.plugins import Defense
from agrbench.server.rounds import Round


def fedavg(round: Round, *, weighted: bool = False) -> Tensor:
    """Weigh all clients equally or, with `weighted=True`, by the number of examples that each claims: `(rows,)`."""
    if weighted:
        return round.sizes / round.sizes.sum()
    return torch.ones(round.n, dtype=torch.bool, device=round.device)


defense = Defense(
    fedavg,
    family="baseline",
    amplifier=None,
    waives={"resists": "it is the baseline", "amplified": "it judges nothing"},
)
