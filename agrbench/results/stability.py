"""Whether runs are stable: where training oscillates without attack, losses are noise in part (docs/metrics.md)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from agrbench.cells import UNATTACKED, UNDEFENDED
from agrbench.results.metrics import Group

FALL = 2.0  # points of accuracy that a stable run may lose from one evaluation to the next


def largest_fall(rounds: Sequence[int], accuracy: Sequence[float], first: int) -> float:
    """Return by how many points accuracy falls, at most, from one evaluation to the next, from round `first` on.

    It is 0 if accuracy never falls, or if there are fewer than two evaluations.
    """
    late = [100 * each for number, each in zip(rounds, accuracy, strict=True) if number >= first]
    return max([0.0, *(before - after for before, after in itertools.pairwise(late))])


def fall(group: Group, seed: int, defense: str = UNDEFENDED, attack: str = UNATTACKED) -> float:
    """Return the largest fall of one run from the first attacked round on; 0 if the group does not have the run."""
    record = group.records.get((defense, attack, seed))
    return largest_fall(record["rounds"], record["accuracy"], group.cell.first) if record else 0.0


def unstable(group: Group, defense: str, attack: str) -> bool:
    """Return whether the loss of any seed is a difference of two unstable runs.

    The first is the run without attack or defense. It counts alone, since an attack that works lets accuracy fall too.
    Its own loss is 0, whatever it does.
    """
    if (defense, attack) == (UNDEFENDED, UNATTACKED):
        return False
    return any(fall(group, seed) > FALL < fall(group, seed, defense, attack) for seed in group.seeds(defense, attack))


def warning(group: Group) -> str | None:
    """Say how unstable a group's runs without attack or defense are, and what to do; `None` if they are stable."""
    falls = {seed: fall(group, seed) for seed in group.every_seed}
    seed = max(falls, key=lambda each: falls[each])
    if falls[seed] <= FALL:
        return None
    return (
        f"{group.spelled or group.dataset} is unstable without attack or defense: accuracy falls by {falls[seed]:.1f} "
        f"points between two evaluations (seed {seed}), so losses are noise in part; choose a lower --rate, as "
        "`agrbench tune` does"
    )
