"""Records of a small grid, made up so that its tables can be worked out by hand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from agrbench.cells import Cell
from agrbench.results.record import Record
from tests.helpers.records import finished

SEEDS = (0, 1, 2)
DEFENSES = ("fedavg", "krum", "amp+krum")
ATTACKS = ("none", "gradient_ascent", "label_flip")
# Accuracy in percent after rounds 10 and 20, both attacked; a further point is lost per seed where it says so.
PERCENT = {
    ("fedavg", "none"): (88, 92),
    ("fedavg", "gradient_ascent"): (40, 20),
    ("fedavg", "label_flip"): (70, 70),
    ("krum", "none"): (85, 87),
    ("krum", "gradient_ascent"): (80, 80),
    ("krum", "label_flip"): (84, 84),
    ("amp+krum", "none"): (88, 88),
    ("amp+krum", "gradient_ascent"): (86, 86),
    ("amp+krum", "label_flip"): (82, 84),
}
LOSES_A_POINT_A_SEED = {("amp+krum", "gradient_ascent")}
MILLISECONDS = {"fedavg": 1.0, "krum": 5.0, "amp+krum": 3.0}


def cell(defense: str, attack: str, seed: int) -> Cell:
    return Cell("digits", defense, attack, seed, clients=20, rounds=20)


def made(defense: str, attack: str, seed: int, **change: Any) -> Record:
    ten, twenty = PERCENT[defense, attack]
    lost = seed if (defense, attack) in LOSES_A_POINT_A_SEED else 0
    mine: dict[str, Any] = {
        "loss": [2.3, 1.5, 0.5],
        "trust": {"malicious_share": [None, 0.25, 0.35], "precision": [None] * 3, "recall": [None] * 3},
        "time": {"server_s": MILLISECONDS[defense] / 1000, "round_s": 0.5, "alone": True},
        "peak_bytes": 100 * 2**20,
        "environment": {"agrbench": "0.1.0", "threads": 1, "device": "cpu"},
    }
    accuracy = [0.1, (ten - lost) / 100, (twenty - lost) / 100]
    return finished(cell(defense, attack, seed), accuracy, **mine) | change


def everything(seeds: Iterable[int] = SEEDS) -> list[Record]:
    return [made(defense, attack, seed) for seed in seeds for defense in DEFENSES for attack in ATTACKS]


def without(records: list[Record], defense: str, attack: str, seed: int) -> list[Record]:
    ours = (defense, attack, seed)
    return [r for r in records if (r["cell"]["defense"], r["cell"]["attack"], r["cell"]["seed"]) != ours]
