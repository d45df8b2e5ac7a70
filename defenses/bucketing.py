"""Bucketing: replace the updates by the means of random buckets (Karimireddy et al., ICLR 2022)."""

import torch
from torch import Tensor

from agrbench.plugins import Stage
from agrbench.server.rounds import Round


def bucketing(round: Round, *, size: int = 2) -> Tensor:
    """Average random buckets of `size` rows; one bucket may be smaller: `(buckets, rows)`.

    The bound on malicious rows stays the same, because each of them may spoil a different bucket.
    """
    n = round.n
    # Buckets are in the order of their first client: buckets of one row then change nothing.
    buckets = sorted(sorted(bucket.tolist()) for bucket in torch.split(torch.randperm(n, generator=round.rng), size))
    mix = torch.zeros(len(buckets), n, dtype=torch.float64, device=round.device)
    for row, bucket in enumerate(buckets):
        mix[row, bucket] = 1 / len(bucket)
    return mix


def rows(n: int, *, size: int = 2) -> int:
    """Count the buckets."""
    return -(-n // size)


stage = Stage(
    mix=bucketing,
    rows=rows,
    requires=lambda n, f, *, size=2: size >= 1,
    waives={
        "permutation": "buckets are drawn among rows as they stand",
        "ties": "buckets are drawn among rows as they stand",
    },
)
