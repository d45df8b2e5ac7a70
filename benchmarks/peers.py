"""How fast are the rules compared with byzfl 0.0.11 and torch? 50 updates of a 784 x 1024 layer, float32, 15 malicious.

    python benchmarks/peers.py [THREADS] [REPETITIONS] [WORD]

Both sides take turns in one process on the same updates, and each repetition yields one ratio of their times. The last
rows are the machine's ceilings, measured in the same run. `WORD` keeps only the rules whose name contains it.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from differences import peer
from simulations import fastest, quickest
from tabulate import tabulate
from torch import Tensor

import agrbench
from agrbench.progress import progress

CLIENTS, BYZANTINE, LAYER = 50, 15, (784, 1024)
WIDTH = LAYER[0] * LAYER[1]

Call = Callable[[], object]


class Pair(NamedTuple):
    """Two calls to compare, with their names, and how many times as fast ours should be."""

    ours: str
    theirs: str
    run: Call
    beside: Call
    goal: float


def main(threads: int, repetitions: int, word: str) -> None:
    """Print the rows."""
    made = rows(threads, repetitions, word)
    print(tabulate(made, headers=("what", "measured", "goal", "remark"), disable_numparse=True))


def rows(threads: int = 2, repetitions: int = 7, word: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Yield a row for each pair, then the machine's ceilings."""
    torch.set_num_threads(threads)
    rng = torch.Generator().manual_seed(0)
    updates = torch.randn(WIDTH, generator=rng) + torch.randn(CLIENTS, WIDTH, generator=rng)
    chosen = [pair for pair in pairs(updates) if word in pair.ours]
    with progress("measuring", len(chosen)) as report:
        for pair in chosen:
            ours, theirs, ratio, least, most = compared(pair, repetitions)
            report(pair.ours)
            yield (
                f"{pair.ours}, beside {pair.theirs}",
                f"{ratio:.1f}x ({least:.1f} to {most:.1f})",
                f"{pair.goal:g}x",
                f"{theirs:.1f} ms to {ours:.1f} ms",
            )
    for name, value in ceilings(updates).items():
        yield name, f"{value:.1f}", "-", "a ceiling, measured in the same run"


def pairs(updates: Tensor) -> list[Pair]:
    """List the pairs to measure."""
    byzfl = peer()

    def ours(spec: str) -> Call:
        return partial(agrbench.aggregate, updates, spec, BYZANTINE, [LAYER])

    def of(rule: Any) -> Call:
        return partial(rule, updates)

    pooled = agrbench.amplify(updates, [LAYER])
    krum, multi_krum, nnm = byzfl.Krum(BYZANTINE), byzfl.MultiKrum(BYZANTINE), byzfl.NNM(BYZANTINE)
    return [
        Pair(
            "amplify(out=)",
            "max_pool2d",
            partial(agrbench.amplify, updates, [LAYER], out=pooled),
            partial(torch.nn.functional.max_pool2d, updates.view(-1, 1, *LAYER), 2),
            12,
        ),
        Pair("krum", "byzfl", ours("krum"), of(krum), 4),
        Pair("multi_krum", "byzfl", ours("multi_krum"), of(multi_krum), 4),
        Pair("amp+krum", "byzfl, not amplified", ours("amp+krum"), of(krum), 9),
        Pair("amp+multi_krum", "byzfl, not amplified", ours("amp+multi_krum"), of(multi_krum), 9),
        Pair("amp+krum", "krum", ours("amp+krum"), ours("krum"), 1.5),
        Pair("amp+multi_krum", "multi_krum", ours("amp+multi_krum"), ours("multi_krum"), 1.5),
        Pair("nnm+fedavg", "byzfl, NNM and mean", ours("nnm+fedavg"), lambda: nnm(updates).mean(0), 25),
        Pair("nnm+krum", "byzfl, NNM and Krum", ours("nnm+krum"), lambda: krum(nnm(updates)), 25),
        Pair("geometric_median", "byzfl", ours("geometric_median"), of(byzfl.GeometricMedian()), 8),
        Pair("trimmed_mean", "byzfl", ours("trimmed_mean"), of(byzfl.TrMean(BYZANTINE)), 8),
        Pair("median", "byzfl", ours("median"), of(byzfl.Median()), 8),
        Pair("meamed", "byzfl", ours("meamed"), of(byzfl.Meamed(BYZANTINE)), 8),
    ]


def compared(pair: Pair, repetitions: int) -> list[float]:
    """Return the median milliseconds of both, then the median, smallest and largest ratio."""
    pair.run(), pair.beside()
    times = [(seconds(pair.run), seconds(pair.beside)) for _ in range(repetitions)]
    ratios = [theirs / ours for ours, theirs in times]
    first, second = (1000 * statistics.median(side) for side in zip(*times, strict=True))
    return [first, second, statistics.median(ratios), min(ratios), max(ratios)]


def seconds(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def ceilings(updates: Tensor) -> dict[str, float]:
    """Measure the limits of any kernel: reading the updates, and multiplying large matrices."""
    read = quickest(updates.sum, 10)
    return {
        "reading the updates once, ms": 1e3 * read,
        "reading the updates, GB/s": updates.nbytes / read / 1e9,
        "large products, GFLOP/s": fastest() / 1e9,
    }


if __name__ == "__main__":
    given = sys.argv[1:]
    main(int(given[0]) if given else 2, int(given[1]) if given[1:] else 7, given[2] if given[2:] else "")
