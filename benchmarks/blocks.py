"""How large blocks of clients should be: seconds a round of the released schedule, beside a plain loop over clients.

python benchmarks/blocks.py [THREADS]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch
from tabulate import tabulate
from torch import nn

from agrbench import schedules
from agrbench.federation import Examples
from agrbench.models import mlp
from agrbench.schedules import Schedule, Trainer
from agrbench.training import learner

CLIENTS, ROWS, FEATURES, CLASSES, HIDDEN = 50, 80, 446, 30, (512, 1024)
EPOCHS, BATCHES, RATE = 2, 5, 1e-3


def main(threads: int) -> None:
    """Print seconds a round by the size of a block."""
    torch.set_num_threads(threads)
    rng = torch.Generator().manual_seed(0)
    shards = [
        Examples(
            (torch.rand(ROWS, FEATURES, generator=rng) < 0.12).float(),
            torch.randint(CLASSES, (ROWS,), generator=rng),
            CLASSES,
        )
        for _ in range(CLIENTS)
    ]
    model = learner(mlp(*HIDDEN), (FEATURES,), CLASSES, rng)
    rows = []
    for size in (24, 26, 28, 30):
        schedules.BLOCK = 1 << size
        trainer = Trainer(model, shards, Schedule("adam", RATE, EPOCHS, BATCHES))
        rows.append((f"{1 << (size - 20)} MiB", len(trainer.blocks), seconds(lambda: trainer.train(model.initial))))  # noqa: B023
    rows.append(("plain loop", CLIENTS, seconds(lambda: plain(shards))))
    print(tabulate(rows, headers=(f"block, {threads} thread(s)", "blocks", "seconds a round"), floatfmt=".2f"))


def plain(shards: list[Examples]) -> None:
    """Train client by client, as a textbook would."""
    module = mlp(*HIDDEN)((FEATURES,), CLASSES)
    for shard in shards:
        optimizer = torch.optim.Adam(module.parameters(), RATE)
        for _ in range(EPOCHS):
            for features, labels in zip(
                shard.features.tensor_split(BATCHES), shard.labels.tensor_split(BATCHES), strict=True
            ):
                optimizer.zero_grad()
                torch.autograd.backward(nn.functional.cross_entropy(module(features), labels))
                optimizer.step()


def seconds(run: Callable[[], object], times: int = 3) -> float:
    """Give the least of a few runs, after one that is not counted."""
    run()
    spent = []
    for _ in range(times):
        began = time.perf_counter()
        run()
        spent.append(time.perf_counter() - began)
    return min(spent)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
