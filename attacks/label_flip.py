"""L-flip: train on wrong labels (AgrAmplifier, 2022, Section 4.2.1)."""

from typing import Literal

from torch import Generator

from agrbench.federation import Examples
from agrbench.plugins import Attack
from agrbench.poisoning import reverse_labels, shuffle_labels


def label_flip(
    shard: Examples, rng: Generator, attacker: int, *, map: Literal["shuffle", "reverse"] = "shuffle"
) -> Examples:
    """Permute each malicious client's labels at random, or (`map="reverse"`) turn label `y` into `C - 1 - y`.

    Uses the malicious clients' own data. Aim: untargeted.
    """
    return shuffle_labels(shard, rng) if map == "shuffle" else reverse_labels(shard)


attack = Attack(poison=label_flip)
