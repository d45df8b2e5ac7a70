"""Judge whether our accuracy agrees with a published one, given what seeds and rounding explain."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from agrbench.cells import Cell
from agrbench.results.record import Record
from agrbench.results.statistics import LEVEL, Sample
from agrbench.results.validation.published import Published, Value

if TYPE_CHECKING:
    from agrbench.plugins.registry import Registry

Verdict = Literal["within", "above", "below", "one seed", "not run"]
CONTRADICTIONS: tuple[Verdict, ...] = ("above", "below")


@dataclass(frozen=True)
class Finding:
    """Our accuracies beside a published value, in percent, one a seed.

    `explained` is the difference in points that seeds and rounding explain, or `None` if nothing can be said: neither
    source has two seeds. `attack` is the worst of the value's attacks on ours.
    """

    value: Value
    ours: Sample
    attack: str | None = None
    explained: float | None = None

    @property
    def difference(self) -> float:
        """Return our mean minus the published one, in points."""
        return self.ours.mean - self.value.accuracy

    @property
    def verdict(self) -> Verdict:
        """Return where our mean lies: within what is explained, above or below it; or why nothing can be said."""
        if not self.ours.values:
            return "not run"
        if self.explained is None:
            return "one seed"
        if abs(self.difference) <= self.explained:
            return "within"
        return "above" if self.difference > 0 else "below"


def judge(suite: Published, records: Iterable[Record], registry: Registry) -> list[Finding]:
    """Compare the finished records with each published value; a value without records is not run.

    Threads and devices make no difference to which cell a record is of.
    """
    done = {_plain(Cell.from_json(each["cell"])): each for each in records if each["status"] == "done"}
    seeds = sorted({cell.seed for cell in done})
    return [_find(suite, value, done, seeds, registry) for value in suite.values]


def explained(value: Value, ours: Sequence[float], seeds: int, rounding: float) -> float | None:
    """Return the difference of means, in points, that seeds and rounding explain in 95 of 100 cases.

    With two deviations it is Welch's interval for a difference of means. With one deviation, because we ran one seed
    or the source published none, both means are taken to have that one. `None` if there is no deviation.
    """
    n = len(ours)
    mine = statistics.stdev(ours) if n > 1 else None
    known = [(d, k) for d, k in ((value.deviation, seeds), (mine, n)) if d is not None]
    if not known:
        return None
    (first, k), (second, m) = known[0], known[-1]
    if len(known) == 1:
        spread, freedom = first**2 * (1 / seeds + 1 / n), k - 1.0
    else:
        parts = first**2 / k, second**2 / m
        spread = sum(parts)
        freedom = spread**2 / (parts[0] ** 2 / (k - 1) + parts[1] ** 2 / (m - 1)) if spread else 1.0
    from scipy.stats import t

    reach = float(t.ppf((1 + LEVEL) / 2, freedom)) * math.sqrt(spread)
    return reach + rounding


def _find(
    suite: Published, value: Value, done: Mapping[Cell, Record], seeds: Sequence[int], registry: Registry
) -> Finding:
    samples = {attack: _sample(suite, value, attack, done, seeds, registry) for attack in value.attacks}
    if not all(sample.values for sample in samples.values()):
        return Finding(value, Sample((), ()))
    attack = min(samples, key=lambda each: samples[each].mean)
    ours = samples[attack]
    return Finding(value, ours, attack, explained(value, ours.values, suite.seeds, suite.rounding))


def _sample(
    suite: Published, value: Value, attack: str, done: Mapping[Cell, Record], seeds: Sequence[int], registry: Registry
) -> Sample:
    """Return a seed's accuracies under one attack: after the last round, or where the mean curve is highest."""
    cell = suite.cell(value, attack, 0, registry)
    runs = {seed: done[key] for seed in seeds if (key := replace(cell, seed=seed)) in done}
    if not runs:
        return Sample((), ())
    rounds = next(iter(runs.values()))["rounds"]
    places = [place for place, number in enumerate(rounds) if suite.best_of and number % suite.best_of == 0]
    curves = 100 * np.array([[run["accuracy"][place] for place in places or [-1]] for run in runs.values()])
    return Sample(tuple(runs), tuple(curves[:, curves.mean(0).argmax()].tolist()))


def _plain(cell: Cell) -> Cell:
    return replace(cell, threads=1, device="cpu")
