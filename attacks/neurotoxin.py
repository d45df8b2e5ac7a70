"""Neurotoxin: hide a backdoor where honest clients move the model least (Zhang et al., ICML 2022)."""

from typing import Literal

import torch
from torch import Generator, Tensor

from agrbench.clients.insider import Attacker, Insider
from agrbench.clients.poisoning import stamp, stamp_share
from agrbench.data.examples import Examples
from agrbench.errors import AgrbenchError
from agrbench.plugins import Attack


def trigger(examples: Examples, *, target: int = 0) -> Examples:
    """Stamp every example and label it as the target: 0.5 in columns 7 and 8, or a white 3x3 square, lower right."""
    return stamp(examples, target)


def poison(shard: Examples, rng: Generator, attacker: Attacker, *, share: float = 0.5, target: int = 0) -> Examples:
    """Stamp a random share of the client's examples and label them as the target."""
    return stamp_share(shard, share, stamp(shard, target), rng)


def neurotoxin(insider: Insider, *, top: float = 0.05, mask: Literal["step", "clean"] = "step") -> Tensor:
    """Send the poisoned update with 0 in the share `top` of coordinates where `|last global step|` was largest.

    The update is projected once per round; the paper projects every local step. The default of `top` is from memory of
    the authors' code. The default of `share`, half of the examples stamped, is our choice.

    Knowledge: own data, the last step. Space: data and updates. Sign: that of the poisoned update. Goal: targeted, to
    have triggered inputs classified as `target`.

    Variant: `mask="clean"` spares, for each client, the coordinates where its own clean update was largest, as the
    authors' code does with gradients on clean data; it uses `clean`.
    """
    if not 0 <= top < 1:
        raise AgrbenchError(f"top is {top}; write a share from 0 to below 1")
    moved = insider.previous[None] if mask == "step" else insider.clean
    order = moved.abs().sort(dim=1, descending=True, stable=True).indices
    largest = order[:, : round(top * moved.shape[1])]
    masked = insider.poisoned.scatter(1, largest.expand(len(insider.poisoned), -1), 0.0)
    return torch.where(moved.any(1, keepdim=True), masked, insider.poisoned)


attack = Attack(
    poison=poison,
    forge=neurotoxin,
    trigger=trigger,
    within=lambda rows, insider, *, top=0.05, mask="step": (
        mask != "step"
        or (rows[:, insider.previous.abs() > 0] == 0).sum(1) >= int(top * rows.shape[1]) * bool(insider.previous.all())
    ),
)
