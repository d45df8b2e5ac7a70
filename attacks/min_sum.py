"""Min-sum: go as far as honest sums of squared distances allow (Shejwalkar and Houmansadr, NDSS 2021)."""

from typing import Literal

from torch import Tensor

from agrbench.clients.insider import Insider
from agrbench.clients.perturbations import against
from agrbench.plugins import Attack
from agrbench.server.geometry import Geometry


def min_sum(insider: Insider, *, direction: Literal["std", "sign", "unit"] = "std") -> Tensor:
    """Send `v = mu + gamma p` with the largest `gamma` for which `sum_i |v - g_i|^2 <= max_i sum_j |g_i - g_j|^2`.

    `mu` is the honest mean and `p` is `-sigma` (`"std"`, ddof 1), `-sign(mu)` (`"sign"`) or `-mu / |mu|` (`"unit"`).
    With `S` the bound and `a_i = |mu - g_i|^2`, exactly `gamma = sqrt((S - sum a_i) / (|H| |p|^2))`, or 0 if `p = 0`.

    Knowledge: all honest updates. Space: updates. Sign: against the honest mean. Goal: untargeted.
    """
    rows = insider.honest.double()
    mu, p = rows.mean(0), against(rows, direction)
    q = p @ p
    furthest = Geometry(lambda: rows).distances.sum(1).max()
    room = (furthest - (rows - mu).square().sum()).clamp(min=0)
    gamma = (room / (len(rows) * q)).sqrt() if q > 0 else q
    return (mu + gamma * p).expand(insider.malicious, -1)


attack = Attack(
    forge=min_sum,
    within=lambda rows, insider: (
        (rows.double()[:, None] - insider.honest.double()).square().sum((1, 2))
        <= (1 + 1e-6) * (insider.honest.double()[:, None] - insider.honest.double()).square().sum((1, 2)).max()
    ),
)
