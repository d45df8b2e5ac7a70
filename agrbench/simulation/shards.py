"""Split the cells of a grid into parts of about equal work: the same parts on every machine."""

from __future__ import annotations

from collections.abc import Sequence

from agrbench.cells import UNATTACKED, Cell
from agrbench.plugins.registry import Registry

REHEARSALS = 20  # rounds of the server that an attack which queries it is taken to cost in each round


def part(cells: Sequence[Cell], registry: Registry, shard: tuple[int, int] | None) -> tuple[Cell, ...]:
    """Return the cells of one shard (its number from 1, and how many there are), in their order; all for `None`.

    Cells of one trunk, which share rounds, stay together. The trunks are dealt out from the costliest down, each to the
    shard with the least work so far.
    """
    if shard is None:
        return tuple(cells)
    number, count = shard
    trunks: dict[Cell, list[Cell]] = {}
    for cell in cells:
        trunks.setdefault(cell.trunk, []).append(cell)
    costs = {trunk: work(mine, registry) for trunk, mine in trunks.items()}
    loads, chosen = [0] * count, set[Cell]()
    for trunk in sorted(trunks, key=lambda trunk: (-costs[trunk], trunk.key)):
        place = loads.index(min(loads))
        loads[place] += costs[trunk]
        if place == number - 1:
            chosen.add(trunk)
    return tuple(cell for cell in cells if cell.trunk in chosen)


def work(branch: Sequence[Cell], registry: Registry) -> int:
    """Estimate the work of cells that share a trunk: rounds of one client, all whole numbers."""
    calm = min(branch[0].first - 1, branch[0].rounds)
    rounds = calm + sum((cell.rounds - calm) * _factor(cell, registry) for cell in branch)
    return rounds * branch[0].participants


def _factor(cell: Cell, registry: Registry) -> int:
    """Return how many ordinary rounds one round of a cell is taken to cost."""
    queries = cell.attack != UNATTACKED and registry.attack(cell.attack).record.queries
    return 1 + REHEARSALS * bool(queries)
