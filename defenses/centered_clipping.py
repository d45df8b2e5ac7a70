"""Centered clipping: step from the last aggregate towards the clipped updates (Karimireddy et al., ICML 2021)."""

from typing import Literal

import torch
from torch import Tensor

from agrbench.plugins import Defense
from agrbench.plugins.contract import Verdict
from agrbench.server.geometry import distances_to
from agrbench.server.ranks import middle
from agrbench.server.rounds import Round
from agrbench.server.scores import clipping
from agrbench.server.weighted_means import from_mean


def centered_clipping(round: Round, *, tau: float | Literal["median"] = "median", steps: int = 1) -> Verdict:
    """Replace `v`, at first the last step, by `v + mean_i (g_i - v) min(1, tau / |g_i - v|)`, `steps` times.

    In the first round `v` starts at 0. Distances are taken in the view, with `v` seen through the same stages.
    `tau="median"` is the median `|g_i - v|`, recomputed at each step. Variants: `tau=10` is the radius of Karimireddy
    et al. without momentum; if no update is that far from `v`, as on the digits, the result is the mean.
    """
    n = round.n
    away = distances_to(round.view, round.see(round.server.previous[None])[0])
    weights = torch.zeros(n + 1, dtype=away.dtype, device=away.device)  # one per row, then that of the last step
    weights[n] = 1
    for step in range(steps):
        apart = (away if step == 0 else from_mean(weights, _bordered(round.geometry.distances, away))[:n]).sqrt()
        shares = clipping(apart, middle(apart) if tau == "median" else tau) / n
        weights = weights * (1 - shares.sum())
        weights[:n] += shares
    return Verdict(weights[:n], previous=float(weights[n]))


def _bordered(distances: Tensor, away: Tensor) -> Tensor:
    """Append one more point to the distance matrix."""
    side = torch.cat([distances, away[None]])
    return torch.cat([side, torch.cat([away, away.new_zeros(1)])[:, None]], dim=1)


defense = Defense(
    centered_clipping,
    family="norm",
    requires=lambda n, f, *, tau="median", steps=1: 2 * f < n and steps >= 1 and (tau == "median" or tau > 0),
    waives={"hull": "it clips towards the last step"},
)
