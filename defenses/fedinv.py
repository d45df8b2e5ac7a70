"""FedInv: invert each update into a few examples, and keep clients with similar ones (Zhao et al., AAAI 2022)."""

from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from agrbench.plugins import Defense
from agrbench.server.rounds import Round
from agrbench.server.scores import neighbourhood, smallest


def fedinv(round: Round, *, rows: int = 4, steps: int = 20, rate: float = 0.1) -> Tensor:
    """Drop the `f` clients with the largest sum of Wasserstein distances to the examples of their `n - f - 1` nearest.

    From one random start, Adam takes `steps` steps of `rate` on `rows` examples and soft labels per client, to point
    their gradient at the global model against the client's update. At best this is exact for one full-batch step. From
    memory of the paper; matching by cosine is ours, because the server does not know the clients' learning rate.
    """
    n = len(round.updates)
    points = _inverted(round, rows, steps, rate).flatten(0, 1).double()
    costs = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist").view(n, rows, n, rows)
    distances = _wasserstein(costs.transpose(1, 2).cpu().numpy())
    squared = torch.from_numpy(distances).square()  # as `neighbourhood` expects
    scores = neighbourhood(squared, n - round.byzantine - 1, power=1)
    return smallest(scores, n - round.byzantine).to(round.updates.device)


def _inverted(round: Round, rows: int, steps: int, rate: float) -> Tensor:
    """Fit each client's examples to its update: `(clients, rows, features and classes)`."""
    model, updates = round.server.gradients, round.updates
    towards = torch.where(round.norms > 0, -1 / round.norms, 0.0)[:, None] * updates
    starts = (torch.randn(rows, *shape, generator=round.rng) for shape in (model.shape, (model.classes,)))
    features, labels = (
        start.to(updates).expand(len(updates), *start.shape).clone().requires_grad_() for start in starts
    )
    optimizer = torch.optim.Adam([features, labels], lr=rate)
    with torch.enable_grad():
        for _ in range(steps):
            optimizer.zero_grad()
            gradients = model.of(features, labels.softmax(-1))
            lengths = torch.linalg.vector_norm(gradients, dim=1).clamp(min=torch.finfo(gradients.dtype).tiny)
            (1 - (gradients * towards).sum(1) / lengths).sum().backward()
            optimizer.step()
    return torch.cat([features.detach().flatten(2), labels.detach().softmax(-1)], dim=2)


def _wasserstein(costs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean cost of the best pairing of each two clients' examples: `(n, n, rows, rows)` to `(n, n)`."""
    n = len(costs)
    distances = np.zeros((n, n))
    for i, j in combinations(range(n), 2):
        distances[i, j] = distances[j, i] = costs[i, j][linear_sum_assignment(costs[i, j])].mean()
    return distances


defense = Defense(
    fedinv,
    family="inversion",
    requires=lambda n, f, *, rows=4, steps=20, rate=0.1: 2 * f < n and rows >= 1 and steps >= 1 and rate > 0,
    amplifier=None,
    waives={
        "amplified": "a pooled row is not a gradient",
        "translation": "a moved update is another gradient",
        "rehearsed": "it inverts every update by gradient descent, and an attack would have it do so 80 times a round",
    },
)
