"""Write the table of a made-up consortium: 12 hospitals of very different sizes, and who comes back within a month.

python benchmarks/consortium.py visits.csv [--seed 0]
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

SIZES = {
    "north": 1400, "south": 1100, "east": 860, "west": 700, "riverside": 540, "hillside": 420,
    "harbour": 320, "lakeview": 240, "oakham": 170, "milton": 124, "ashby": 90, "kirkby": 36,
}  # fmt: skip
"""Rows of each hospital: 6,000 in all, of which the smallest has 0.6%."""

WARDS = ("cardiology", "general", "oncology", "surgery")
RISK = {"cardiology": 0.8, "general": -0.6, "oncology": 1.1, "surgery": -0.3}
HEADER = ("hospital", "age", "sex", "ward", "days", "lactate", "pressure", "previous", "emergency", "outcome")


def consortium(path: Path, seed: int = 0) -> Path:
    """Write the table, one row a visit, sorted by hospital; return its path."""
    rng = np.random.default_rng(seed)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(HEADER)
        for hospital, rows in SIZES.items():
            writer.writerows(visits(rng, hospital, rows))
    return path


def visits(rng: np.random.Generator, hospital: str, rows: int) -> list[tuple[object, ...]]:
    """Draw one hospital's visits: its patients differ in age and ward, and its threshold for `yes` a little."""
    age = rng.normal(rng.uniform(52, 68), 14, rows).clip(18, 99).round()
    sex = rng.choice(["f", "m"], rows)
    ward = rng.choice(WARDS, rows, p=rng.dirichlet([4.0] * len(WARDS)))
    days = rng.gamma(2.0, 3.0, rows).round(1)
    lactate = rng.lognormal(0.5, 0.4, rows).round(2)
    pressure = rng.normal(128, 18, rows).round()
    previous = rng.poisson(1.2, rows)
    emergency = rng.choice(["no", "yes"], rows, p=[0.6, 0.4])
    score = (
        0.07 * (age - 60) + 0.15 * (days - 6) + 1.2 * (lactate - 1.7) - 0.02 * (pressure - 128)
        + 0.9 * (previous - 1.2) + 1.2 * (emergency == "yes") + np.array([RISK[each] for each in ward])
        + rng.normal(0.0, 0.3)
    )  # fmt: skip
    outcome = np.where(score + rng.logistic(0, 0.5, rows) > 0.3, "yes", "no")
    columns = (age.astype(int), sex, ward, days, lactate, pressure.astype(int), previous, emergency, outcome)
    return [(hospital, *row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    consortium(given.path, given.seed)


if __name__ == "__main__":
    main()
