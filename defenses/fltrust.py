"""FLTrust: weigh each update by its cosine to the server's own, scaled to the server's norm (Cao et al., NDSS 2021)."""

from typing import Literal

import torch
from torch import Tensor

from agrbench.plugins import Defense
from agrbench.server.geometry import distances_to, products
from agrbench.server.rounds import Round


def fltrust(round: Round, *, norm: Literal["original", "pooled"] = "original") -> Tensor:
    """Return `TS_i / sum TS * |g_0| / |g_i|`, with `TS_i = relu(cos(view of g_i, view of g_0))`: `(rows,)`.

    The cosine is taken in the view; rescaling uses the original norms (AgrAmplifier, 2022, Algorithm 4). An update of
    norm 0 gets weight 0; if all scores are 0, the step is zero.

    Variant: `norm="pooled"` is AgrAmplifier's code, in which `|g_0|` is the norm of the view of `g_0`. The two are the
    same unless a stage such as `amp` comes before.
    """
    root = round.see(round.server.root[None])
    origin = torch.zeros_like(root[0])
    lengths = (distances_to(round.view, origin) * distances_to(root, origin)).sqrt()
    seen = (round.norms > 0) & (lengths > 0)
    scores = torch.where(seen, torch.relu(products(round.view, root[0])) / lengths, 0.0)
    total = scores.sum()
    if total == 0:
        return torch.zeros_like(round.norms)
    own = round.server.root if norm == "original" else root[0]
    rescale = torch.linalg.vector_norm(own).double() / round.norms.double()
    weights: Tensor = torch.where(scores > 0, scores / total * rescale, 0.0)
    return weights


defense = Defense(
    fltrust,
    family="trust",
    waives={
        "translation": "cosines are angles at the origin",
        "unanimity": "the step is as long as the server's own update",
        "hull": "updates are rescaled to the norm of the server's own",
    },
)
