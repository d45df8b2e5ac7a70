"""How often is the gate red in twenty trials of the same code on other seeds, and how often on a planted regression?

`python benchmarks/gate_trials.py FOLDER [SEEDS]` computes a small grid with `2 * 20 * SEEDS` seeds (SEEDS is 3 by
default) into FOLDER, as ordinary records, and splits them into twenty pairs of BASE and HEAD with `SEEDS` seeds a side;
each seed is used once. Then a regression is planted, by replacing median's records with krum's, and looked for on equal
seeds.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from agrbench.cli import execute
from agrbench.plugins.registry import Registry
from agrbench.results import store
from agrbench.results.gate import compare
from agrbench.results.record import Record
from agrbench.results.store import Store
from agrbench.simulation.engines.local import Local
from agrbench.simulation.grid import Grid, expand, plan

TRIALS = 20
SETTINGS = {"clients": 20, "rounds": 20, "start": 10}
DEFENSES = ("fedavg", "cosden", "krum", "median")
ATTACKS = ("none", "ipm", "min_max", "scaling")
PLANTED, FOR = "krum", "median"
NUMBERS = (3, 5, 8, 12)  # how many seeds the planted regression is looked for on


def main(folder: Path, each: int) -> None:
    registry, kept = Registry(), Store(folder)
    grid = Grid(("digits",), ATTACKS, DEFENSES, 2 * TRIALS * each, SETTINGS)
    with Local(registry) as engine:
        execute.run(plan(expand([grid], registry), registry, kept), registry, kept, execute.How(engine))
    records = [record for _, record in store.collect([folder])]
    halves = split(records, each, grid.seeds)
    print(f"{TRIALS} trials, {each} seeds a side, {len(compare.compare_records(halves[0], halves[1]).rows)} rows each")
    tell(f"the same code, {each} and {each} other seeds", zip(halves[::2], halves[1::2], strict=True))
    for number in NUMBERS:
        pairs = [(base, planted(base)) for base in split(records, number, grid.seeds)][:TRIALS]
        tell(f"{PLANTED} in the place of {FOR}, the same {number} seeds", pairs)


def split(records: Iterable[Record], each: int, seeds: int) -> list[list[Record]]:
    """Split records by seed, `each` seeds per part."""
    parts: list[list[Record]] = [[] for _ in range(seeds // each)]
    for record in records:
        place = record["cell"]["seed"] // each
        if place < len(parts):
            parts[place].append(record)
    return parts


def tell(what: str, pairs: Iterable[tuple[Sequence[Record], Sequence[Record]]]) -> None:
    found = [compare.compare_records(base, head) for base, head in pairs]
    red = [each for each in found if each.verdict == compare.RED]
    named = sorted({f"{row.defense} {row.axis}" for each in red for row in each.rows if row.red})
    print(f"{what}: green {len(found) - len(red)}, red {len(red)}" + (f" ({', '.join(named)})" if named else ""))


def planted(records: Sequence[Record]) -> list[Record]:
    """Replace one defense's records, in both forms, by another's."""
    theirs = {FOR: PLANTED, f"amp+{FOR}": f"amp+{PLANTED}"}
    found = []
    for name, other in theirs.items():
        moved = [record for record in records if record["cell"]["defense"] == other]
        found += [record | {"cell": record["cell"] | {"defense": name}} for record in moved]
    return [record for record in records if record["cell"]["defense"] not in theirs] + found


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 3)
