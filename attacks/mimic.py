"""Mimic: copy the honest client that stands out most (Karimireddy et al., ICLR 2022)."""

import torch
from torch import Tensor

from agrbench.clients.insider import Insider
from agrbench.plugins import Attack
from agrbench.server.history import places


def mimic(insider: Insider, *, warmup: int = 10) -> Tensor:
    """Send honest client `i*`'s update, `i* = argmax |sum <z, g_i>|` over the first `warmup` attacked rounds.

    `z` is the direction in which honest updates vary most, tracked by Oja's rule through these rounds, in which the
    clean updates are sent. If only some clients take part in a round, `i*` is chosen among those.

    Knowledge: all honest updates, own data. Space: updates. Sign: that of the client copied. Goal: untargeted; it hurts
    when clients' data differ.
    """
    memory = insider.memory
    seen = memory.get("rounds", 0)
    if seen < max(warmup, 1):
        _watch(insider, seen)
        memory["rounds"] = seen + 1
    if seen < warmup:
        return insider.clean
    if "standing" not in memory:
        memory["standing"] = (memory["sums"] * memory["direction"]).sum(1).abs()
    chosen = _standing(insider).argmax()
    return insider.honest[chosen].expand(insider.malicious, -1)


def _standing(insider: Insider) -> Tensor:
    """Return how far each honest client that takes part stands out; one not seen in the first rounds has -1."""
    standing: Tensor = insider.memory["standing"]
    rows = torch.tensor(places(insider.memory, "sums", insider.ids), device=standing.device)
    seen = rows < len(standing)
    return torch.where(seen, standing[rows.clamp(max=len(standing) - 1)], -1.0)


def _watch(insider: Insider, seen: int) -> None:
    """Turn the direction towards this round's variation, and add this round's updates to the sums."""
    rows, memory = insider.honest.double(), insider.memory
    if not seen:
        start = torch.randn(rows.shape[1], generator=insider.rng, dtype=torch.float64).to(rows.device)
        memory["direction"], memory["sums"] = torch.nn.functional.normalize(start, dim=0), rows[:0]
    apart = rows - rows.mean(0)
    turned = (seen * memory["direction"] + apart.T @ (apart @ memory["direction"])) / (seen + 1)
    length = torch.linalg.vector_norm(turned)
    if length > 0:
        memory["direction"] = turned / length
    where = torch.tensor(places(memory, "sums", insider.ids), device=rows.device)
    new = len(memory["rows of sums"]) - len(memory["sums"])
    memory["sums"] = torch.cat([memory["sums"], rows.new_zeros(new, rows.shape[1])]).index_add_(0, where, rows)


attack = Attack(
    forge=mimic,
    within=lambda rows, insider: all(
        any(torch.equal(row, other) for other in (*insider.honest, own))
        for row, own in zip(rows, insider.clean, strict=True)
    ),
)
