"""Share rounds between cells: rounds before an attack are played once, and every attack branches off them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from agrbench import machine
from agrbench.cells import UNDEFENDED, Cell
from agrbench.plugins.registry import Registry
from agrbench.simulation.preparation import Prepared, load, prepare
from agrbench.simulation.run import Run


class Tree:
    """What one process keeps between cells: one federation with its model, and one run as it is before any attack.

    Consecutive cells of one trunk (`Cell.trunk`) share that run's rounds. Each cell is still computed and recorded
    separately, so one that fails or kills its process costs no other.
    """

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self._prepared: tuple[Cell, Prepared] | None = None
        self._trunk: tuple[Cell, Run, int] | None = None  # the number is its peak memory

    def simulate(self, cell: Cell) -> dict[str, Any]:
        """Run a cell and return the measured part of its record.

        Every run is a branch, even the first of a trunk, so all are computed in the same way.

        Raises:
            AgrbenchError: see `run.simulate`.
        """
        stack = self.registry.stack(cell.defense)
        stack.check(cell.participants, cell.bound)
        stack.meet(self.registry.attack(cell.attack))
        shared = self._trunk is not None and self._trunk[0] == cell.trunk
        stem, highest = self._grow(cell.trunk)
        machine.reset_peak()
        run = stem.branch(cell, self.registry)
        run.play(cell.rounds)
        alone = machine.peak() - _bytes(stem.carried)  # state kept for other branches is not this cell's
        return run.measured() | {"shared_rounds": stem.played if shared else 0, "peak_bytes": max(alone, highest)}

    def _grow(self, cell: Cell) -> tuple[Run, int]:
        """Return a trunk's run and peak memory, playing its rounds unless it is the trunk kept last."""
        if self._trunk is None or self._trunk[0] != cell:
            self._trunk = None  # free its memory first
            prepared = self.prepare(replace(cell, defense=UNDEFENDED))
            machine.reset_peak()
            run = Run(cell, self.registry, prepared)
            run.play(run.calm)
            self._trunk = cell, run, machine.peak()
        return self._trunk[1:]

    def prepare(self, cell: Cell) -> Prepared:
        """Load and distribute a cell's data, unless it is the cell prepared last."""
        if self._prepared is None or self._prepared[0] != cell:
            self._prepared = None
            dataset = self.registry.dataset(cell.dataset)
            self._prepared = cell, prepare(cell, dataset, load(dataset, cell.clients))
        return self._prepared[1]


def _bytes(value: object) -> int:
    """Count the bytes of tensors in main memory, at any depth."""
    if isinstance(value, Tensor):
        return value.nbytes if value.device.type == "cpu" else 0
    if isinstance(value, dict):
        return sum(map(_bytes, value.values()))
    return sum(map(_bytes, value)) if isinstance(value, (list, tuple, set)) else 0
