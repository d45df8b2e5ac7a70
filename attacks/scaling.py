"""T-Scal: train on triggered copies labelled as the target, scale the update up (Cao et al., NDSS 2021)."""

from torch import Generator, Tensor

from agrbench.federation import Examples
from agrbench.plugins import Attack
from agrbench.poisoning import stamp
from agrbench.rounds import Insider


def trigger(examples: Examples, *, target: int = 0) -> Examples:
    """Stamp every example and label it as the target: columns 7 and 8 at 0.5, or a white 3x3 square, lower right."""
    return stamp(examples, target)


def poison(shard: Examples, rng: Generator, attacker: int, *, target: int = 0) -> Examples:
    """Add a triggered copy of every clean example."""
    return shard.join(stamp(shard, target))


def scaling(insider: Insider) -> Tensor:
    """Send `1 / M_f = n / m` times the poisoned update. Uses `poisoned`. Aim: targeted."""
    return insider.poisoned * (insider.clients / insider.malicious)


attack = Attack(poison=poison, forge=scaling, trigger=trigger)
