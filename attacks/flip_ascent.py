"""L-flip + G-asc: the sum of a label-flipped update and a reversed one (AgrAmplifier, 2022, Section 4.2.1)."""

from typing import Literal

from torch import Generator, Tensor

from agrbench.clients.insider import Attacker, Insider
from agrbench.clients.poisoning import draw_labels, shuffle_labels
from agrbench.data.examples import Examples
from agrbench.plugins import Attack


def poison(
    shard: Examples, rng: Generator, attacker: Attacker, *, map: Literal["shuffle", "pool"] = "shuffle"
) -> Examples:
    """Permute the client's labels at random, or (`map="pool"`, the authors' code) draw them from all clients'."""
    return draw_labels(shard, attacker.labels, rng) if map == "pool" else shuffle_labels(shard, rng)


def flip_ascent(insider: Insider) -> Tensor:
    """Send the poisoned minus the clean update; poisoning permutes the client's own labels at random.

    Knowledge: own data (`map="pool"`: all clients' labels). Space: data and updates. Sign: with the poisoned update,
    against the clean one. Goal: untargeted.

    Variant: `map="pool"` draws labels from those of all clients, as the authors' code does.
    """
    return insider.poisoned - insider.clean


attack = Attack(poison=poison, forge=flip_ascent)
