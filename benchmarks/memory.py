"""How much memory a round of 1,000 clients takes: 600-1024-100 on synthetic data, `amp+cosden`, training included.

python benchmarks/memory.py [DEFENSE] [CLIENTS]
"""

from __future__ import annotations

import resource
import sys
import time

import agrbench

DATASET = "synthetic(rows=10000, shape=(600,), classes=100)"
GOAL = 8.0


def main(defense: str, clients: int) -> None:
    """Print the process's peak, beside what the updates alone take."""
    began = time.perf_counter()
    cell = agrbench.Cell(DATASET, defense, "none", clients=clients, rounds=1, model="mlp(1024)", threads=2)
    record = agrbench.run(cell)
    if record["status"] != "done":
        raise SystemExit(record["traceback"] or record["reason"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    updates = clients * (600 * 1024 + 1024 + 1024 * 100 + 100) * 4 / 2**30
    print(f"{defense}, {clients} clients: peak {peak:.2f} GiB (goal {GOAL:g}), of which updates {updates:.2f} GiB")
    print(f"{time.perf_counter() - began:.0f} s, server {record['time']['server_s']:.2f} s")


if __name__ == "__main__":
    main(sys.argv[1] if sys.argv[1:] else "amp+cosden", int(sys.argv[2]) if sys.argv[2:] else 1000)
