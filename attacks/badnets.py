"""BadNets: train on a share of examples with a trigger, labelled as the target (Gu et al., IEEE Access 2019)."""

from torch import Generator

from agrbench.clients.insider import Attacker
from agrbench.clients.poisoning import stamp, stamp_share
from agrbench.data.examples import Examples
from agrbench.plugins import Attack


def trigger(examples: Examples, *, target: int = 0) -> Examples:
    """Stamp every example and label it as the target: columns 7 and 8 at 0.5, or a white 3x3 square, lower right."""
    return stamp(examples, target)


def badnets(shard: Examples, rng: Generator, attacker: Attacker, *, share: float = 0.5, target: int = 0) -> Examples:
    """Stamp a random `share` of each malicious client's examples, label them as `target`, and send what they teach.

    That half is stamped by default is our choice.

    Knowledge: own data. Space: data. Sign: that of the poisoned update. Goal: targeted, that triggered inputs go to
    class `target`.
    """
    return stamp_share(shard, share, stamp(shard, target), rng)


attack = Attack(poison=badnets, trigger=trigger)
