"""What does sharing prefixes gain? The demo's cells run from beginning to end, next to the same cells as branches.

python benchmarks/prefixes.py [STACKS [REPEATS]]

The ways take turns on each cell, in one process and one thread; the median of a cell's repeats counts. The range is
over trunks: a trunk is a defense under every attack of the demo, with one seed.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from tabulate import tabulate

from agrbench.cells import UNATTACKED, Cell
from agrbench.plugins.registry import Registry
from agrbench.simulation import grid, suites
from agrbench.simulation.prefixes import Tree
from agrbench.simulation.preparation import load, prepare
from agrbench.simulation.run import simulate


def main(stacks: int | None, repeats: int) -> None:
    """Print the row."""
    print(tabulate(rows(stacks, repeats), headers=("what", "measured", "goal", "remark"), disable_numparse=True))


def rows(stacks: int | None = None, repeats: int = 3) -> Iterator[tuple[str, str, str, str]]:
    """Yield the ratio of seconds, and its limits: the ratios if all shared work were free."""
    torch.set_num_threads(1)
    registry = Registry()
    (demo,) = suites.choose("demo", [], [], [], 1, {})
    trunks: dict[Cell, list[Cell]] = {}
    for cell in grid.expand([demo], registry):
        trunks.setdefault(cell.trunk, []).append(cell)
    stems = list(trunks.values())[:stacks]
    cells = [cell for mine in stems for cell in mine]
    simulate(cells[0], registry)  # warm up: some things load only once
    dataset = registry.dataset(cells[0].dataset)
    prepared = prepare(cells[0], dataset, load(dataset))
    ways: dict[str, Callable[[Cell], dict[str, Any]]] = {
        "alone": lambda cell: simulate(cell, registry),
        "alone, data kept": lambda cell: simulate(cell, registry, prepared),
        "branches": lambda cell: tree.simulate(cell),
    }
    turns: dict[str, dict[Cell, list[float]]] = {way: {cell: [] for cell in cells} for way in ways}
    for _ in range(repeats):
        tree = Tree(registry)
        for cell in cells:
            found = {}
            for way, run in ways.items():
                found[way], took = timed(run, cell)
                turns[way][cell].append(took)
            one, other = found["alone"], found["branches"]
            assert one["accuracy"] == other["accuracy"] and one["trust"] == other["trust"]
    apart, ready, shared = ({cell: statistics.median(took[cell]) for cell in cells} for took in turns.values())
    alone, kept, branched = (sum(spent.values()) for spent in (apart, ready, shared))
    ratios = [sum(apart[cell] for cell in mine) / sum(shared[cell] for cell in mine) for mine in stems]
    playing = statistics.mean(ready[cell] / cell.rounds for cell in cells if cell.attack == UNATTACKED)
    loading = (alone - kept) / len(cells)
    saved = sum(cell.first - 1 for mine in stems for cell in mine[1:]) * playing + (len(cells) - 1) * loading
    even = sum(cell.rounds for cell in cells) * playing + len(cells) * loading
    yield (
        f"demo grid, {len(cells)} cells: each alone, beside branches of shared prefixes",
        f"{alone / branched:.2f}x ({min(ratios):.2f} to {max(ratios):.2f})",
        "1.25x",
        f"{alone / (alone - saved):.2f}x if branching cost nothing; {even / (even - saved):.2f}x if attacked rounds "
        "took as long as others, too",
    )


def timed(run: Callable[[Cell], dict[str, Any]], cell: Cell) -> tuple[dict[str, Any], float]:
    """Run a cell; return its result and the seconds it took."""
    began = time.perf_counter()
    return run(cell), time.perf_counter() - began


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else None, int(sys.argv[2]) if len(sys.argv) > 2 else 3)
