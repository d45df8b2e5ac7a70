"""A grid in words becomes cells: every attack x defense, base and amplified, with what the metrics need besides."""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from agrbench.cells import UNATTACKED, UNDEFENDED, Cell
from agrbench.errors import AgrbenchError, Inapplicable, PluginError
from agrbench.execution import sources
from agrbench.registry import Registry
from agrbench.store import Store

AMPLIFIER = "amp"
Forms = Literal["both", "base", "amplified"]
SETTINGS = tuple(f.name for f in dataclasses.fields(Cell) if f.name not in ("dataset", "defense", "attack", "seed"))


@dataclass(frozen=True)
class Grid:
    """The axes of a grid and the settings of all its cells."""

    datasets: tuple[str, ...]
    attacks: tuple[str, ...]
    defenses: tuple[str, ...]
    seeds: int = 3
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    title: str = ""


@dataclass(frozen=True)
class Plan:
    """What a grid comes to: cells to compute, cells already there, cells that do not exist and why."""

    cells: tuple[Cell, ...]
    skips: Mapping[Cell, str]
    ready: tuple[Cell, ...]
    waiting: tuple[Cell, ...]
    stale: tuple[Cell, ...]


def suites() -> dict[str, Grid]:
    """Read all shipped suites."""
    folder = resources.files("agrbench.suites")
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".toml")), key=lambda file: file.name)
    return {name: _grid(file.read_text(encoding="utf-8"), name) for file in files if (name := file.name[:-5])}


def suite(name: str) -> Grid:
    """Read a shipped suite by name, or a TOML file by path.

    Raises:
        AgrbenchError: there is no such suite, or the file is not one; the message says what to write.
    """
    if name.endswith(".toml"):
        try:
            return _grid(Path(name).read_text(encoding="utf-8"), name)
        except OSError as error:
            raise AgrbenchError(
                f"{name}: the suite cannot be read ({error.strerror}); give the path of a .toml file"
            ) from error
    shipped = suites()
    if name in shipped:
        return shipped[name]
    near = difflib.get_close_matches(name, shipped)
    raise AgrbenchError(
        f"no suite is named {name!r}; write {' or '.join(near or shipped)}, or the path of a .toml file"
    )


def choose(
    name: str | None,
    attacks: Sequence[str],
    defenses: Sequence[str],
    datasets: Sequence[str],
    seeds: int | None,
    settings: Mapping[str, Any],
) -> Grid:
    """Take a suite, by default the demo, with the axes and settings that were given put in their place.

    Axes without a suite take the paper's settings, and an axis that was not given takes the demo's.
    """
    own = bool(attacks or defenses or datasets)
    chosen = suite(name or "demo")
    start = {} if own and name is None else chosen.settings
    return Grid(
        tuple(datasets) or chosen.datasets,
        tuple(attacks) or chosen.attacks,
        tuple(defenses) or chosen.defenses,
        seeds or chosen.seeds,
        {**start, **settings},
        chosen.title,
    )


def sound(grid: Grid, registry: Registry) -> tuple[Grid, list[PluginError]]:
    """Leave out the specs whose plugin files are broken, so that the others can run; give what is wrong with them.

    Raises:
        PluginError: nothing of an axis is left, or nothing names a broken file.
    """
    wrong: dict[str, PluginError] = {}
    loaders = {"dataset": registry.dataset, "attack": registry.attack, "defense": registry.stack}
    for steps in ({kind: partial(registry.canonical, kind) for kind in loaders}, loaders):  # spellings first: no torch
        for kind, step in steps.items():
            for spec in getattr(grid, f"{kind}s"):
                try:
                    step(spec)
                except PluginError as error:
                    wrong[spec] = error
    unnamed = [error for error in registry.broken.values() if error not in wrong.values()]
    if unnamed:
        raise unnamed[0]
    axes: dict[str, Any] = {}
    for kind in loaders:
        axes[f"{kind}s"] = tuple(spec for spec in getattr(grid, f"{kind}s") if spec not in wrong)
        if not axes[f"{kind}s"]:
            raise next(iter(wrong.values()))
    return dataclasses.replace(grid, **axes), list(wrong.values())


def expand(grid: Grid, registry: Registry, forms: Forms = "both") -> tuple[Cell, ...]:
    """List a grid's cells: base and amplified forms of every defense under every attack.

    The undefended run of every attack and the unattacked run of every defense come with them, since the metrics compare
    with those. The order is by dataset, seed, defense and attack, the baseline first.
    """
    attacks = _unique([UNATTACKED, *(registry.canonical("attack", attack) for attack in grid.attacks)])
    datasets = _unique(registry.canonical("dataset", dataset) for dataset in grid.datasets)
    stacks = _unique([UNDEFENDED, *_forms(grid.defenses, registry, forms)])
    return tuple(
        Cell(dataset, stack, attack, seed, **grid.settings)
        for dataset in datasets
        for seed in range(grid.seeds)
        for stack in stacks
        for attack in attacks
    )


def plan(cells: Sequence[Cell], registry: Registry, store: Store, keep_stale: bool = False) -> Plan:
    """Sort cells into those there, those to compute (failed or stale ones again) and those that do not exist."""
    skips: dict[Cell, str] = {}
    ready: list[Cell] = []
    waiting: list[Cell] = []
    stale: list[Cell] = []
    for cell in cells:
        try:
            registry.stack(cell.defense).check(cell.clients, cell.bound)
        except Inapplicable as reason:
            skips[cell] = str(reason)
            continue
        record = store.read(cell)
        if record is None or record["status"] != "done":
            waiting.append(cell)
        elif record["source"] != sources(cell, registry):
            stale.append(cell)
            (ready if keep_stale else waiting).append(cell)
        else:
            ready.append(cell)
    return Plan(tuple(cells), skips, tuple(ready), tuple(waiting), tuple(stale))


def _forms(defenses: Iterable[str], registry: Registry, forms: Forms) -> list[str]:
    """Give each spec in its one form; one without a column stage is followed by its amplified form."""
    found = []
    for base in [registry.canonical("defense", spec) for spec in defenses]:
        stages = registry.entries("defense", base)[:-1]
        if any(stage.has_columns for stage in stages):
            found.append(base)
            continue
        if forms != "amplified":
            found.append(base)
        if forms != "base" and registry.stack(base).defense.record.amplifier is not None:
            found.append(f"{AMPLIFIER}+{base}")
    return found


def _grid(text: str, name: str) -> Grid:
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise AgrbenchError(f"{name}: not TOML ({error}); mend the file") from error
    known = {f.name for f in dataclasses.fields(Grid)}
    settings = table.get("settings", {})
    if not isinstance(settings, dict):
        raise AgrbenchError(f"{name}: settings is not a table; write it as [settings]")
    for wrong in [*(set(table) - known), *(set(settings) - set(SETTINGS))]:
        allowed = sorted(known) if wrong in table else sorted(SETTINGS)
        near = difflib.get_close_matches(wrong, allowed)
        raise AgrbenchError(f"{name}: {wrong!r} is no key of a suite; write {' or '.join(near or allowed)}")
    for axis in ("datasets", "attacks", "defenses"):
        values = table.get(axis, [])
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values) or not values:
            raise AgrbenchError(f'{name}: {axis} is not a list of specs; write {axis} = ["...", "..."]')
        table[axis] = tuple(values)
    if not isinstance(table.get("seeds", 3), int) or table.get("seeds", 3) < 1:
        raise AgrbenchError(f"{name}: seeds is {table['seeds']!r}; write their number, 1 or more")
    return Grid(**table)


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))
