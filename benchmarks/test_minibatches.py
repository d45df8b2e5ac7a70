"""Time a round of mini-batches beside a plain loop: `pytest benchmarks/test_minibatches.py --benchmark-enable -s`.

Each of 50 clients takes one step of SGD on 32 images of 28 x 28 pixels, with two threads. The loop is what one writes
first: a module and a `torch.optim.SGD` for each client. Both take turns, and the median ratio of the pairs is asserted.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.utils.flop_counter import FlopCounterMode

from agrbench.cells import Cell
from agrbench.clients.learner import learner
from agrbench.clients.local_training import Trainer
from agrbench.clients.models import named
from agrbench.clients.schedules import Schedule
from agrbench.data.examples import Examples
from agrbench.threads import using

CLIENTS, HELD, ROWS, RATE, SIDE = 50, 100, 32, 0.1, 2048
SHAPE, CLASSES = (1, 28, 28), 10
AT_LEAST = {"mlp(512)": 3.0, "cnn": 0.8}
"""The ratio that each model must reach. A step of the cnn is nearly all convolutions, which both compute alike, at more
than half the speed of a large product."""


def shards() -> list[Examples]:
    rng = torch.Generator().manual_seed(0)
    return [
        Examples(torch.rand(HELD, *SHAPE, generator=rng), torch.randint(CLASSES, (HELD,), generator=rng), CLASSES)
        for _ in range(CLIENTS)
    ]


def plain(model: str, start: Tensor, data: list[Examples]) -> Callable[[], Tensor]:
    """Return a round of the plain loop, which returns the clients' updates."""
    modules = [named(model)(SHAPE, CLASSES) for _ in data]
    optimizers = [torch.optim.SGD(module.parameters(), RATE) for module in modules]

    def step(module: nn.Module, optimizer: torch.optim.Optimizer, shard: Examples) -> Tensor:
        vector_to_parameters(start.clone(), module.parameters())
        rows = torch.randperm(HELD)[:ROWS]
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(module(shard.features[rows]), shard.labels[rows]))
        optimizer.step()
        return parameters_to_vector(module.parameters()).detach() - start

    return lambda: torch.stack([step(*each) for each in zip(modules, optimizers, data, strict=True)])


def flops(call: Callable[[], object]) -> int:
    """Return how many operations the products and convolutions of a call take."""
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


def fastest() -> float:
    """Return the billions of operations per second of a large product on two threads."""
    left = torch.rand(SIDE, SIDE)
    with using(2):
        return 2 * SIDE**3 / min(seconds(lambda: left @ left) for _ in range(10)) / 1e9


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


@pytest.mark.parametrize("model", AT_LEAST)
def test_a_round_of_mini_batches(benchmark: Any, model: str) -> None:
    data, rng = shards(), torch.Generator().manual_seed(0)
    made = learner(named(model), SHAPE, CLASSES, rng)
    schedule = Schedule.of(Cell("digits", "fedavg", "none", schedule=f"sgd(batch={ROWS},steps=1)"), RATE)
    trainer, loop = Trainer(made, data, schedule), plain(model, made.initial, data)
    with using(2):
        turns = [(seconds(loop), seconds(lambda: trainer.train(made.initial))) for _ in range(6)]
        benchmark.pedantic(trainer.train, args=(made.initial,), rounds=3)
    ratios = [theirs / ours for theirs, ours in turns[1:]]  # the first turn allocates
    median = statistics.median(ratios)
    reached = flops(loop) / min(ours for _, ours in turns) / 1e9
    print(
        f"\n{model}: {median:.2f}x as fast as the loop ({min(ratios):.2f} to {max(ratios):.2f}), at {reached:.0f} "
        f"GFLOP/s of the loop's operations; a product of {SIDE} x {SIDE} reaches {fastest():.0f}"
    )
    if benchmark.enabled:
        assert median >= AT_LEAST[model]
