"""FLAME: keep the majority of models by angle, clip norms, add noise (Nguyen et al., USENIX Security 2022)."""

import torch
from sklearn.cluster import HDBSCAN
from torch import Tensor

from agrbench.plugins import Defense
from agrbench.plugins.contract import Verdict
from agrbench.server.geometry import angles, products
from agrbench.server.ranks import middle
from agrbench.server.rounds import Round
from agrbench.server.scores import clipping


def flame(round: Round, *, noise: float = 0.001) -> Verdict:
    """Average the rows in HDBSCAN's cluster of local models, each clipped to `S`; add noise of deviation `noise * S`.

    `S` is the median norm of *all* updates. A local model is the global one plus an update, both as the view shows
    them; the cluster contains more than half of the rows. The default noise is from memory of the paper.
    """
    n, radius = round.n, middle(round.norms)
    clusters = HDBSCAN(
        min_cluster_size=n // 2 + 1, min_samples=1, allow_single_cluster=True, metric="precomputed", copy=True
    )
    kept = torch.from_numpy(clusters.fit(_angles(round).cpu().numpy()).labels_ == 0).to(round.device)
    weights = kept * clipping(round.norms, radius) / kept.sum().clamp(min=1)
    return Verdict(weights, noise=noise * float(radius))


def _angles(round: Round) -> Tensor:
    """Return one minus the cosine of each two local models, `(rows, rows)`, from the distances of their updates."""
    # Models nearly coincide: `1 - cos` would lose all digits, but the model's own part cancels in distances.
    model = round.see(round.server.model[None])[0]
    excess = 2 * products(round.view, model) + round.geometry.gram.diagonal()  # beyond the model's own squared norm
    return angles(round.geometry.distances, products(model[None], model) + excess, excess)


defense = Defense(
    flame,
    family="cluster",
    requires=lambda n, f, *, noise=0.001: 2 * f < n and n > 1 and noise >= 0,
    waives={
        "translation": "norms and angles are taken at the origin",
        "unanimity": "it adds noise",
        "hull": "it adds noise, and clips towards zero",
    },
)
