"""L-flip: train on wrong labels (AgrAmplifier, 2022, Section 4.2.1)."""

from typing import Literal

from torch import Generator

from agrbench.clients.insider import Attacker
from agrbench.clients.poisoning import draw_labels, reverse_labels, shuffle_labels
from agrbench.data.examples import Examples
from agrbench.plugins import Attack


def label_flip(
    shard: Examples, rng: Generator, attacker: Attacker, *, map: Literal["shuffle", "reverse", "pool"] = "shuffle"
) -> Examples:
    """Permute each malicious client's labels at random, and send the update trained on them.

    Knowledge: own data (`map="pool"`: all clients' labels). Space: data. Sign: that of the poisoned update. Goal:
    untargeted.

    Variants: `map="reverse"` replaces label `y` by `C - 1 - y`; `map="pool"` draws labels from those of all clients, as
    the authors' code does.
    """
    if map == "pool":
        return draw_labels(shard, attacker.labels, rng)
    return shuffle_labels(shard, rng) if map == "shuffle" else reverse_labels(shard)


attack = Attack(poison=label_flip)
