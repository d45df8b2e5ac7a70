"""What does the program add to one short cell? `agrbench grid`, next to importing and simulating it in one process.

python benchmarks/startup.py [REPEATS]

The two take turns; the median of each counts. The cell is digits, undefended and unattacked, 10 rounds.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from agrbench.machine import noise

PLAIN = "import torch; from agrbench import Cell, run; run(Cell('digits', 'fedavg', 'none', rounds=10))"
GRID = ("grid", "-D", "digits", "-d", "fedavg", "-a", "none", "--seeds", "1", "--rounds", "10", "--only-base")
GOAL = 1.5


def main(repeats: int) -> None:
    """Print the two times and their ratio."""
    busy = noise()
    program = str(Path(sys.executable).with_name("agrbench"))
    plain, whole = [], []
    for _ in range(repeats):
        plain.append(seconds([sys.executable, "-c", PLAIN]))
        with tempfile.TemporaryDirectory() as folder:
            whole.append(seconds([program, *GRID, "--jobs", "1", "--out", folder]))
    one, other = statistics.median(plain), statistics.median(whole)
    rows = [
        ("importing and simulating in one process", f"{one:.2f} s", ""),
        ("agrbench grid", f"{other:.2f} s", ""),
        ("ratio", f"{other / one:.2f}", f"at most {GOAL:g}"),
    ]
    print(tabulate(rows, headers=("what", "measured", "goal"), disable_numparse=True))
    if busy:
        print(busy)


def seconds(words: Sequence[str]) -> float:
    """Run a command and return how long it took."""
    began = time.perf_counter()
    subprocess.run(words, check=True, capture_output=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
