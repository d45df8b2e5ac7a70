"""How much memory does a round of 1,000 clients take? 600-1024-100 (Purchase100's model), amp+cosden, unattacked.

python benchmarks/thousand.py [CLIENTS]
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from tabulate import tabulate

import agrbench
from agrbench import machine

GOAL = 8  # GiB
DATA = "synthetic(shape=(600,),classes=100,rows={rows},test=1000)"
SHARD = 80  # examples per client
ROOT = 2000  # more than any default root set


def main(clients: int) -> None:
    """Print the row."""
    print(tabulate(rows(clients), headers=("what", "measured", "goal", "remark"), disable_numparse=True))


def rows(clients: int = 1000) -> Iterator[tuple[str, str, str, str]]:
    """Simulate one round; yield the peak memory of the whole process, and the size of the updates alone."""
    cell = agrbench.Cell(
        DATA.format(rows=clients * SHARD + ROOT), "amp+cosden", "none", clients=clients, rounds=1, model="mlp(1024)",
        threads=machine.cores(),
    )  # fmt: skip
    record = agrbench.run(cell)
    updates = clients * record["training"]["parameters"] * 4
    yield (
        f"{clients:,} clients, 600-1024-100, amp+cosden, one round: peak of the process",
        f"{record['peak_bytes'] / 2**30:.2f} GiB",
        f"under {GOAL} GiB",
        f"the updates alone are {updates / 2**30:.2f} GiB; {record['time']['round_s']:.1f} s",
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
