"""The optimizers that clients train with, one entry each: hyperparameters, default learning rate, state and step.

Steps are PyTorch's functional, fused ones; the trainer keeps the state, so it can be copied, branched and rehearsed.
Importing this file does not load torch, because `agrbench.settings` reads a schedule's hyperparameters from here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from agrbench.specs import Option, number

if TYPE_CHECKING:
    from torch import Tensor

BETAS, EPSILON = (0.9, 0.999), 1e-8  # the defaults of Kingma and Ba (ICLR 2015)


@dataclass(frozen=True)
class Optimizer:
    """One optimizer.

    `options` are its hyperparameters other than the learning rate; `rate` is its default learning rate (`None`: the
    dataset's); `rates` are those that `agrbench tune` tries; `slots(**options)` names the buffers that it keeps for
    each parameter.

    `step(models, gradients, state, rate, **options)` binds the buffers of some clients, each `(clients, parameters)`,
    and returns a function that takes one step for each client in place. `state` holds a buffer of the same shape for
    each slot, and `steps` `(clients,)`, the number of steps that each client has taken.
    """

    step: Callable[..., Callable[[], object]]
    rates: tuple[float, ...]
    rate: float | None = None
    options: Mapping[str, Option] = field(default_factory=dict)
    slots: Callable[..., tuple[str, ...]] = lambda: ()


def _sgd(
    models: Tensor,
    gradients: Tensor,
    state: Mapping[str, Tensor],
    rate: float,
    *,
    momentum: float,
    dampening: float,
    weight_decay: float,
) -> Callable[[], object]:
    from torch.optim.sgd import sgd

    return partial(
        sgd, [models], [gradients], [state.get("velocity")], fused=True, weight_decay=weight_decay,
        momentum=momentum, lr=rate, dampening=dampening, nesterov=False, maximize=False,
    )  # fmt: skip


def _adam(
    models: Tensor, gradients: Tensor, state: Mapping[str, Tensor], rate: float, *, weight_decay: float
) -> Callable[[], object]:
    from torch.optim.adam import adam

    steps = state["steps"]
    alike = bool((steps == steps[0]).all())  # then all clients form one tensor for the optimizer
    counts = [steps.new_full((), float(count), device=models.device) for count in (steps[:1] if alike else steps)]
    rows = [slice(None)] if alike else [slice(row, row + 1) for row in range(len(steps))]
    first, second = ([state[slot][mine] for mine in rows] for slot in ("first", "second"))
    return partial(
        adam, [models[mine] for mine in rows], [gradients[mine] for mine in rows], first, second, [],
        counts, fused=True, amsgrad=False, beta1=BETAS[0], beta2=BETAS[1], lr=rate,
        weight_decay=weight_decay, eps=EPSILON, maximize=False,
    )  # fmt: skip


FRACTION = "a number from 0 to below 1"
WEIGHT_DECAY = {"weight_decay": Option(0.0, "a number from 0", number(0, closed=True))}

OPTIMIZERS: Mapping[str, Optimizer] = {
    "sgd": Optimizer(
        _sgd,
        rates=(0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0),
        options={
            "momentum": Option(0.0, FRACTION, number(0, 1, closed=True)),
            "dampening": Option(0.0, FRACTION, number(0, 1, closed=True)),
            **WEIGHT_DECAY,
        },
        slots=lambda momentum, **_: ("velocity",) if momentum > 0 else (),
    ),
    "adam": Optimizer(
        _adam,
        rates=(1e-4, 3e-4, 1e-3, 3e-3, 1e-2),
        rate=1e-3,
        options=WEIGHT_DECAY,
        slots=lambda **_: ("first", "second"),
    ),
}
"""The optimizers by name; Adam's default rate is from Kingma and Ba (ICLR 2015)."""
