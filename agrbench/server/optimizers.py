"""Server optimizers: how far the global model moves, given the step that the defense combined.

`sgd` with momentum is FedAvgM (Hsu et al., 2019). `adagrad`, `yogi` and `adam` are Algorithm 2 of Reddi et al.
(Adaptive Federated Optimization, ICLR 2021), without bias correction, as there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from agrbench import settings

Kept = dict[str, Tensor]
"""What an optimizer keeps from round to round; tensors in it are replaced, never written into."""
Optimizer = Callable[[Tensor, Kept], Tensor]
"""`(step, kept) -> movement of the model`, each `(parameters,)`."""


def named(server: str) -> Optimizer:
    """Return the optimizer that the setting `server` names, such as `sgd(rate=0.5,momentum=0.9)`."""
    term = settings.read("server", server)
    if term.name == "sgd":
        return partial(sgd, **term.arguments)
    return partial(adaptive, term.name, **term.arguments)


def sgd(step: Tensor, kept: Kept, *, rate: float, momentum: float) -> Tensor:
    """Move by `rate` times the step, or times its momentum `v = momentum v + step`, which starts at 0."""
    if momentum:
        step = kept["velocity"] = step + momentum * kept["velocity"] if kept else step
    return step if rate == 1 else rate * step


def adaptive(
    name: str, step: Tensor, kept: Kept, *, rate: float, beta1: float, tau: float, beta2: float = 0.0
) -> Tensor:
    """Move by `rate m / (sqrt(v) + tau)`; `m` averages the steps from 0, and `v` their squares from `tau` squared."""
    square = step.square()
    mean = kept.get("mean", torch.zeros_like(step))
    scale = kept.get("scale", torch.full_like(step, tau**2))
    kept["mean"] = mean = beta1 * mean + (1 - beta1) * step
    if name == "adagrad":
        scale = scale + square
    elif name == "yogi":
        scale = scale - (1 - beta2) * square * torch.sign(scale - square)
    else:
        scale = beta2 * scale + (1 - beta2) * square
    kept["scale"] = scale
    return rate * mean / (scale.sqrt() + tau)
