"""What the grid gains as a tree: the demo's cells run from beginning to end, beside the same cells as branches.

python benchmarks/prefixes.py [STACKS [REPEATS]]

Trunk by trunk (a defense under every attack of the demo, one seed), the two take turns in one process and one thread;
of a trunk's repeats the median counts.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from tabulate import tabulate

from agrbench import grid, suites
from agrbench.branching import Tree
from agrbench.cells import UNATTACKED, Cell
from agrbench.registry import Registry
from agrbench.simulator import load, prepare, simulate


def main(stacks: int | None, repeats: int) -> None:
    """Print the row."""
    print(tabulate(rows(stacks, repeats), headers=("what", "measured", "goal", "remark"), disable_numparse=True))


def rows(stacks: int | None = None, repeats: int = 3) -> Iterator[tuple[str, str, str, str]]:
    """Give the ratio of seconds, what it would be if attacked rounds took no longer than others, and that of rounds."""
    torch.set_num_threads(1)
    registry = Registry()
    (demo,) = suites.choose("demo", [], [], [], 1, {})
    trunks: dict[Cell, list[Cell]] = {}
    for cell in grid.expand([demo], registry):
        trunks.setdefault(cell.trunk, []).append(cell)
    cells = list(trunks.values())[:stacks]
    simulate(cells[0][0], registry)  # what is loaded once
    dataset = registry.dataset(cells[0][0].dataset)
    prepared = prepare(cells[0][0], dataset, load(dataset))
    ways: dict[str, Callable[[Cell], dict[str, Any]]] = {
        "alone": lambda cell: simulate(cell, registry),
        "alone, data kept": lambda cell: simulate(cell, registry, prepared),
        "branches": lambda cell: tree.simulate(cell),
    }
    turns: dict[str, list[list[float]]] = {way: [[] for _ in cells] for way in ways}
    calm: list[list[float]] = [[] for _ in cells]
    for _ in range(repeats):
        tree = Tree(registry)
        for place, mine in enumerate(cells):
            found = {}
            for way, run in ways.items():
                found[way], times = zip(*(timed(run, cell) for cell in mine), strict=True)
                turns[way][place].append(sum(times))
                if way == "alone, data kept":
                    calm[place] += [took for cell, took in zip(mine, times, strict=True) if cell.attack == UNATTACKED]
            for one, other in zip(found["alone"], found["branches"], strict=True):
                assert one["accuracy"] == other["accuracy"] and one["trust"] == other["trust"]
    spent = {way: list(map(statistics.median, places)) for way, places in turns.items()}
    ratios = [alone / branched for alone, branched in zip(spent["alone"], spent["branches"], strict=True)]
    alone, kept, branched = (sum(spent[way]) for way in ways)
    every = [cell for mine in cells for cell in mine]
    played = sum(cell.rounds for cell in every)
    shared = sum((len(mine) - 1) * (mine[0].first - 1) for mine in cells)
    loading, playing = (alone - kept) / len(every), statistics.mean(map(statistics.median, calm)) / every[0].rounds
    limit = (played * playing + len(every) * loading) / ((played - shared) * playing + loading)
    yield (
        f"demo grid, {len(every)} cells: each alone, beside branches of shared prefixes",
        f"{alone / branched:.2f}x ({min(ratios):.2f} to {max(ratios):.2f})",
        "1.25x",
        f"{limit:.2f}x if attacked rounds took as long as others; {kept / branched:.2f}x where data is kept; rounds "
        f"alone allow {played / (played - shared):.2f}x",
    )


def timed(run: Callable[[Cell], dict[str, Any]], cell: Cell) -> tuple[dict[str, Any], float]:
    """Run a cell, and take the seconds."""
    began = time.perf_counter()
    return run(cell), time.perf_counter() - began


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else None, int(sys.argv[2]) if len(sys.argv) > 2 else 3)
