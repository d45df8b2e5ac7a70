"""Twenty trials of the same code on other seeds: how often is the gate red for nothing? And on a real regression?

`python benchmarks/gate_trials.py FOLDER [SEEDS]` computes a small grid with `2 * 20 * SEEDS` seeds into FOLDER, as
ordinary records, and splits them into twenty pairs of BASE and HEAD, `SEEDS` seeds (default 5) a side, each seed once.
HEAD is then compared with BASE as it is, and with krum's records in the place of median's: the regression to find, on
other seeds and on the same ones.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from agrbench import gate, running, store
from agrbench.grid import Grid, expand, plan
from agrbench.registry import Registry
from agrbench.store import Record, Store

TRIALS = 20
SETTINGS = {"clients": 20, "rounds": 20, "start": 10}
DEFENSES = ("fedavg", "cosden", "krum", "median")
ATTACKS = ("none", "ipm", "min_max", "scaling")
PLANTED, FOR = "krum", "median"


def main(folder: Path, each: int) -> None:
    registry, kept = Registry(), Store(folder)
    grid = Grid(("digits",), ATTACKS, DEFENSES, 2 * TRIALS * each, SETTINGS)
    running.compute(plan(expand([grid], registry), registry, kept), registry, kept, None, False)
    records = [record for _, record in store.collect([folder])]
    halves = [_of(records, range(start, start + each)) for start in range(0, 2 * TRIALS * each, each)]
    sides = list(zip(halves[::2], halves[1::2], strict=True))
    print(f"{TRIALS} trials, {each} seeds a side, {len(gate.compare(*sides[0]).rows)} rows each")
    for what, pairs in {
        "the same code, other seeds": sides,
        f"{PLANTED} in the place of {FOR}, other seeds": [(base, planted(head)) for base, head in sides],
        f"{PLANTED} in the place of {FOR}, the same seeds": [(base, planted(base)) for base, _ in sides],
    }.items():
        verdicts = [gate.compare(base, head) for base, head in pairs]
        red = [found for found in verdicts if found.verdict == gate.RED]
        named = sorted({f"{row.defense} {row.axis}" for found in red for row in found.rows if row.red})
        print(f"{what}: green {TRIALS - len(red)}, red {len(red)}" + (f" ({', '.join(named)})" if named else ""))


def _of(records: Iterable[Record], seeds: range) -> list[Record]:
    return [record for record in records if record["cell"]["seed"] in seeds]


def planted(records: Iterable[Record]) -> list[Record]:
    """Give one defense the records of another."""
    kept = [record for record in records if record["cell"]["defense"] != FOR]
    moved = [record for record in kept if record["cell"]["defense"] == PLANTED]
    return kept + [record | {"cell": record["cell"] | {"defense": FOR}} for record in moved]


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 5)
