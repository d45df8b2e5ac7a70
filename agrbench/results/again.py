"""The command that computes a cell again, which `agrbench show` and the page of a report print."""

from __future__ import annotations

import shlex

from agrbench.cells import Cell
from agrbench.errors import SpecError
from agrbench.plugins.registry import Registry


def reproduce(cell: Cell, shipped: Registry) -> str:
    """Write the command that computes the cell, and what it is compared with, again.

    `shipped` knows the plugins that need no `--plugin`.
    """
    words = ["agrbench", "grid", "-D", cell.dataset, "-d", cell.defense, "-a", cell.attack, "--only-base"]
    settings = {
        "seeds": cell.seed + 1, "clients": cell.clients, "malicious": cell.count, "byzantine": cell.bound,
        "rounds": cell.rounds, "start": cell.first,
    }  # fmt: skip
    settings |= {name: value for name, value in cell.settings.items() if name not in settings}
    for name, value in settings.items():
        words += [f"--{name}", str(value)]
    try:
        shipped.plugins_of(cell)
    except SpecError:
        words += ["--plugin", "FILE"]  # a record does not say where a plugin file was
    return shlex.join([*words, "--out", "again"])
