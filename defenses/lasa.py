"""LASA: per layer, keep clipped and sparsified updates of middling norm and sign (Xu et al., WACV 2025)."""

from math import floor

import torch
from torch import Tensor

from agrbench.plugins import Defense
from agrbench.server.ranks import middle
from agrbench.server.rounds import Round
from agrbench.server.scores import clipping
from agrbench.threads import each

BLOCK = 1 << 20  # entries that one thread works on at once: rows of a large model are selected from one by one


def lasa(round: Round, *, sparsity: float = 0.3, norm_limit: float = 1.0, sign_limit: float = 1.0) -> Tensor:
    """Average, layer by layer, the clipped updates whose norm and share of positive signs lie near the median.

    Rows are clipped to the median norm, and judged by their `1 - sparsity` share of largest entries: a layer keeps a
    client whose norm and sign purity there lie within so many standard deviations of the median, `(rows, layers)`.
    Where all agree, all are kept; a layer that keeps nobody is left as it is. The largest of several values is nearly
    always positive, so that signs say little in the amplified form.
    """
    factors = clipping(round.norms, middle(round.norms))
    sizes = [layer.size for layer in round.view_layout.layers]
    blocks = torch.split(round.view, max(BLOCK // sum(sizes), 1))
    measured = each(lambda rows: _measured(_sparsified(rows, sparsity), sizes), blocks, round.device)
    norms, purity = torch.cat(list(measured), dim=1)
    fine = 64 * torch.finfo(round.view.dtype).eps  # what rounding alone may make of equal norms
    kept = _near(norms * factors[:, None], norm_limit, fine) & _near(purity, sign_limit, fine)
    weights = kept * factors[:, None] / kept.sum(0).clamp(min=1)
    alike = len(sizes) == len(round.layout.layers)
    return weights if alike else weights[:, round.view_layout.layer_of.to(weights.device)]


def _measured(sparse: Tensor, sizes: list[int]) -> Tensor:
    """Give each row's norm and sign purity in each layer: `(2, rows, layers)`."""
    layers = torch.split(sparse, sizes, dim=1)
    norms = [torch.linalg.vector_norm(layer, dim=1, dtype=torch.float64) for layer in layers]
    return torch.stack([torch.stack(norms, dim=1), torch.stack([_purity(layer) for layer in layers], dim=1)])


def _sparsified(rows: Tensor, sparsity: float) -> Tensor:
    """Write 0 in place of the smallest entries of each row, up to those that equal the least one kept."""
    size = rows.abs()
    dropped = floor(sparsity * rows.shape[1] + 1e-9)  # 0.7 * 10 is seven tenths of ten, whatever floats say
    least = size.kthvalue(dropped + 1, dim=1, keepdim=True).values
    return torch.where(size >= least, rows, 0.0)


def _purity(layer: Tensor) -> Tensor:
    """Give half of one plus the mean sign of the entries that are not 0; half where all are."""
    return 0.5 * (1 + layer.sign().sum(1).double() / layer.count_nonzero(1).clamp(min=1))


def _near(values: Tensor, limit: float, fine: float) -> Tensor:
    """Say, column by column, who is at most so many standard deviations from the median; all, where all are equal."""
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
