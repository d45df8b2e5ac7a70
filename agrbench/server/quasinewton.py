"""How a gradient changes with the model, estimated from past steps alone (Byrd, Nocedal and Schnabel, 1994)."""

from __future__ import annotations

import torch
from torch import Tensor

from agrbench.server.geometry import Geometry


def curvature(steps: Tensor) -> Tensor:
    """Predict how the update changes after the last of `steps`, oldest first: `(k, features)` to `(features,)`.

    The L-BFGS Hessian `B` of the pairs (a step, the next step minus it) times the last step. Since all vectors are sums
    of steps, it is computed from their inner products. 0 where fewer than two steps, or no movement, are known.
    """
    k = len(steps)
    inner = Geometry(lambda: steps).gram
    moves = torch.eye(k, dtype=inner.dtype, device=inner.device)
    starts, changes = moves[:-1], moves[1:] - moves[:-1]  # S and Y, as sums of steps
    if k < 2 or inner[-2, -2] == 0:
        return torch.zeros_like(steps[0])
    sigma = (changes[-1] @ inner @ starts[-1]) / inner[-2, -2]
    across = starts @ inner @ changes.T
    lower = across.tril(-1)
    top = torch.cat([sigma * (starts @ inner @ starts.T), lower], dim=1)
    middle = torch.cat([top, torch.cat([lower.T, -across.diagonal().diag()], dim=1)])
    sides = torch.cat([sigma * starts, changes])
    last = moves[-1]
    product = sigma * last - sides.T @ (torch.linalg.pinv(middle, hermitian=True) @ (sides @ inner @ last))
    change: Tensor = product.to(steps) @ steps
    return change
