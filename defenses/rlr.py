"""RLR: reverse the step where too few clients agree on its sign (Ozdayi et al., AAAI 2021)."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from agrbench.plugins import Defense
from agrbench.server.rounds import Round


def rlr(round: Round, *, threshold: int | None = None) -> Callable[[Tensor], Tensor]:
    """Return the mean of a column if `|sum of signs| >= threshold`, and minus the mean if not.

    The default threshold, `f + 1`, is more than the malicious clients reach alone. The largest of several values is
    nearly always positive, so the amplified form sees agreement nearly everywhere and reverses little.
    """
    return partial(_signed, threshold=round.byzantine + 1 if threshold is None else threshold)


def _signed(block: Tensor, threshold: int) -> Tensor:
    agreed = block.sign().sum(0).abs() >= threshold
    return torch.where(agreed, 1.0, -1.0).to(block).div(len(block)).expand_as(block)


defense = Defense(
    rlr,
    family="coordinate",
    requires=lambda n, f, *, threshold=None: 2 * f < n and (threshold is None or 1 <= threshold <= n),
    waives={
        "translation": "signs are taken at zero",
        "hull": "it reverses steps",
        "resists": "it reverses steps and bounds none",
    },
)
