"""T-Scal: train on triggered copies labelled as the target, and scale the update up (Cao et al., NDSS 2021)."""

from typing import Literal

from torch import Generator, Tensor

from agrbench.clients.insider import Attacker, Insider
from agrbench.clients.poisoning import stamp, with_stamped
from agrbench.data.examples import Examples
from agrbench.plugins import Attack


def trigger(examples: Examples, *, target: int = 0) -> Examples:
    """Stamp every example and label it as the target: 0.5 in columns 7 and 8, or a white 3x3 square, lower right."""
    return stamp(examples, target)


def poison(
    shard: Examples,
    rng: Generator,
    attacker: Attacker,
    *,
    target: int = 0,
    data: Literal["both", "triggered"] = "both",
) -> Examples:
    """Add a triggered copy of every clean example and shuffle, or (`data="triggered"`) keep only triggered copies."""
    return with_stamped(shard, target, rng) if data == "both" else stamp(shard, target)


def scaling(insider: Insider, *, data: Literal["both", "triggered"] = "both") -> Tensor:
    """Send `1 / M_f = n / m` times the poisoned update.

    Knowledge: own data, the numbers of clients and of malicious clients. Space: data and updates. Sign: that of the
    poisoned update. Goal: targeted, to have triggered inputs classified as `target`.

    Variant: `data="triggered"` is the authors' code, which trains on triggered copies alone and sends the clean update
    plus `1 / M_f` times the update trained on them, with the `M_f` that the server assumes. It uses `clean` and
    `byzantine`.
    """
    if data == "both":
        return insider.poisoned * (insider.clients / insider.malicious)
    return insider.clean + insider.poisoned * (insider.clients / max(insider.byzantine, 1))


attack = Attack(poison=poison, forge=scaling, trigger=trigger)
