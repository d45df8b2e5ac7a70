"""A grid in words becomes cells: every attack x defense, base and amplified, with what the metrics need besides."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from agrbench.cells import AMPLIFIER, UNATTACKED, UNDEFENDED, Cell
from agrbench.errors import Inapplicable, PluginError
from agrbench.plugins.registry import Registry
from agrbench.results.store import Store

FORMS = ("both", "base", "amplified")
SETTINGS = tuple(f.name for f in dataclasses.fields(Cell) if f.name not in ("dataset", "defense", "attack", "seed"))


@dataclass(frozen=True)
class Grid:
    """The axes of a grid and the settings of all its cells.

    `forms` says which forms of a base defense run: `"both"`, `"base"` or `"amplified"`.
    """

    datasets: tuple[str, ...]
    attacks: tuple[str, ...]
    defenses: tuple[str, ...]
    seeds: int = 3
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    forms: str = "both"


@dataclass(frozen=True)
class Plan:
    """What a grid comes to: cells to compute, cells already there, cells that do not exist and why."""

    cells: tuple[Cell, ...]
    skips: Mapping[Cell, str]
    ready: tuple[Cell, ...]
    waiting: tuple[Cell, ...]
    stale: tuple[Cell, ...]


def sound(grids: Sequence[Grid], registry: Registry) -> tuple[tuple[Grid, ...], list[PluginError]]:
    """Leave out the specs whose plugin files are broken, so that the others can run; give what is wrong with them.

    Raises:
        PluginError: nothing of an axis is left, or nothing names a broken file.
    """
    wrong: dict[str, PluginError] = {}
    loaders = {"dataset": registry.dataset, "attack": registry.attack, "defense": registry.stack}
    for steps in ({kind: partial(registry.canonical, kind) for kind in loaders}, loaders):  # spellings first: no torch
        for kind, step in steps.items():
            for spec in _unique(spec for grid in grids for spec in getattr(grid, f"{kind}s")):
                try:
                    step(spec)
                except PluginError as error:
                    wrong[spec] = error
    unnamed = [error for error in registry.broken.values() if error not in wrong.values()]
    if unnamed:
        raise unnamed[0]
    return tuple(_without(grid, wrong) for grid in grids), list(wrong.values())


def _without(grid: Grid, wrong: Mapping[str, PluginError]) -> Grid:
    axes: dict[str, Any] = {}
    for axis in ("datasets", "attacks", "defenses"):
        axes[axis] = tuple(spec for spec in getattr(grid, axis) if spec not in wrong)
        if not axes[axis]:
            raise wrong[getattr(grid, axis)[0]]
    return dataclasses.replace(grid, **axes)


def expand(grids: Iterable[Grid], registry: Registry) -> tuple[Cell, ...]:
    """List the cells of grids, each once: base and amplified forms of every defense under every attack.

    The undefended run of every attack and the unattacked run of every defense come with them, since the metrics compare
    with those. The order in a grid is by dataset, seed, defense and attack, the baseline first.
    """
    return tuple(dict.fromkeys(cell for grid in grids for cell in _cells(grid, registry)))


def _cells(grid: Grid, registry: Registry) -> Iterator[Cell]:
    attacks = _unique([UNATTACKED, *(registry.canonical("attack", attack) for attack in grid.attacks)])
    datasets = _unique(registry.canonical("dataset", dataset) for dataset in grid.datasets)
    stacks = _unique([UNDEFENDED, *forms(grid.defenses, registry, grid.forms)])
    for dataset, seed, stack, attack in itertools.product(datasets, range(grid.seeds), stacks, attacks):
        yield registry.canonical_cell(Cell(dataset, stack, attack, seed, **grid.settings))


def plan(cells: Sequence[Cell], registry: Registry, store: Store, keep_stale: bool = False) -> Plan:
    """Sort cells into those there, those to compute (failed or stale ones again) and those that do not exist."""
    skips: dict[Cell, str] = {}
    ready: list[Cell] = []
    waiting: list[Cell] = []
    stale: list[Cell] = []
    for cell in cells:
        try:
            stack = registry.stack(cell.defense)
            stack.check(cell.clients, cell.bound)
            stack.meet(registry.attack(cell.attack))
        except Inapplicable as reason:
            skips[cell] = str(reason)
            continue
        record = store.read(cell)
        if record is None or record["status"] != "done":
            waiting.append(cell)
        elif record["source"] != registry.sources(cell):
            stale.append(cell)
            (ready if keep_stale else waiting).append(cell)
        else:
            ready.append(cell)
    return Plan(tuple(cells), skips, tuple(ready), tuple(waiting), tuple(stale))


def forms(defenses: Iterable[str], registry: Registry, which: str) -> list[str]:
    """Give each spec in its one form; one without a column stage is followed by its amplified form."""
    found = []
    for base in [registry.canonical("defense", spec) for spec in defenses]:
        stages = registry.entries("defense", base)[:-1]
        if any(stage.has_columns for stage in stages):
            found.append(base)
            continue
        if which != "amplified":
            found.append(base)
        if which != "base" and registry.stack(base).defense.record.amplifier is not None:
            found.append(f"{AMPLIFIER}+{base}")
    return found


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))
