"""Fang's attack on the trimmed mean: go just beyond the honest extremes (Fang et al., USENIX Security 2020)."""

from typing import Literal

import torch
from torch import Tensor

from agrbench.clients.insider import Insider
from agrbench.errors import AgrbenchError
from agrbench.plugins import Attack


def fang_trimmed_mean(insider: Insider, *, space: Literal["models", "updates"] = "models", b: float = 2.0) -> Tensor:
    """Draw each coordinate beyond the honest extreme on the side opposite to the mean honest update, up to factor `b`.

    Where the mean update is negative, draw from `[max, b max]`, or `[max, max / b]` if the maximum is not positive;
    elsewhere from `[min / b, min]`, or `[b min, min]` if the minimum is not positive. Each client draws independently.

    Knowledge: all honest updates, the global model. Space: local models. Sign: against the honest mean, coordinate by
    coordinate. Goal: untargeted.

    Variant: `space="updates"` uses the extremes of updates instead of local models, which is far weaker.
    """
    if b < 1:
        raise AgrbenchError(f"b is {b}; write 1 or more")
    rows = insider.honest.double()
    origin = insider.model.double() if space == "models" else torch.zeros_like(rows[0])
    top, low = origin + rows.amax(0), origin + rows.amin(0)
    above = torch.stack([top, torch.where(top > 0, b * top, top / b)])
    below = torch.stack([torch.where(low > 0, low / b, b * low), low])
    start, end = torch.where(rows.mean(0) < 0, above, below)
    share = torch.rand(insider.malicious, len(origin), generator=insider.rng, dtype=torch.float64).to(rows.device)
    sent: Tensor = start + share * (end - start) - origin
    return sent


attack = Attack(forge=fang_trimmed_mean)
