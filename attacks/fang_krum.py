"""Fang's attack on Krum: go as far against the honest mean as Krum accepts (Fang et al., USENIX Security 2020)."""

from typing import Literal

import torch
from torch import Tensor

from agrbench.clients.insider import Insider
from agrbench.plugins import Attack
from agrbench.server.geometry import Geometry
from agrbench.server.scores import neighbourhood

LEAST = 1e-5


def fang_krum(insider: Insider, *, direction: Literal["honest", "all"] = "honest") -> Tensor:
    """Send `-lambda s`, `s` the sign of the honest mean, with `lambda` halved from its bound until Krum picks it.

    The bound is the least sum of distances of an honest client to its `n - m - 2` nearest, over `(n - 2m - 1) sqrt(d)`,
    plus the largest honest norm over `sqrt(d)`. Below 1e-5, the search stops and the last row is sent. If there are too
    many malicious clients for Krum, `n - m - 2` and `n - 2m - 1` count as at least 1.

    Knowledge: all honest updates; it assumes that the defense is Krum with bound `m`. Space: updates. Sign: against the
    honest mean. Goal: untargeted.

    Variant: `direction="all"` takes the sign of the mean of all clients' clean updates, the colluders' own included,
    as public copies of the authors' code do.
    """
    rows, m, n = insider.honest.double(), insider.malicious, insider.clients
    away, root = -_heading(insider, direction), rows.shape[1] ** 0.5
    neighbours = min(max(n - m - 2, 1), len(rows) - 1)
    between = Geometry(lambda: rows).distances
    nearest = neighbourhood(between, neighbours, power=1).min()
    size: Tensor = nearest / (max(n - 2 * m - 1, 1) * root) + torch.linalg.vector_norm(rows, dim=1).max() / root
    while size >= LEAST and not _picked(between, (rows - size * away).square().sum(1), m):
        size = size / 2
    sent: Tensor = size * away
    return sent.expand(m, -1)


def _heading(insider: Insider, direction: str) -> Tensor:
    rows = insider.honest.double()
    return (rows if direction == "honest" else torch.cat([rows, insider.clean.double()])).mean(0).sign()


def _picked(between: Tensor, beside: Tensor, m: int) -> bool:
    """Return whether Krum picks one of `m` equal rows, given squared distances among honest rows and to those rows."""
    honest = len(between)
    distances = between.new_zeros(honest + m, honest + m)
    distances[:honest, :honest], distances[honest:, :honest], distances[:honest, honest:] = (
        between, beside, beside[:, None],
    )  # fmt: skip
    return int(neighbourhood(distances, max(honest - 2, 1)).argmin()) >= honest


attack = Attack(
    forge=fang_krum,
    within=lambda rows, insider, *, direction="honest": rows.sign() * _heading(insider, direction) <= 0,
)
