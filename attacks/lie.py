"""LIE, a little is enough: hide within the spread of the honest updates (Baruch et al., NeurIPS 2019)."""

import torch
from scipy.stats import norm
from torch import Tensor

from agrbench.clients.insider import Insider
from agrbench.clients.perturbations import against, strongest
from agrbench.errors import AgrbenchError
from agrbench.plugins import Attack


def lie(insider: Insider, *, z: float | None = None, search: bool = False) -> Tensor:
    """Send `mu - z sigma`, `z = Phi^-1((n - m - s) / (n - m))`, with `s = n // 2 + 1 - m` honest clients to win over.

    `mu` and `sigma` (ddof 1) are the honest mean and deviation of each coordinate; this `z` needs `m < n // 2 + 1`.

    Knowledge: all honest updates, the number of clients; with `search`, also how the server would combine any rows.
    Space: updates. Sign: below the honest mean if `z > 0`. Goal: untargeted.

    Variants: `z=1.5` is the fixed value in many code bases. `search=True` takes the `z` from 0 that moves the step of
    the whole stack furthest from `mu`, found each round in 20 rehearsals (first 10; the increment doubles while the
    damage grows, then shrinks by 0.8). This is `Optimal_ALittleIsEnough` of ByzFL 0.0.11 with its defaults, which
    Allouah et al. (AISTATS 2023) use; but ByzFL goes above the mean and asks an aggregator that it is told, and here
    the stack under attack answers.
    """
    if search and z is not None:
        raise AgrbenchError(f"search finds z, and z={z} is given too; write lie(search=True) or lie(z={z})")
    rows = insider.honest.double()
    mu, down = rows.mean(0), against(rows, "std")
    if search:
        factor = strongest(insider, mu, down)
    else:
        factor = _quantile(insider.clients, insider.malicious) if z is None else z
    return torch.where(down < 0, mu + factor * down, mu).expand(insider.malicious, -1)


def _quantile(n: int, m: int) -> float:
    supporters = n // 2 + 1 - m
    if supporters < 1:
        raise AgrbenchError(
            f"it needs fewer than n // 2 + 1 malicious clients, and here n={n}, m={m}; write lie(z=1) to fix z"
        )
    return float(norm.ppf((n - m - supporters) / (n - m)))


attack = Attack(
    forge=lie,
    rehearses=lambda *, search=False: search,
    within=lambda rows, insider, *, z=None, search=False: (
        search
        or (rows.double() - insider.honest.double().mean(0)).abs()
        <= abs(_quantile(insider.clients, insider.malicious) if z is None else z)
        * insider.honest.double().std(0)
        * (1 + 1e-6)
        + 1e-9
    ),
)
