"""Min-max, or S&H: go as far as the honest diameter allows (Shejwalkar and Houmansadr, NDSS 2021)."""

from typing import Literal

import torch
from torch import Tensor

from agrbench.clients.insider import Insider
from agrbench.clients.perturbations import against, within
from agrbench.plugins import Attack
from agrbench.server.geometry import Geometry


def min_max(
    insider: Insider,
    *,
    direction: Literal["std", "sign", "unit"] = "std",
    version: Literal["exact", "released"] = "exact",
) -> Tensor:
    """Send `v = mu + gamma p` with the largest `gamma` for which `max_i |v - g_i|` is at most the honest diameter `R`.

    `mu` is the honest mean and `p` is `-sigma` (`"std"`, ddof 1), `-sign(mu)` (`"sign"`) or `-mu / |mu|` (`"unit"`).
    `gamma` is exact: with `q = |p|^2`, `a_i = |mu - g_i|^2` and `b_i = <p, mu - g_i>`,
    `gamma = min_i (-b_i + sqrt(b_i^2 + q (R^2 - a_i))) / q`; if `q = 0`, `mu` is sent.

    Knowledge: all honest updates. Space: updates. Sign: against the honest mean. Goal: untargeted.

    Variant: `version="released"` is AgrAmplifier's code: each attacker starts from its own clean update instead of
    `mu`, and `|v - g_i|^2` is compared with `R` instead of `R^2`. The search stops at `gamma = 20`; a clean update that
    is already too far out is sent unchanged. This variant also uses `clean`.
    """
    if version == "released":
        return released(insider.honest, insider.clean, direction)
    rows = insider.honest.double()
    p = against(rows, direction)
    return (rows.mean(0) + within(rows, p) * p).expand(insider.malicious, -1)


def released(honest: Tensor, clean: Tensor, direction: Literal["std", "sign", "unit"]) -> Tensor:
    """Compute each attacker's `v` in float64: `(malicious, parameters)`."""
    rows, own = honest.double(), clean.double()
    p = against(rows, direction)
    q = p @ p
    distances = Geometry(lambda: torch.cat([rows, own])).distances[:, : len(rows)]
    b = (own @ p)[:, None] - rows @ p
    room = distances[: len(rows)].max().sqrt() - distances[len(rows) :]
    gamma = ((-b + (b * b + q * room.clamp(min=0)).sqrt()) / q).amin(1)
    gamma = torch.where((room >= 0).all(1), gamma.nan_to_num(0.0), 0.0).clamp(0, 20)
    return own + gamma[:, None] * p


attack = Attack(
    forge=min_max,
    within=lambda rows, insider, *, version="exact": (
        version != "exact"
        or (torch.cdist(rows.double(), insider.honest.double()).amax(1) ** 2)
        <= (1 + 1e-6) * (insider.honest.double()[:, None] - insider.honest.double()).square().sum(2).max()
    ),
)
