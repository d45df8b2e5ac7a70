"""Time the kernels of a round, in groups with meaningful ratios: `pytest benchmarks --benchmark-enable`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import agrbench

BASES = ["cosden", "euden", "mgden", "krum", "median", "trimmed_mean"]
LAYER = (784, 1024)
LOCATION = [(446, 512), (512,), (512, 30), (30,)]


def rows(width: int) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randn(width, generator=rng) + torch.randn(50, width, generator=rng)


@pytest.mark.benchmark(group="pool a layer of 784 x 1024, 50 clients")
@pytest.mark.parametrize("how", ["amplify", "max_pool2d"])
def test_pooling(benchmark: Callable[..., Any], how: str) -> None:
    updates = rows(LAYER[0] * LAYER[1])
    out = agrbench.amplify(updates, [LAYER])
    if how == "amplify":
        benchmark(agrbench.amplify, updates, [LAYER], out=out)
    else:
        benchmark(torch.nn.functional.max_pool2d, updates.view(50, 1, *LAYER), 2)


@pytest.mark.benchmark(group="aggregate 446-512-30, 50 clients, 15 malicious")
@pytest.mark.parametrize("defense", ["fedavg", *BASES, *(f"amp+{base}" for base in BASES)])
def test_aggregating(benchmark: Callable[..., Any], defense: str) -> None:
    updates = rows(446 * 512 + 512 + 512 * 30 + 30)
    benchmark(agrbench.aggregate, updates, defense, 15, LOCATION)
