"""Mimic: copy the honest client that stands out most (Karimireddy et al., ICLR 2022)."""

from typing import Literal

import torch
from torch import Tensor

from agrbench.clients.insider import Insider
from agrbench.plugins import Attack
from agrbench.server.history import places


def mimic(insider: Insider, *, warmup: int = 10, version: Literal["exact", "released"] = "exact") -> Tensor:
    """Send honest client `i*`'s update, `i* = argmax |sum_t <z, g_i>|` over the first `warmup` attacked rounds.

    `z` is the direction in which honest updates vary most around `mu`, their mean over these rounds so far. In round
    `t`, counted from 0, Oja's rule turns it to the normalised `t z + sum_i <z, g_i - mu> (g_i - mu)`. In these rounds
    the clean updates are sent. If only some clients take part in a round, `i*` is chosen among those.

    Knowledge: all honest updates, own data. Space: updates. Sign: that of the client copied. Goal: untargeted; it hurts
    when clients' data differ.

    Variant: `version="released"` is the authors' code: `i* = argmax <z, g_i>` of the current round, copied from the
    first attacked round on and kept after `warmup` rounds; the sum in Oja's rule is normalised first. Their experiments
    have `warmup=1`.
    """
    memory = insider.memory
    seen, released = memory.get("rounds", 0), version == "released"
    if seen < max(warmup, 1):
        _watch(insider, seen, released)
        memory["rounds"] = seen + 1
    if seen < warmup and not released:
        return insider.clean
    known = memory["standing"]
    chosen = max(range(len(insider.honest)), key=lambda row: known.get(insider.ids[row], -torch.inf))
    return insider.honest[chosen].expand(insider.malicious, -1)


def _watch(insider: Insider, seen: int, released: bool) -> None:
    """Turn the direction towards the variation around the running mean, and note how far each client stands out."""
    rows, memory = insider.honest.double(), insider.memory
    if not seen:
        start = torch.randn(rows.shape[1], generator=insider.rng, dtype=torch.float64).to(rows.device)
        memory["direction"], memory["sums"] = _unit(start), rows[:0]
        memory["centre"] = torch.zeros_like(start)
    memory["centre"] = (seen * memory["centre"] + rows.mean(0)) / (seen + 1)
    memory["direction"] = _turned(memory["direction"], rows - memory["centre"], seen, released)
    if released:
        memory["standing"] = dict(zip(insider.ids, (rows * memory["direction"]).sum(1).tolist(), strict=True))
        return
    where = torch.tensor(places(memory, "sums", insider.ids), device=rows.device)
    new = len(memory["rows of sums"]) - len(memory["sums"])
    memory["sums"] = torch.cat([memory["sums"], rows.new_zeros(new, rows.shape[1])]).index_add_(0, where, rows)
    along = (memory["sums"] * memory["direction"]).sum(1).abs()
    memory["standing"] = dict(zip(memory["rows of sums"], along.tolist(), strict=True))


def _turned(direction: Tensor, apart: Tensor, seen: int, released: bool) -> Tensor:
    """Take one step of Oja's rule; if nothing varies, the direction stays as it is."""
    step = apart.T @ (apart @ direction)
    turned = seen * direction + (_unit(step) if released else step)
    return _unit(turned) if turned.any() else direction


def _unit(vector: Tensor) -> Tensor:
    length = torch.linalg.vector_norm(vector)
    return vector / length if length > 0 else vector


attack = Attack(
    forge=mimic,
    within=lambda rows, insider: all(
        any(torch.equal(row, other) for other in (*insider.honest, own))
        for row, own in zip(rows, insider.clean, strict=True)
    ),
)
