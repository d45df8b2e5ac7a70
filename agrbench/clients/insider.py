"""What attacks receive: a poisoning client's record, the colluders' view of a round, and the call that forges rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from agrbench.layout import Layout
from agrbench.plugins.contract import Attack, Memory
from agrbench.plugins.stack import Loaded, blame
from agrbench.server.checks import what
from agrbench.server.rounds import Lazy


class Attacker(NamedTuple):
    """A malicious client, as seen by the function that poisons its data.

    `number` counts the malicious clients from 0. `labels` `(rows,)` are those of all clients' data, because
    AgrAmplifier's released code draws flipped labels from all of them.
    """

    number: int
    labels: Tensor


def unpooled(rows: Tensor) -> Tensor:
    """Return the rows as they are: the view of a stack without column stages."""
    return rows


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Insider:
    """What the colluding clients see of one round; updates are computed when first read.

    Of the `clients` that take part, `malicious` collude; `byzantine` is the server's bound on them. `honest`
    `(honest, parameters)` holds the honest clients' updates, and `ids` the numbers of these clients (default: counted
    from 0). `clean` `(malicious, parameters)` holds the updates that the malicious clients would send if they were
    honest, and `poisoned`, of the same shape, those trained on their poisoned data. `model` is the global model and
    `previous` the last combined step (0 in the first round), both `(parameters,)`. `number` counts rounds from 1;
    `memory` lasts for the whole run.

    `see(rows)` returns `(k, parameters)` rows as the stack's column stages pool them, `(k, features)`. `respond(rows)`
    returns the step `(parameters,)` that the whole stack would take with these `(malicious, parameters)` rows; the
    stack runs on copies of its memory and random state, so it keeps no trace of the call.
    """

    malicious: int
    clients: int
    byzantine: int
    layout: Layout | None
    number: int
    memory: Memory
    rng: Generator
    ids: tuple[int, ...] = ()
    honest: Lazy[Tensor] = Lazy("the honest updates, (honest, parameters)")
    clean: Lazy[Tensor] = Lazy("the malicious clients' honest updates, (malicious, parameters)")
    poisoned: Lazy[Tensor] = Lazy("updates trained on poisoned data, (malicious, parameters)")
    model: Lazy[Tensor] = Lazy("the global model, (parameters,)")
    previous: Lazy[Tensor] = Lazy("the last combined step, (parameters,)")
    respond: Lazy[Callable[[Tensor], Tensor]] = Lazy("the stack attacked, as a spec", keyword="defense")
    see: Callable[[Tensor], Tensor] = unpooled

    def __post_init__(self) -> None:
        if not self.ids:
            object.__setattr__(self, "ids", tuple(range(self.clients - self.malicious)))


def forge(attack: Loaded[Attack], insider: Insider, parameters: int) -> Tensor:
    """Ask an attack for its `(malicious, parameters)` rows, which may hold any values, NaN included.

    An attack without `forge` sends the updates trained on its poisoned data.

    Raises:
        PluginError: the attack raised, or returned anything else; the message names its file.
    """
    if not insider.malicious:
        return torch.empty(0, parameters)
    with blame(attack, "forge"):
        rows = insider.poisoned if attack.record.forge is None else attack.record.forge(insider)
        if not isinstance(rows, Tensor) or rows.shape != (insider.malicious, parameters):
            raise TypeError(f"forge must return rows of shape ({insider.malicious}, {parameters}), not {what(rows)}")
        return rows


def claim(attack: Loaded[Attack], sizes: Tensor) -> Tensor:
    """Ask an attack how many examples its clients claim to have, from their true `sizes`: both `(malicious,)`.

    An attack without `claim` claims the true numbers.

    Raises:
        PluginError: the attack raised, or returned anything but one real number per client; the message names its file.
    """
    if attack.record.claim is None or not len(sizes):
        return sizes
    with blame(attack, "claim"):
        claimed = attack.record.claim(sizes)
        if not isinstance(claimed, Tensor) or claimed.shape != sizes.shape or claimed.is_complex():
            raise TypeError(f"claim must return numbers of shape ({len(sizes)},), not {what(claimed)}")
        return claimed.to(sizes)
