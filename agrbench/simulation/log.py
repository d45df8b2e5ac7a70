"""Collect the curves, rates, counts and times of a run, in the form of its record."""

from __future__ import annotations

import copy
import time
from typing import Any, NamedTuple

from torch import Tensor

from agrbench.server.judge import Outcome
from agrbench.simulation.sampling import Cohort

CURVES = ("rounds", "accuracy", "loss", "success", "success_untriggered")
RATES = ("malicious_share", "precision", "recall")


class Heard(NamedTuple):
    """What a log keeps of an outcome, which itself holds large tensors.

    Unattacked rounds have no `weights`, and neither has a rule that names none.
    """

    cohort: Cohort
    weights: Tensor | None
    distrusted: Tensor | None
    rejected: Tensor
    empty: bool


class Log:
    """The curves, rates, counts and times of one run; its clock runs from creation until `stop`."""

    def __init__(self) -> None:
        self._curves: dict[str, list[Any]] = {name: [] for name in CURVES}
        self._trust: dict[str, list[float | None]] = {name: [] for name in RATES}
        self._counts = {"rejected": 0, "rejected_honest": 0, "empty_steps": 0}
        self._heard: list[Heard] = []  # since the last measurement; their values stay on the device until then
        self._played, self._server_s, self._all_s, self._began = 0, 0.0, 0.0, time.perf_counter()

    def branch(self) -> Log:
        """Copy a stopped log; the copy's clock continues from the stopped time."""
        other = copy.deepcopy(self)
        other._began = time.perf_counter() - self._all_s
        return other

    @property
    def rounds(self) -> list[int]:
        """List the measured rounds."""
        return self._curves["rounds"]

    def stop(self) -> None:
        """Record the elapsed time."""
        self._all_s = time.perf_counter() - self._began

    def played(self, cohort: Cohort, outcome: Outcome, server_s: float, attacked: bool) -> None:
        """Record what the server decided on a round's cohort, and the seconds that it took."""
        self._played += 1
        self._server_s += server_s
        # Weights may cost as much as a step, so read them only if needed, outside the server's time; but read them
        # now, because the next round overwrites the updates.
        weights = outcome.weights if attacked and outcome.named else None
        self._heard.append(Heard(cohort, weights, outcome.distrusted, outcome.rejected, outcome.empty is not None))

    def measured(self, number: int, values: dict[str, float | None]) -> None:
        """Record measurements of the global model after `number` rounds, and the mean rates since the last ones."""
        for name, value in {"rounds": number, **values}.items():
            self._curves[name].append(value)
        seen = [
            rates(heard.weights, heard.distrusted, heard.cohort.malicious)
            for heard in self._heard
            if heard.weights is not None
        ]
        for name in RATES:
            known = [each[name] for each in seen if name in each]
            self._trust[name].append(sum(known) / len(known) if known else None)
        for heard in self._heard:
            self._counts["rejected"] += int(heard.rejected.sum())
            self._counts["rejected_honest"] += int(heard.rejected[heard.cohort.honest].sum())
            self._counts["empty_steps"] += heard.empty
        self._heard.clear()

    def as_record(self, classes: int, targeted: bool) -> dict[str, Any]:
        """Return the measured part of a record; `classes` allows comparing the accuracy with chance."""
        curves: dict[str, Any] = dict(self._curves)
        if not targeted:
            curves |= dict.fromkeys(("success", "success_untriggered"))
        times = {"server_s": self._server_s / self._played, "round_s": self._all_s / self._played}
        return {**curves, "classes": classes, "trust": self._trust, **self._counts, "time": times}


def rates(weights: Tensor, distrusted: Tensor | None, malicious: Tensor) -> dict[str, float]:
    """Measure the malicious clients' share of absolute weight, and how precisely and completely weight 0 found them."""
    found = {}
    total = float(weights.abs().sum())
    if total > 0:
        found["malicious_share"] = float(weights[malicious].abs().sum()) / total
    if distrusted is not None:
        caught = int(distrusted[malicious].sum())
        found["recall"] = caught / len(malicious)
        if distrusted.any():
            found["precision"] = caught / int(distrusted.sum())
    return found
