"""Figures of records, as altair charts: one module a kind, each with a function `draw`; nothing here simulates.

altair is imported only by the modules of kinds, so that whoever draws nothing needs none of it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from agrbench.errors import AgrbenchError
from agrbench.results.figures.save import check, save
from agrbench.results.figures.sizes import COLUMN, EXTRA

__all__ = ["COLUMN", "KINDS", "check", "drawing", "save"]

KINDS: Mapping[str, str] = {
    "curves": "Accuracy, loss or success over rounds: means with bands over seeds, the attack's start marked.",
    "bars": "A metric of each defense, base beside amplified, with intervals over seeds.",
    "sweep": "A metric over the values of a hyperparameter or setting, such as kernel, clients or malicious.",
    "heatmap": "A metric of each defense under each attack.",
    "pareto": "Worst loss against server time, with fidelity loss as colour; the front is marked.",
    "breaking": "The share of malicious clients that breaks each defense, from records of `agrbench breaking-point`.",
    "cost": "Time and memory against clients and parameters, from reports of `agrbench bench --format json`.",
    "views": "The updates of one round on two principal components, base beside amplified, from snapshots.",
    "neighbours": "The angles of one round's updates to a client's, base beside amplified, from snapshots.",
}
"""What there is to draw; a new kind is a module here, a line of this table, and a command in `agrbench/cli/plot.py`."""


def drawing(kind: str) -> Callable[..., Any]:
    """Return the function that draws a kind of figure.

    Raises:
        AgrbenchError: altair is not installed.
    """
    try:
        module = importlib.import_module(f"{__name__}.{kind}")
    except ModuleNotFoundError as error:
        if error.name != "altair":
            raise
        raise AgrbenchError(EXTRA) from error
    draw: Callable[..., Any] = module.draw
    return draw
