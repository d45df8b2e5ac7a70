"""How do grids scale? Cells a second by engine, measured; the time of whole suites on many cores, scheduled.

python benchmarks/scale.py measure [SEEDS]
python benchmarks/scale.py schedule SUITE RECORDS...

`measure` runs the demo's stacks under two attacks with one worker, with two, and on a Ray cluster of two nodes of one
core each, all on this machine. `schedule` takes the times that records hold, and lets processes take cells as the
engine `local` does (`Turns`): no import, no loading and no network. A cell without a record takes the mean time of a
client's round of its dataset; datasets without any record are named and left out.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from tabulate import tabulate

from agrbench.cells import Cell
from agrbench.machine import noise
from agrbench.plugins.registry import Registry
from agrbench.progress import duration
from agrbench.results.record import Record
from agrbench.results.store import Store, collect
from agrbench.simulation import grid, suites
from agrbench.simulation.engines import Engine
from agrbench.simulation.engines.local import Local
from agrbench.simulation.engines.ray import Ray
from agrbench.simulation.engines.turns import Turns
from agrbench.simulation.execution import execute

CORES = (1, 16, 128)


def measure(seeds: int) -> None:
    """Print cells a second, and the seconds a cell and core that are not its rounds, for each engine."""
    busy, registry = noise(), Registry()
    (asked,) = suites.choose("demo", ["label_flip", "ipm"], [], [], seeds, {})
    cells, rows = grid.expand([asked], registry), []
    with cluster() as address:
        engines: Mapping[str, tuple[int, Engine]] = {
            "local, 1 worker": (1, Local(registry, 1)),
            "local, 2 workers": (2, Local(registry, 2)),
            "ray, 2 nodes of 1 core": (2, Ray(registry, address)),
        }
        for name, (workers, engine) in engines.items():
            spent, records = timed(engine, cells, registry)
            own = sum(own_seconds(records).values())
            over = (workers * spent - own) / len(cells)
            rows.append((name, len(cells), f"{spent:.1f}", f"{len(cells) / spent:.2f}", f"{over:.3f}"))
    headers = ("engine", "cells", "seconds", "cells a second", "overhead a cell, s")
    print(tabulate(rows, headers=headers, disable_numparse=True))
    if busy:
        print(busy)


@contextlib.contextmanager
def cluster() -> Iterator[str]:
    """Run a Ray cluster of two nodes of one core on this machine, and yield its address."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    node: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 << 20}
    both = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    both.add_node(**node)
    try:
        yield both.address
    finally:
        both.shutdown()  # type: ignore[no-untyped-call]


def timed(engine: Engine, cells: Sequence[Cell], registry: Registry) -> tuple[float, list[Record]]:
    """Compute cells, and return how long it took, the engine's start included, and the records."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        store.prepare()
        began = time.perf_counter()
        with engine:
            records = list(execute(cells, registry, store, engine))
        return time.perf_counter() - began, records


def schedule(suite: str, sources: Sequence[Path]) -> None:
    """Print how long a suite takes on several numbers of cores, and its critical path."""
    registry = Registry()
    cells = grid.expand(suites.choose(suite, [], [], [], None, {}), registry)
    known = {Cell.from_json(record["cell"]).key: record for _, record in collect(sources) if record["status"] == "done"}
    times, guessed = seconds_of(cells, known)
    absent = sorted({cell.dataset for cell in cells if cell.key not in times})
    cells, rows = tuple(cell for cell in cells if cell.key in times), list[tuple[object, ...]]()
    for cores in CORES:
        whole = span(cells, times, cores)
        rows.append((cores, duration(whole), f"{span(cells, times, 1) / whole:.1f}"))
    print(
        f"{len(cells)} cells of {len({cell.trunk for cell in cells})} trunks; {guessed} without a record of their own"
    )
    if absent:
        print(f"Left out, for want of any record: {', '.join(absent)}")
    print(tabulate(rows, headers=("cores", "time", "times as fast as 1"), disable_numparse=True))
    print(f"Critical path, a trunk and its longest branch: {duration(critical(cells, times))}")


Times = Mapping[str, tuple[float, float]]
"""By the key of a cell: the seconds of its rounds before the attack, which its trunk shares, and of the others."""


def seconds_of(cells: Sequence[Cell], known: Mapping[str, Record]) -> tuple[Times, int]:
    """Return the times of cells whose dataset has a record, and of how many they are guessed."""
    rates: dict[str, list[float]] = {}
    for record in known.values():
        cell = Cell.from_json(record["cell"])
        rates.setdefault(cell.dataset, []).append(record["time"]["round_s"] / cell.participants)
    each: dict[str, float] = {}  # seconds a round, by key
    for cell in cells:
        if cell.key in known:
            each[cell.key] = known[cell.key]["time"]["round_s"]
        elif cell.dataset in rates:
            each[cell.key] = fmean(rates[cell.dataset]) * cell.participants
    times = {}
    for cell in (cell for cell in cells if cell.key in each):
        whole = cell.rounds * each[cell.key]
        calm = min(calm_rounds(cell) * each.get(cell.trunk.key, each[cell.key]), whole)
        times[cell.key] = calm, whole - calm
    return times, len(each.keys() - known.keys())


def calm_rounds(cell: Cell) -> int:
    """Count the rounds before an attack."""
    return min(cell.first - 1, cell.rounds)


def own_seconds(records: Iterable[Record]) -> dict[str, float]:
    """Return the seconds of each cell's rounds, without those that another cell played."""
    found = {}
    for record in records:
        cell = Cell.from_json(record["cell"])
        found[cell.key] = record["time"]["round_s"] * (cell.rounds - record["shared_rounds"])
    return found


def span(cells: Sequence[Cell], times: Times, cores: int) -> float:
    """Return when the last of some processes ends, if each takes its next cell as soon as it is free."""
    turns, free, end = Turns(cells), [(0.0, place) for place in range(cores)], 0.0
    stems: dict[int, Cell] = {}
    while free:
        now, place = heapq.heappop(free)
        cell = turns.next(place)
        if cell is None:
            continue
        calm, rest = times[cell.key]
        shared = stems.get(place) == cell.trunk
        stems[place] = cell.trunk
        end = max(end, until := now + rest + (0.0 if shared else calm))
        heapq.heappush(free, (until, place))
    return end


def critical(cells: Sequence[Cell], times: Times) -> float:
    """Return the longest time of a trunk's calm rounds and one of its branches, which no number of cores shortens."""
    return max(calm + rest for calm, rest in (times[cell.key] for cell in cells))


if __name__ == "__main__":
    if sys.argv[1:2] == ["schedule"]:
        schedule(sys.argv[2], [Path(each) for each in sys.argv[3:]])
    else:
        measure(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
