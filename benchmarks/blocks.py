"""How many clients should step at once? Milliseconds per client and step, released schedule, next to a plain module.

python benchmarks/blocks.py [THREADS]

Both sides take ten steps per repetition. The least time and the first decile are robust to other load on the machine.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from tabulate import tabulate
from torch import nn

from agrbench.clients import local_training
from agrbench.clients.learner import learner
from agrbench.clients.local_training import Trainer
from agrbench.clients.models import mlp
from agrbench.clients.schedules import Schedule
from agrbench.data.examples import Examples

ROWS, FEATURES, CLASSES, HIDDEN, RATE = 16, 446, 30, (512, 1024), 1e-3
EPOCHS, STEPS = 10, 400


def main(threads: int) -> None:
    """Print milliseconds per client and step, by the number of clients that step at once."""
    torch.set_num_threads(threads)
    rng = torch.Generator().manual_seed(0)
    features = (torch.rand(ROWS, FEATURES, generator=rng) < 0.12).float()
    shard = Examples(features, torch.randint(CLASSES, (ROWS,), generator=rng), CLASSES)
    model = learner(mlp(*HIDDEN), (FEATURES,), CLASSES, rng)
    local_training.BLOCK = 1 << 40  # all clients in one block
    rows = []
    for clients in (1, 2, 4, 16):
        trainer = Trainer(model, [shard] * clients, Schedule("adam", RATE, epochs=EPOCHS))
        size = trainer.updates.nbytes * (2 + len(trainer.schedule.slots)) / 2**20
        rows.append(
            (f"{clients}", f"{size:.0f} MiB", *milliseconds(partial(trainer.train, model.initial), clients * EPOCHS))
        )
    rows.append(("plain module", "", *milliseconds(plain(shard), EPOCHS)))
    headers = (f"clients at once, {threads} thread(s)", "memory", "least, ms", "first decile", "median")
    print(tabulate(rows, headers=headers, floatfmt=".2f"))


def plain(shard: Examples) -> Callable[[], None]:
    """Return a function that takes textbook steps of a module with its optimizer."""
    module = mlp(*HIDDEN)((FEATURES,), CLASSES)
    optimizer = torch.optim.Adam(module.parameters(), RATE)

    def steps() -> None:
        for _ in range(EPOCHS):
            optimizer.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(module(shard.features), shard.labels))
            optimizer.step()

    return steps


def milliseconds(work: Callable[[], object], steps: int) -> tuple[float, float, float]:
    """Return the least, first decile and median milliseconds per client and step of `work`, which takes `steps`."""
    work()
    spent = []
    for _ in range(max(STEPS // steps, 20)):
        began = time.perf_counter()
        work()
        spent.append(1000 * (time.perf_counter() - began) / steps)
    spent.sort()
    return spent[0], spent[len(spent) // 10], spent[len(spent) // 2]


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
