"""How far do `adaptive` and `min_max` move the aggregate, on every stack of the suite `catalogue`?

    python benchmarks/adaptive.py

Each stack plays one unattacked run with the suite's settings. In three of its rounds both attacks forge rows from the
same updates, and the stack responds on copies of its memory; damage is the distance of its step from the honest mean.
Prints a table and the number of stacks on which `adaptive` does at least as much damage in all three rounds.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from tabulate import tabulate
from torch import Tensor

from agrbench.cells import UNATTACKED, Cell
from agrbench.clients.insider import Insider, forge
from agrbench.errors import Inapplicable
from agrbench.plugins.registry import Registry
from agrbench.progress import progress
from agrbench.simulation import grid, suites
from agrbench.simulation.run import Run

ATTACKS = ("min_max", "adaptive")
ROUNDS = (10, 20, 30)


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    registry = Registry()
    (wanted,) = suites.read("catalogue").grids
    cells = grid.expand([replace(wanted, attacks=(UNATTACKED,), seeds=1)], registry)
    rows, better, compared, skipped = [], 0, 0, []
    with progress("stacks", len(cells)) as report:
        for cell in cells:
            try:
                found = damages(cell, registry)
            except Inapplicable as reason:
                skipped.append(f"{cell.defense}: {reason}")
                continue
            finally:
                report(cell.defense)
            holds = all(adaptive >= min_max for min_max, adaptive in found)
            compared, better = compared + 1, better + holds
            rows.append([cell.defense, *(text(pair) for pair in found), "" if holds else "less"])
    headers = ["stack", *(f"round {number}\nmin_max, adaptive" for number in ROUNDS), ""]
    print(tabulate(rows, headers=headers, disable_numparse=True))
    print(f"\nadaptive does at least as much damage as min_max in every round on {better} of {compared} stacks.")
    print("\n".join(["Not compared:", *skipped]))


def damages(cell: Cell, registry: Registry) -> list[tuple[float, float]]:
    """Play an unattacked run, and measure both attacks in some of its rounds."""
    run = Run(cell, registry)
    attacks = [registry.attack(name) for name in ATTACKS]
    for attack in attacks:
        run.judge.stack.meet(attack)
    found = []
    for number in range(1, max(ROUNDS) + 1):
        if number in ROUNDS:
            width = run.clean.train(run.state.model).shape[1]
            insider = run.insider(number)
            moved = [damage(insider, forge(attack, insider, width)) for attack in attacks]
            found.append((moved[0], moved[1]))
        run.round(number)
    return found


def damage(insider: Insider, rows: Tensor) -> float:
    """Measure how far the step is from the honest mean."""
    return float(torch.linalg.vector_norm(insider.respond(rows).double() - insider.honest.double().mean(0)))


def text(pair: tuple[float, float]) -> str:
    """Write two damages and their ratio."""
    ratio = pair[1] / pair[0] if pair[0] else math.inf
    return f"{pair[0]:.3g}, {pair[1]:.3g} (x{ratio:.3g})"


if __name__ == "__main__":
    main()
