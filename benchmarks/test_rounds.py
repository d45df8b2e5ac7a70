"""Time the stacks of `agrbench bench`, one group per size: `pytest benchmarks/test_rounds.py --benchmark-enable`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import torch

from agrbench import machine
from agrbench.bench.workload import Size, Workload, sizes
from agrbench.errors import Inapplicable
from agrbench.plugins.registry import Registry
from agrbench.simulation import grid
from agrbench.threads import using

REGISTRY = Registry()
SIZES = sizes((20, 50), (25_000, 250_000), 0.2)
SLOW = ("fedinv", "signguard", "smea")  # timed by `agrbench bench` only


@pytest.fixture(autouse=True)
def all_cores() -> Iterator[None]:
    with using(machine.cores()):
        yield


@cache
def work(size: Size) -> Workload:
    return Workload(size, torch.float32, torch.device("cpu"))


def points() -> Iterator[Any]:
    rules = [name for name in REGISTRY.names("defense") if name not in SLOW]
    for size in SIZES:
        for spec in grid.forms(rules, REGISTRY, "both"):
            try:
                REGISTRY.stack(spec).check(size.clients, size.byzantine)
            except Inapplicable:
                continue
            group = f"{size.clients} clients, {size.parameters:,} parameters"
            yield pytest.param(
                size, spec, id=f"{spec}-{size.clients}-{size.parameters}", marks=pytest.mark.benchmark(group=group)
            )


@pytest.mark.parametrize(("size", "spec"), list(points()))
def test_round(benchmark: Callable[..., Any], size: Size, spec: str) -> None:
    at = work(size)
    play = at.rounds(at.judge(REGISTRY.stack(spec)))
    assert play().empty is None
    benchmark(play)
