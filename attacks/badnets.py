"""BadNets: train with a share of the examples triggered and labelled as the target (Gu et al., IEEE Access 2019)."""

from torch import Generator

from agrbench.clients.insider import Attacker
from agrbench.clients.poisoning import stamp, stamp_share
from agrbench.data.examples import Examples
from agrbench.plugins import Attack


def trigger(examples: Examples, *, target: int = 0) -> Examples:
    """Stamp every example and label it as the target: 0.5 in columns 7 and 8, or a white 3x3 square, lower right."""
    return stamp(examples, target)


def badnets(shard: Examples, rng: Generator, attacker: Attacker, *, share: float = 0.5, target: int = 0) -> Examples:
    """Stamp a random `share` of each malicious client's examples, label them as `target`, and send the trained update.

    The default, half of the examples, is our choice.

    Knowledge: own data. Space: data. Sign: that of the poisoned update. Goal: targeted, to have triggered inputs
    classified as `target`.
    """
    return stamp_share(shard, share, stamp(shard, target), rng)


attack = Attack(poison=badnets, trigger=trigger)
