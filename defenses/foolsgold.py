"""FoolsGold: distrust clients whose histories point the same way (Fung et al., RAID 2020)."""

from typing import Literal

import torch
from torch import Tensor

from agrbench.plugins import Defense
from agrbench.server.geometry import Geometry
from agrbench.server.history import kept_rows
from agrbench.server.rounds import Round

ALIKE = 1e-12  # one minus a cosine below this is rounding


def foolsgold(round: Round, *, combine: Literal["mean", "sum"] = "mean") -> Tensor:
    """Weigh by `logit(1 - max_j cs_ij) + 0.5`, clipped to [0, 1], with `cs` the cosines of summed updates: `(rows,)`.

    A cosine with a client of larger maximum cosine is pardoned: scaled by the ratio of the two maxima. `1 - max` is
    divided by its largest value before the logit. If all clients look the same, all are sybils and the step is zero.

    Variant: `combine="sum"` is the authors' code, which adds up the weighted updates; by default the weights are
    divided by their sum, so that the step is a mean.
    """
    rows = kept_rows(round, "history", 0.0)
    history = rows.table[rows.ids].add_(round.view)
    rows.table[rows.ids] = history
    cosines = (1 - Geometry(lambda: history).angles).fill_diagonal_(0)
    most = cosines.amax(1).clamp(min=0)
    pardon = torch.where(most > most[:, None], most[:, None] / most, 1.0)
    trust = 1 - (cosines * pardon).amax(1).clamp(0, 1)
    if trust.max() <= ALIKE:
        return torch.zeros_like(trust)
    trust = ((trust / trust.max()).logit() + 0.5).clamp(0, 1)
    return trust if combine == "sum" else trust / trust.sum()


defense = Defense(
    foolsgold,
    family="history",
    waives={
        "unanimity": "identical updates are sybils to it",
        "hull": "where all clients are alike, all are sybils, and the step is zero",
        "translation": "cosines are angles at the origin",
        "regrouped": "it remembers what each client sent",
    },
)
