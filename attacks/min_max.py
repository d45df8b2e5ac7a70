"""Min-max, or S&H: go as far as the honest diameter allows (Shejwalkar and Houmansadr, NDSS 2021)."""

from typing import Literal

import torch
from torch import Tensor

from agrbench.errors import AgrbenchError
from agrbench.geometry import Geometry
from agrbench.plugins import Attack
from agrbench.rounds import Insider


def min_max(insider: Insider, *, direction: Literal["std", "sign", "unit"] = "std") -> Tensor:
    """Send `v = mu + gamma p` with the largest `gamma` for which `max_i |v - g_i|` stays within the honest diameter.

    `mu` is the honest mean and `p` is `-sigma` (`"std"`, ddof 1), `-sign(mu)` (`"sign"`) or `-mu / |mu|` (`"unit"`).
    Exact, from
    `q = |p|^2`, `a_i = |mu - g_i|^2`, `b_i = <p, mu - g_i>`: `gamma = min_i (-b_i + sqrt(b_i^2 + q (R^2 - a_i))) / q`;
    `q = 0` gives `mu`. Uses `honest`, all of it. Aim: untargeted.
    """
    return perturbed(insider.honest, direction).expand(insider.malicious, -1)


def perturbed(honest: Tensor, direction: str) -> Tensor:
    """Compute `v` in float64: `(parameters,)`."""
    rows = honest.double()
    mu = rows.mean(0)
    p = -_direction(rows, mu, direction)
    q = p @ p
    if q == 0:
        return mu
    apart = mu - rows
    a, b = apart.square().sum(1), apart @ p
    diameter = Geometry(lambda: rows).distances.max()
    gamma = ((-b + (b * b + q * (diameter - a).clamp(min=0)).sqrt()) / q).min()
    return mu + gamma * p


def _direction(rows: Tensor, mu: Tensor, direction: str) -> Tensor:
    if direction == "std":
        return rows.std(0, correction=1) if len(rows) > 1 else torch.zeros_like(mu)
    if direction == "sign":
        return mu.sign()
    if direction == "unit":
        return torch.nn.functional.normalize(mu, dim=0)
    raise AgrbenchError(f"direction={direction!r}; write 'std', 'sign' or 'unit'")


attack = Attack(forge=min_max)
