"""Compute one cell, in whichever process, into a record that is complete whether the cell is done, skipped or fails."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

from agrbench import machine
from agrbench.cells import Cell
from agrbench.errors import AgrbenchError, Inapplicable
from agrbench.plugins.registry import Registry
from agrbench.results.record import Record, blank, failed, sealed, skipped

if TYPE_CHECKING:
    from agrbench.simulation.prefixes import Tree


def compute(cell: Cell, registry: Registry, alone: bool, tree: Tree | None = None) -> Record:
    """Simulate a cell, reusing what `tree` keeps from earlier cells, and return its complete record.

    Raises:
        AgrbenchError: see `run.simulate`.
    """
    from agrbench import threads
    from agrbench.simulation.prefixes import Tree

    environment = machine.environment(cell.device, cell.threads)  # it reads files, which a plugin may forbid later
    with threads.using(cell.threads):
        measured = (tree or Tree(registry)).simulate(cell)
    record = blank(cell, registry) | measured
    record["time"]["alone"] = alone
    record["environment"] = environment
    return sealed(record, registry)


def attempt(cell: Cell, tree: Tree, alone: bool) -> Record:
    """Compute a cell and return its record, even if the cell is skipped or fails."""
    registry = tree.registry
    try:
        return compute(cell, registry, alone, tree)
    except Inapplicable as error:
        return skipped(cell, registry, str(error))
    except AgrbenchError as error:
        return failed(cell, registry, str(error), traceback.format_exc())
    except Exception as error:
        reason = f"{type(error).__name__}: {error}; this is a fault of agrbench: please report it with the traceback"
        return failed(cell, registry, reason, traceback.format_exc())
