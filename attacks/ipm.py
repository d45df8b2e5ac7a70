"""IPM: make the aggregate's inner product with the honest mean negative (Xie et al., UAI 2020)."""

import torch
from torch import Tensor

from agrbench.clients.insider import Insider
from agrbench.clients.perturbations import strongest
from agrbench.plugins import Attack


def ipm(insider: Insider, *, epsilon: float = 0.5, search: bool = False) -> Tensor:
    """Send `-epsilon` times the honest mean.

    Knowledge: all honest updates; with `search`, also how the server would combine any rows. Space: updates. Sign:
    against the honest mean. Goal: untargeted.

    Variants: `epsilon=100` is the larger of the paper's two values. `search=True` replaces `epsilon` by the factor from
    0 that moves the step of the whole stack furthest from the honest mean, found each round in 20 rehearsals (first 10;
    the increment doubles while the damage grows, then shrinks by 0.8). This is `Optimal_InnerProductManipulation` of
    ByzFL 0.0.11 with its defaults, which Allouah et al. (AISTATS 2023) use; but ByzFL asks an aggregator that it is
    told, and here the stack under attack answers.
    """
    mean = insider.honest.double().mean(0)
    factor = strongest(insider, torch.zeros_like(mean), -mean) if search else epsilon
    return (-factor * mean).expand(insider.malicious, -1)


attack = Attack(
    forge=ipm,
    rehearses=lambda *, search=False: search,
    within=lambda rows, insider, *, epsilon=0.5, search=False: (
        rows.double() @ insider.honest.double().mean(0) * (1 if search else epsilon) <= 0
    ),
)
