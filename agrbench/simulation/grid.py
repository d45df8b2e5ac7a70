"""Expand grids of datasets, attacks, defenses and seeds into cells, and plan which of the cells to compute."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from agrbench import settings
from agrbench.cells import AMPLIFIER, UNATTACKED, UNDEFENDED, Cell
from agrbench.errors import Inapplicable, PluginError
from agrbench.plugins.registry import Registry
from agrbench.results.claims import Stamp, Stamps, stamp
from agrbench.results.store import Store

FORMS = ("both", "base", "amplified")
SETTINGS = tuple(f.name for f in dataclasses.fields(Cell) if f.name not in ("dataset", "defense", "attack", "seed"))


@dataclass(frozen=True)
class Grid:
    """The axes of a grid and the settings shared by all its cells.

    `forms` selects the forms of a base defense that run: `"both"`, `"base"` or `"amplified"`.
    """

    datasets: tuple[str, ...]
    attacks: tuple[str, ...]
    defenses: tuple[str, ...]
    seeds: int = 3
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    forms: str = "both"


@dataclass(frozen=True)
class Plan:
    """A planned grid: all cells, the inapplicable ones with reasons, those ready, those to compute, and stale ones.

    `before` holds the stamps of the files of those to compute, as they were when the plan was made.
    """

    cells: tuple[Cell, ...]
    skips: Mapping[Cell, str]
    ready: tuple[Cell, ...]
    waiting: tuple[Cell, ...]
    stale: tuple[Cell, ...]
    before: Stamps = dataclasses.field(default_factory=dict)


def sound(grids: Sequence[Grid], registry: Registry) -> tuple[tuple[Grid, ...], list[PluginError]]:
    """Remove the specs whose plugin files are broken; return the remaining grids and the errors.

    Raises:
        PluginError: an axis has no spec left, or a plugin file is broken that no spec names.
    """
    wrong: dict[str, PluginError] = {}
    loaders = {"dataset": registry.dataset, "attack": registry.attack, "defense": registry.stack}
    for steps in ({kind: partial(registry.canonical, kind) for kind in loaders}, loaders):  # names first: no torch
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

    The undefended run of every attack and the unattacked run of every defense are included, because the metrics compare
    with them. The order in a grid is by dataset, seed, defense and attack, baselines first.
    """
    return tuple(dict.fromkeys(cell for grid in grids for cell in _cells(grid, registry)))


def _cells(grid: Grid, registry: Registry) -> Iterator[Cell]:
    attacks = _unique([UNATTACKED, *(registry.canonical("attack", attack) for attack in grid.attacks)])
    datasets = _unique(registry.canonical("dataset", dataset) for dataset in grid.datasets)
    stacks = _unique([UNDEFENDED, *forms(grid.defenses, registry, grid.forms)])
    for dataset in datasets:
        common = with_owners(grid.settings, dataset, registry)
        cell = registry.canonical_cell(Cell(dataset, UNDEFENDED, UNATTACKED, **common))
        for seed, stack, attack in itertools.product(range(grid.seeds), stacks, attacks):
            yield dataclasses.replace(cell, defense=stack, attack=attack, seed=seed)


def with_owners(given: Mapping[str, Any], dataset: str, registry: Registry) -> Mapping[str, Any]:
    """Return settings in which all natural owners are clients, for a natural partition without a number of clients.

    Raises:
        AgrbenchError: the dataset cannot be loaded, or has no natural owners.
    """
    if "clients" in given or settings.read("partition", given.get("partition", "iid")).name != "natural":
        return given
    from agrbench.simulation.preparation import owners  # imports torch

    return {**given, "clients": owners(registry.dataset(dataset))}


def plan(cells: Sequence[Cell], registry: Registry, store: Store, keep_stale: bool = False) -> Plan:
    """Sort cells into ready ones, ones to compute (missing, failed or, by default, stale) and inapplicable ones."""
    skips: dict[Cell, str] = {}
    ready: list[Cell] = []
    waiting: list[Cell] = []
    stale: list[Cell] = []
    before: dict[Cell, Stamp] = {}
    stack_of, attack_of = cache(registry.stack), cache(registry.attack)  # thousands of cells have few of them
    for cell in cells:
        try:
            stack = stack_of(cell.defense)
            stack.check(cell.participants, cell.bound)
            stack.meet(attack_of(cell.attack))
        except Inapplicable as reason:
            skips[cell] = str(reason)
            continue
        except PluginError:  # its cells fail, each with the reason, and cost no other
            waiting.append(cell)
            before[cell] = stamp(store, cell)
            continue
        before[cell] = stamp(store, cell)
        record = store.read(cell)
        if record is None or record["status"] != "done":
            waiting.append(cell)
        elif record["source"] != registry.sources(cell):
            stale.append(cell)
            (ready if keep_stale else waiting).append(cell)
        else:
            ready.append(cell)
    return Plan(tuple(cells), skips, tuple(ready), tuple(waiting), tuple(stale), before)


def forms(defenses: Iterable[str], registry: Registry, which: str) -> list[str]:
    """List specs in canonical form, each in the forms `which` selects; one with a column stage stays as it is."""
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
