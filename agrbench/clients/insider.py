"""What colluding clients see of a round, and how they are asked for the rows that they send."""

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
    """A malicious client, as the function that poisons its data sees it.

    `number` counts the malicious clients from 0; `labels` `(rows,)` are those of all clients' data.
    """

    number: int
    labels: Tensor


def unpooled(rows: Tensor) -> Tensor:
    """Return the rows as they are: the view of a stack without column stages."""
    return rows


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Insider:
    """What the colluding clients see of one round; updates are computed when first read.

    `malicious` of the `clients` collude; `byzantine` is the server's bound on them. `honest` `(honest, parameters)` are
    the honest clients' updates; `clean` `(malicious, parameters)` is what the malicious clients would send if they were
    honest, and `poisoned`, of the same shape, what their poisoned data teaches. `model` holds the global parameters and
    `previous` the last combined step (0 in the first round), both `(parameters,)`. `number` counts rounds from 1;
    `memory` lives as long as the run.

    `see(rows)` shows `(k, parameters)` rows as the stack's column stages pool them, `(k, features)`. `respond(rows)`
    asks what the whole stack would do with these `(malicious, parameters)` rows, and returns the step `(parameters,)`;
    the stack runs on copies of its memory and random state, so it remembers nothing of this.
    """

    malicious: int
    clients: int
    byzantine: int
    layout: Layout | None
    number: int
    memory: Memory
    rng: Generator
    honest: Lazy[Tensor] = Lazy("the honest updates, (honest, parameters)")
    clean: Lazy[Tensor] = Lazy("the malicious clients' honest updates, (malicious, parameters)")
    poisoned: Lazy[Tensor] = Lazy("updates trained on poisoned data, (malicious, parameters)")
    model: Lazy[Tensor] = Lazy("the global model, (parameters,)")
    previous: Lazy[Tensor] = Lazy("the last combined step, (parameters,)")
    respond: Lazy[Callable[[Tensor], Tensor]] = Lazy("the stack attacked, as a spec", keyword="defense")
    see: Callable[[Tensor], Tensor] = unpooled


def forge(attack: Loaded[Attack], insider: Insider, parameters: int) -> Tensor:
    """Ask an attack for its `(malicious, parameters)` rows, which may hold anything, NaN included.

    An attack that forges nothing sends what its poisoned data taught.

    Raises:
        PluginError: the attack raised, or returned something else; the message names its file.
    """
    if not insider.malicious:
        return torch.empty(0, parameters)
    with blame(attack, "forge"):
        rows = insider.poisoned if attack.record.forge is None else attack.record.forge(insider)
        if not isinstance(rows, Tensor) or rows.shape != (insider.malicious, parameters):
            raise TypeError(f"forge must return rows of shape ({insider.malicious}, {parameters}), not {what(rows)}")
        return rows
