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
from agrbench.cells import Cell
from agrbench.registry import Registry
from agrbench.simulator import load, prepare, simulate


def main(stacks: int | None, repeats: int) -> None:
    """Print the row."""
    print(tabulate(rows(stacks, repeats), headers=("what", "measured", "goal", "remark"), disable_numparse=True))


def rows(stacks: int | None = None, repeats: int = 3) -> Iterator[tuple[str, str, str, str]]:
    """Give the ratio of seconds, and the ratio of rounds that bounds what sharing rounds alone can gain."""
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
    ways: dict[str, Callable[[list[Cell]], list[dict[str, Any]]]] = {
        "alone": lambda mine: [simulate(cell, registry) for cell in mine],
        "alone, data kept": lambda mine: [simulate(cell, registry, prepared) for cell in mine],
        "branches": lambda mine: [tree.simulate(cell) for cell in mine],
    }
    turns: dict[str, list[list[float]]] = {way: [[] for _ in cells] for way in ways}
    for _ in range(repeats):
        tree = Tree(registry)
        for place, mine in enumerate(cells):
            found = {}
            for way, run in ways.items():
                began = time.perf_counter()
                found[way] = run(mine)
                turns[way][place].append(time.perf_counter() - began)
            for one, other in zip(found["alone"], found["branches"], strict=True):
                assert one["accuracy"] == other["accuracy"]
    spent = {way: list(map(statistics.median, places)) for way, places in turns.items()}
    ratios = [alone / branched for alone, branched in zip(spent["alone"], spent["branches"], strict=True)]
    kept = sum(spent["alone, data kept"]) / sum(spent["branches"])
    every = [cell for mine in cells for cell in mine]
    played = sum(cell.rounds for cell in every)
    shared = sum((len(mine) - 1) * (mine[0].first - 1) for mine in cells)
    yield (
        f"demo grid, {len(every)} cells: each alone, beside branches of shared prefixes",
        f"{sum(spent['alone']) / sum(spent['branches']):.2f}x ({min(ratios):.2f} to {max(ratios):.2f})",
        "1.25x",
        f"{kept:.2f}x where the data is kept anyway; rounds alone allow {played / (played - shared):.2f}x",
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else None, int(sys.argv[2]) if len(sys.argv) > 2 else 3)
