"""DBA, distributed backdoor: each attacker trains on a quarter of the trigger (Xie et al., ICLR 2020)."""

import torch
from torch import Generator, Tensor

from agrbench.clients.insider import Attacker
from agrbench.clients.poisoning import labelled, no_place, stamp_share
from agrbench.data.examples import Examples
from agrbench.plugins import Attack

PARTS = 4  # bars, as in the paper: BadNets' square of nine pixels cannot be cut into four equal parts


def trigger(examples: Examples, *, target: int = 0) -> Examples:
    """Stamp every example with all four parts and label it as the target."""
    return _stamp(examples, _parts(examples).any(0), target)


def dba(shard: Examples, rng: Generator, attacker: Attacker, *, share: float = 0.5, target: int = 0) -> Examples:
    """Stamp part `k % 4` of the trigger on a random `share` of the examples of attacker number `k`.

    On images the parts are white bars near the upper left corner, up to 4 pixels wide and 2 apart, two in row 0 and two
    in row 3; in tables, 0.5 in column 7, 8, 9 or 10. Success is measured with the whole trigger. The default, half of
    the examples, is our choice.

    Knowledge: own data. Space: data. Sign: that of the poisoned update. Goal: targeted, to have triggered inputs
    classified as `target`.
    """
    part = _parts(shard)[attacker.number % PARTS]
    return stamp_share(shard, share, _stamp(shard, part, target), rng)


def _parts(examples: Examples) -> Tensor:
    """Mark the entries of each part of the trigger: `(4, *shape of an example)`."""
    shape = tuple(examples.features.shape[1:])
    marked = torch.zeros(PARTS, *shape, dtype=torch.bool, device=examples.features.device)
    if len(shape) == 3 and min(shape[1:]) >= PARTS:
        wide = min(PARTS, shape[2] // PARTS)
        for part, (row, column) in enumerate((row, column) for row in (0, 3) for column in (0, wide + 2)):
            marked[part, :, row, column : column + wide] = True
    elif len(shape) == 1 and shape[0] >= 7 + PARTS:
        marked[:, 7 : 7 + PARTS] = torch.eye(PARTS, dtype=torch.bool)
    else:
        raise no_place(examples, "tables of 11 columns or more, or images (channels, height, width) of 4 x 4 or more")
    return marked


def _stamp(examples: Examples, marked: Tensor, target: int) -> Examples:
    value = 1.0 if marked.ndim == 3 else 0.5
    return labelled(examples._replace(features=examples.features.masked_fill(marked, value)), target)


attack = Attack(poison=dba, trigger=trigger)
