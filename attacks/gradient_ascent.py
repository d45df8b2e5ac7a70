"""G-asc: send the clean update reversed (AgrAmplifier, 2022, Section 4.2.1)."""

from typing import Literal

from torch import Generator, Tensor

from agrbench.clients.insider import Attacker, Insider
from agrbench.clients.poisoning import draw_labels
from agrbench.data.examples import Examples
from agrbench.plugins import Attack


def poison(shard: Examples, rng: Generator, attacker: Attacker) -> Examples:
    """Draw the client's labels from all clients'; only `version="released"` trains on them."""
    return draw_labels(shard, attacker.labels, rng)


def gradient_ascent(insider: Insider, *, version: Literal["exact", "released"] = "exact") -> Tensor:
    """Send minus the clean update.

    Knowledge: own data. Space: updates. Sign: against the client's own clean update. Goal: untargeted.

    Variant: `version="released"` is the authors' code, whose attackers also train on labels drawn from all clients'.
    That update is never sent, but its steps stay in the optimizer's state, such as Adam's.
    """
    if version == "released":
        _ = insider.poisoned  # trains
    return -insider.clean


attack = Attack(
    poison=poison,
    forge=gradient_ascent,
    within=lambda rows, insider, *, version="exact": rows.norm(dim=1) <= insider.clean.norm(dim=1),
)
