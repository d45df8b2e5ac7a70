"""LASA: per layer, average clipped updates with ordinary norm and signs after sparsifying (Xu et al., WACV 2025)."""

from math import floor

import torch
from torch import Tensor

from agrbench.plugins import Defense
from agrbench.server.ranks import middle
from agrbench.server.rounds import Round
from agrbench.server.scores import clipping
from agrbench.threads import each

BLOCK = 1 << 20  # entries that one thread processes at once; a row of a large model is a block by itself


def lasa(round: Round, *, sparsity: float = 0.3, norm_limit: float = 1.0, sign_limit: float = 1.0) -> Tensor:
    """Average, layer by layer, the clipped updates whose norm and share of positive signs are near the median.

    Rows are clipped to the median norm and judged by the `1 - sparsity` share of their largest entries. A layer keeps
    clients within `norm_limit` and `sign_limit` standard deviations of its median norm and purity, `(rows, layers)`. If
    all agree, all are kept; a layer that keeps nobody stays unchanged. The largest of several values is nearly always
    positive, so signs mean little in the amplified form.
    """
    factors = clipping(round.norms, middle(round.norms))
    sizes = [layer.size for layer in round.view_layout.layers]
    blocks = torch.split(round.view, max(BLOCK // sum(sizes), 1))
    measured = each(lambda rows: _measured(_sparsified(rows, sparsity), sizes), blocks, round.device)
    norms, purity = torch.cat(list(measured), dim=1)
    fine = 64 * torch.finfo(round.view.dtype).eps  # the relative spread that rounding alone may cause among equal norms
    kept = _near(norms * factors[:, None], norm_limit, fine) & _near(purity, sign_limit, fine)
    weights = kept * factors[:, None] / kept.sum(0).clamp(min=1)
    alike = len(sizes) == len(round.layout.layers)
    return weights if alike else weights[:, round.view_layout.layer_of.to(weights.device)]


def _measured(sparse: Tensor, sizes: list[int]) -> Tensor:
    """Return each row's norm and sign purity in each layer: `(2, rows, layers)`."""
    layers = torch.split(sparse, sizes, dim=1)
    norms = [torch.linalg.vector_norm(layer, dim=1, dtype=torch.float64) for layer in layers]
    return torch.stack([torch.stack(norms, dim=1), torch.stack([_purity(layer) for layer in layers], dim=1)])


def _sparsified(rows: Tensor, sparsity: float) -> Tensor:
    """Zero the smallest entries of each row, except those that equal the smallest one kept."""
    size = rows.abs()
    dropped = floor(sparsity * rows.shape[1] + 1e-9)  # in floats, 0.29 * 100 falls just short of 29
    least = size.kthvalue(dropped + 1, dim=1, keepdim=True).values
    return torch.where(size >= least, rows, 0.0)


def _purity(layer: Tensor) -> Tensor:
    """Return half of one plus the mean sign of the nonzero entries; one half if all are 0."""
    return 0.5 * (1 + layer.sign().sum(1).double() / layer.count_nonzero(1).clamp(min=1))


def _near(values: Tensor, limit: float, fine: float) -> Tensor:
    """Mark, per column, the rows within `limit` standard deviations of the median; all rows if all are equal."""
    deviation = values.std(0, correction=0)
    varied = deviation > fine * values.abs().amax(0)
    return ~varied | ((values - middle(values)).abs() <= limit * (1 + 1e-9) * deviation)


defense = Defense(
    lasa,
    family="layer",
    requires=lambda n, f, *, sparsity=0.3, norm_limit=1.0, sign_limit=1.0: (
        2 * f < n and 0 <= sparsity < 1 and norm_limit >= 0 and sign_limit >= 0
    ),
    waives={
        "translation": "norms and signs are taken at the origin",
        "hull": "it clips towards zero, and a layer that keeps nobody stays as it is",
    },
)
