"""The public names of agrbench, each loaded when it is first used.

Measure how Byzantine-robust aggregation rules keep accuracy, with and without attack, and at what cost:

    agrbench.amplify(updates, layout, kernel=2)
    agrbench.weigh(updates, "amp+krum", byzantine=3, layout=layout)
    agrbench.aggregate(updates, "trimmed_mean", byzantine=3)
    agrbench.forge("min_max", honest, malicious=15)
    agrbench.run(agrbench.Cell("digits", "amp+cosden", "label_flip", seed=0, rounds=100))
    agrbench.load("results").frame()
    agrbench.plot.curves("results")

`import agrbench` imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agrbench import plot
    from agrbench.api import aggregate, amplify, forge, run, weigh
    from agrbench.cells import Cell
    from agrbench.errors import AgrbenchError
    from agrbench.layout import Layout
    from agrbench.plugins import Verdict
    from agrbench.results.tidy import Result, Results, load
    from agrbench.server.rounds import Gradients
    from agrbench.serving import Server

__all__ = [
    "AgrbenchError",
    "Cell",
    "Gradients",
    "Layout",
    "Result",
    "Results",
    "Server",
    "Verdict",
    "aggregate",
    "amplify",
    "forge",
    "load",
    "plot",
    "run",
    "weigh",
]

_HOMES = {
    "AgrbenchError": "agrbench.errors",
    "Cell": "agrbench.cells",
    "Gradients": "agrbench.server.rounds",
    "Layout": "agrbench.layout",
    "Result": "agrbench.results.tidy",
    "Results": "agrbench.results.tidy",
    "Server": "agrbench.serving",
    "Verdict": "agrbench.plugins",
    "load": "agrbench.results.tidy",
}


def __getattr__(name: str) -> Any:
    if name == "plot":
        return importlib.import_module("agrbench.plot")
    if name not in __all__:
        raise AttributeError(f"module 'agrbench' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES.get(name, "agrbench.api")), name)


def __dir__() -> list[str]:
    return __all__
