"""Model replacement: scale the update so averaging yields the poisoned model (Bagdasaryan et al., AISTATS 2020)."""

from typing import Literal

from torch import Generator, Tensor

from agrbench.clients.insider import Attacker, Insider
from agrbench.clients.poisoning import stamp, with_stamped
from agrbench.data.examples import Examples
from agrbench.errors import AgrbenchError
from agrbench.plugins import Attack


def trigger(examples: Examples, *, target: int = 0) -> Examples:
    """Stamp every example and label it as the target: 0.5 in columns 7 and 8, or a white 3x3 square, lower right."""
    return stamp(examples, target)


def poison(shard: Examples, rng: Generator, attacker: Attacker, *, target: int = 0) -> Examples:
    """Add a triggered copy of every clean example, and shuffle."""
    return with_stamped(shard, target, rng)


def model_replacement(insider: Insider, *, eta: float = 1.0, rounds: Literal["every", "first"] = "every") -> Tensor:
    """Send `n / eta` times the poisoned update (poisoned minus global model); `eta` is the server's rate, here 1.

    A single attacker replaces the averaged model; `m` attackers add `m` replacements, or share one with `eta=m`.

    Knowledge: own data, the number of clients. Space: data and updates. Sign: that of the poisoned update. Goal:
    targeted, to have triggered inputs classified as `target`.

    Variant: `rounds="first"` is the single shot: every attacked round after the first sends the clean update.
    """
    if not eta > 0:
        raise AgrbenchError(f"eta is {eta}; write a number above 0")
    if insider.memory.setdefault("first", insider.number) != insider.number and rounds == "first":
        return insider.clean
    return insider.poisoned * (insider.clients / eta)


attack = Attack(poison=poison, forge=model_replacement, trigger=trigger)
