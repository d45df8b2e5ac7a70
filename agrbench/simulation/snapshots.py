"""Play a cell up to one round, and keep what was sent in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agrbench import threads
from agrbench.cells import AMPLIFIER, UNDEFENDED, Cell
from agrbench.errors import AgrbenchError
from agrbench.plugins.registry import Registry
from agrbench.results.snapshots import Snapshot
from agrbench.server.judge import Judge
from agrbench.simulation.run import Run


def take(cell: Cell, number: int, registry: Registry) -> Snapshot:
    """Play the rounds of a cell up to round `number`, and return a snapshot of that one.

    Raises:
        AgrbenchError: the cell has no such round, or a plugin, a setting or a data file is at fault.
    """
    if not 1 <= number <= cell.rounds:
        raise AgrbenchError(f"--round {number}: the cell has rounds 1 to {cell.rounds}; write one of them")
    with threads.using(cell.threads):
        run = Run(cell, registry)
        run.play(number - 1)
        outcome, _ = run.round(number)
        updates = run.clean.updates
        attackers = run.cohort.malicious if run.attacked(number) else run.cohort.malicious[:0]
        return Snapshot(
            cell, number, np.array(run.cohort.clients), _array(attackers), _array(updates.float()),
            _array(_pooled(run, registry, updates).float()), _array(outcome.weights.double()),
        )  # fmt: skip


def _pooled(run: Run, registry: Registry, updates: Tensor) -> Tensor:
    """Show the updates through the column stages of the cell's defense, or through `amp` if it has none."""
    has_columns = any(stage.record.columns is not None for stage in run.judge.stack.stages)
    if has_columns:
        return run.judge.pool(updates)
    amplified = registry.stack(f"{AMPLIFIER}+{UNDEFENDED}")
    return Judge(amplified, run.learner.layout, run.randomness, run.device).pool(updates)


def _array(rows: Tensor) -> NDArray[Any]:
    return rows.detach().to(torch.device("cpu")).numpy().copy()
