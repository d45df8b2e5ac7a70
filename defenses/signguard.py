"""SignGuard: average clipped updates with ordinary norm and ordinary signs (Xu et al., ICDCS 2022)."""

from math import ceil

import numpy as np
import torch
from sklearn.cluster import MeanShift, estimate_bandwidth
from torch import Tensor

from agrbench.plugins import Defense
from agrbench.server.ranks import middle
from agrbench.server.rounds import Round
from agrbench.server.scores import clipping


def signguard(round: Round, *, share: float = 0.1) -> Tensor:
    """Average the largest sign cluster's rows of 0.1 to 3 times the median norm, clipped to that norm: `(rows,)`.

    Mean shift clusters each row's shares of positive, zero and negative signs on a random `share` of the coordinates,
    with scikit-learn's bandwidth for half of the rows, as in the authors' code.
    """
    radius = middle(round.norms)
    kept = (round.norms >= 0.1 * radius) & (round.norms <= 3 * radius) & _largest_cluster(_signs(round, share))
    return kept * clipping(round.norms, radius) / kept.sum().clamp(min=1)


def _signs(round: Round, share: float) -> Tensor:
    width = round.view.shape[1]
    columns = torch.randperm(width, generator=round.rng)[: ceil(share * width)]
    signs = round.view[:, columns.to(round.device)].sign()
    return torch.stack([(signs == sign).double().mean(1) for sign in (1, 0, -1)], dim=1)


def _largest_cluster(points: Tensor) -> Tensor:
    """Mark the points of the largest cluster, the first of several: Boolean `(rows,)`."""
    values = points.cpu().numpy()
    bandwidth = estimate_bandwidth(values, quantile=0.5)
    if bandwidth > 0:
        labels = MeanShift(bandwidth=bandwidth).fit(values).labels_
    else:
        labels = np.unique(values, axis=0, return_inverse=True)[1].ravel()
    return torch.from_numpy(labels == np.bincount(labels).argmax()).to(points.device)


defense = Defense(
    signguard,
    family="sign",
    requires=lambda n, f, *, share=0.1: 2 * f < n and 0 < share <= 1,
    amplifier=None,
    waives={
        "amplified": "the largest of several values is nearly always positive, so pooled signs say nothing",
        "translation": "norms and signs are taken at the origin",
        "hull": "it clips towards zero",
    },
)
