"""What a run measures on its way, in the form that its record has."""

from __future__ import annotations

import copy
import time
from dataclasses import replace
from typing import Any

from torch import Tensor

from agrbench.judging import Outcome

CURVES = ("rounds", "accuracy", "loss", "success", "success_untriggered")
RATES = ("malicious_share", "precision", "recall")


class Log:
    """The curves, rates, counts and times of one run; the clock runs from when it is made until it is stopped."""

    def __init__(self, honest: Tensor, malicious: Tensor) -> None:
        self._honest, self._malicious = honest, malicious
        self._curves: dict[str, list[Any]] = {name: [] for name in CURVES}
        self._trust: dict[str, list[float | None]] = {name: [] for name in RATES}
        self._counts = {"rejected": 0, "rejected_honest": 0, "empty_steps": 0}
        self._heard: list[tuple[Outcome, bool]] = []  # since the last measurement; read only then, off the device
        self._played, self._server_s, self._all_s, self._began = 0, 0.0, 0.0, time.perf_counter()

    def branch(self) -> Log:
        """Copy a stopped log, and let the copy's clock go on from there."""
        other = copy.deepcopy(self)
        other._began = time.perf_counter() - self._all_s
        return other

    def stop(self) -> None:
        """Take the time."""
        self._all_s = time.perf_counter() - self._began

    def played(self, outcome: Outcome, server_s: float, attacked: bool) -> None:
        """Note what the server decided in one round, and the seconds that it took."""
        self._played += 1
        self._server_s += server_s
        self._heard.append((replace(outcome, step=outcome.weights), attacked))  # steps are large

    def measured(self, number: int, values: dict[str, float | None]) -> None:
        """Note what the global model does after `number` rounds, and the mean rates since the last time."""
        for name, value in {"rounds": number, **values}.items():
            self._curves[name].append(value)
        seen = [rates(outcome, self._malicious) for outcome, attacked in self._heard if attacked]
        for name in RATES:
            known = [each[name] for each in seen if name in each]
            self._trust[name].append(sum(known) / len(known) if known else None)
        for outcome, _ in self._heard:
            self._counts["rejected"] += int(outcome.rejected.sum())
            self._counts["rejected_honest"] += int(outcome.rejected[self._honest].sum())
            self._counts["empty_steps"] += outcome.empty is not None
        self._heard.clear()

    def as_record(self, classes: int, targeted: bool) -> dict[str, Any]:
        """Give the measured part of a record."""
        curves: dict[str, Any] = dict(self._curves)
        if not targeted:
            curves |= dict.fromkeys(("success", "success_untriggered"))
        times = {"server_s": self._server_s / self._played, "round_s": self._all_s / self._played}
        return {**curves, "classes": classes, "trust": self._trust, **self._counts, "time": times}


def rates(outcome: Outcome, malicious: Tensor) -> dict[str, float]:
    """Measure how much of the weight went to malicious clients, and how well weight 0 found them."""
    found = {}
    total = float(outcome.weights.abs().sum())
    if total > 0:
        found["malicious_share"] = float(outcome.weights[malicious].abs().sum()) / total
    if outcome.distrusted is not None:
        caught = int(outcome.distrusted[malicious].sum())
        found["recall"] = caught / len(malicious)
        if outcome.distrusted.any():
            found["precision"] = caught / int(outcome.distrusted.sum())
    return found
