"""The published tables of AgrAmplifier (ACSAC 2022): the values as printed, and notes on how ours compare."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from agrbench.cells import UNATTACKED, UNDEFENDED

UNTARGETED = ("label_flip", "gradient_ascent", "min_max", "flip_ascent")


@dataclass(frozen=True)
class PublishedValue:
    """One published value: what it measures, under which attacks (all together) and under which defense."""

    quantity: str
    value: float
    dataset: str
    attacks: tuple[str, ...] = (UNATTACKED,)
    defense: str = UNDEFENDED
    hidden: int | None = None


@dataclass(frozen=True)
class Page:
    """One of the paper's tables: its files, its title, what names a row, its digits, and notes for the reader."""

    files: tuple[str, ...]
    title: str
    names: str
    of: Callable[[PublishedValue], tuple[str, ...]]
    digits: int
    notes: tuple[str, ...]


DIFFERENCE = "Difference: ours - published. Where our protocol departs from the paper's: docs/protocol.md."
EVALUATED = "the mean over evaluated rounds from the first attacked one"

PAGES: Mapping[str, Page] = {
    "table1": Page(
        ("table1_robustness_loss_percent",), "Table 1 of AgrAmplifier: robustness loss L in points of accuracy",
        "dataset, attack, defense", lambda claim: (claim.dataset, *claim.attacks, claim.defense), 2,
        (f"Ours: loss against the unattacked, undefended run of the same seed, {EVALUATED}.", DIFFERENCE),
    ),
    "table2": Page(
        ("table2_attack_success_percent",), "Table 2 of AgrAmplifier: success A of the scaling attack in percent",
        "dataset, defense", lambda claim: (claim.dataset, claim.defense), 2,
        (f"Ours: the share of triggered inputs that go to the target class, {EVALUATED}.", DIFFERENCE),
    ),
    "table3": Page(
        ("table3_fedavg_error_percent", "table3_fidelity_loss_percent"),
        "Table 3 of AgrAmplifier: fedavg's error rate in percent, and fidelity loss in points of accuracy",
        "dataset, defense",
        lambda claim: (claim.dataset, claim.defense + " (error rate)" * (claim.quantity == "error_percent")), 2,
        (
            "Ours, nobody attacking: the error rate after the last round, since the paper does not say of which; "
            f"the loss against fedavg on the same seed, {EVALUATED}.", DIFFERENCE,
        ),
    ),
    "table4": Page(
        ("table4_seconds_location30",), "Table 4 of AgrAmplifier: seconds of whole runs on location30 by hidden width",
        "hidden, defense", lambda claim: (str(claim.hidden), claim.defense), 1,
        (
            f"Ours: the sum over {', '.join(UNTARGETED)}; not run unless all four are there.",
            "The paper's machine was another one, and the cells of a grid share theirs: only ratios compare. "
            "Ratio: amplified to base, on the same seed.", DIFFERENCE,
        ),
    ),
    "table5": Page(
        ("table5_heterogeneity",), "Table 5 of AgrAmplifier: heterogeneity, as intra-label cosine similarity",
        "dataset", lambda claim: (claim.dataset,), 2,
        (
            "Ours: computed from data files at hand, as `agrbench data list` does; larger means more homogeneous.",
            "What the paper computed is unknown: its Equation 4 as printed gives 0.353 on location30.",
            "Difference: ours - published.",
        ),
    ),
}  # fmt: skip


def published_values(table: str) -> list[PublishedValue]:
    """Read the published values of a table, in the paper's order."""
    return [claim for name in PAGES[table].files for claim in _read(name)]


def _read(name: str) -> Iterator[PublishedValue]:
    text = resources.files("agrbench.results.paper").joinpath(f"{name}.csv").read_text(encoding="utf-8")
    for row in csv.DictReader(text.splitlines()):
        quantity, value = row.popitem()
        known: dict[str, Any] = {part: row[part] for part in ("dataset", "defense") if part in row}
        if "attack" in row:
            known["attacks"] = (row["attack"],)
        if "hidden" in row:
            known |= {"dataset": "location30", "attacks": UNTARGETED, "hidden": int(row["hidden"])}
        yield PublishedValue(quantity, float(value), **known)
