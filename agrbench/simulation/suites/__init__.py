"""Suites: grids written as TOML files, shipped in this folder or written by a user (docs/suites.md)."""

from __future__ import annotations

import dataclasses
import difflib
import os
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from agrbench import specs
from agrbench.errors import AgrbenchError
from agrbench.plugins.registry import Registry
from agrbench.settings import without_rate
from agrbench.simulation.grid import FORMS, SETTINGS, Grid

AXES = ("datasets", "attacks", "defenses")
KEYS = (*AXES, "seeds", "forms", "settings")


@dataclasses.dataclass(frozen=True)
class Suite:
    """Grids that run together, and a title that says what they are for."""

    title: str
    grids: tuple[Grid, ...]


def shipped() -> list[str]:
    """List the names of the shipped suites."""
    return sorted(file.name[:-5] for file in resources.files(__name__).iterdir() if file.name.endswith(".toml"))


def read(name: str) -> Suite:
    """Read a shipped suite by name, or a TOML file by path.

    Raises:
        AgrbenchError: there is no such suite, or the file is not a valid one; the message says what to write.
    """
    return _read(name, ())


def demanded(registry: Registry) -> list[str]:
    """List, in canonical form, the attacks that a claim of robustness must survive: those of the suite `worst`."""
    return [registry.canonical("attack", attack) for grid in read("worst").grids for attack in grid.attacks]


def choose(
    name: str | None,
    attacks: Sequence[str],
    defenses: Sequence[str],
    datasets: Sequence[str],
    seeds: int | None,
    settings: Mapping[str, Any],
    forms: str | None = None,
) -> tuple[Grid, ...]:
    """Return the grids of a suite, by default the demo's, with the given axes and settings replaced.

    Axes given without a suite use the paper's settings; an axis that is not given is the demo's.

    Raises:
        AgrbenchError: see `read`; or the suite has several grids, none of which has a given dataset.
    """
    grids = read(name or "demo").grids
    if name is None and (attacks or defenses or datasets):
        grids = tuple(dataclasses.replace(grid, settings={}) for grid in grids)
    axes = {"attacks": attacks, "defenses": defenses, "datasets": datasets, "seeds": seeds, "forms": forms}
    return _over(grids, {key: value for key, value in axes.items() if value} | {"settings": settings}, name or "demo")


def _read(name: str, within: tuple[str, ...]) -> Suite:
    if name.endswith(".toml") and within and within[-1].endswith(".toml"):
        name = os.path.normpath(Path(within[-1]).parent / name)  # relative to the file that includes it
    if name in within:
        raise AgrbenchError(f"{name} includes itself ({' > '.join([*within, name])}); take one include out")
    table = _table(_text(name), name)
    grids = tuple(grid for other in table.pop("include", ()) for grid in _read(other, (*within, name)).grids)
    title, variations = table.pop("title", ""), table.pop("grids", [{}])
    grids = _over(grids or (Grid((), (), ()),), table, name)
    grids = tuple(grid for variation in variations for grid in _over(grids, variation, name))
    for axis in AXES:
        if not all(getattr(grid, axis) for grid in grids):
            raise AgrbenchError(f'{name}: {axis} is not a list of specs; write {axis} = ["...", "..."]')
    return Suite(title, grids)


def _text(name: str) -> str:
    if name.endswith(".toml"):
        try:
            return Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
            raise AgrbenchError(f"{name}: the suite cannot be read ({why}); give the path of a .toml file") from error
    if name not in shipped():
        near = difflib.get_close_matches(name, shipped())
        raise AgrbenchError(
            f"no suite is named {name!r}; write {' or '.join(near or shipped())}, or the path of a .toml file"
        )
    return (resources.files(__name__) / f"{name}.toml").read_text(encoding="utf-8")


def _table(text: str, name: str) -> dict[str, Any]:
    """Parse TOML and check its form."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise AgrbenchError(f"{name}: not TOML ({error}); mend the file") from error
    _check(table, (*KEYS, "title", "include", "grids"), name)
    if not _texts(table.get("include", [])):
        raise AgrbenchError(f'{name}: include is not a list of suites; write include = ["paper"]')
    if not isinstance(table.get("title", ""), str):
        raise AgrbenchError(f'{name}: title is not text; write title = "what the suite is for"')
    variations = table.get("grids", [])
    if not isinstance(variations, list) or not all(isinstance(each, dict) for each in variations):
        raise AgrbenchError(f"{name}: grids is not a list of tables; write each below a line [[grids]]")
    for variation in variations:
        _check(variation, KEYS, name)
    return table


def _check(table: Mapping[str, Any], known: Sequence[str], name: str) -> None:
    """Check the keys of a table and the form of their values."""
    inside = table.get("settings", {})
    if not isinstance(inside, dict):
        raise AgrbenchError(f"{name}: settings is not a table; write it as [settings]")
    for given, allowed, what in ((table, known, "key of a suite"), (inside, SETTINGS, "setting")):
        for wrong in set(given) - set(allowed):
            ways = difflib.get_close_matches(wrong, allowed) or sorted(allowed)
            raise AgrbenchError(f"{name}: {wrong!r} is no {what}; write {' or '.join(ways)}")
    for axis in AXES:
        if axis in table and not (_texts(table[axis]) and table[axis]):
            raise AgrbenchError(f'{name}: {axis} is not a list of specs; write {axis} = ["...", "..."]')
    seeds, forms = table.get("seeds", 1), table.get("forms", "both")
    if type(seeds) is not int or seeds < 1:
        raise AgrbenchError(f"{name}: seeds is {seeds!r}; write their number, 1 or more")
    if forms not in FORMS:
        raise AgrbenchError(f"{name}: forms is {forms!r}; write {' or '.join(FORMS)}")


def _over(grids: tuple[Grid, ...], changes: Mapping[str, Any], name: str) -> tuple[Grid, ...]:
    """Replace each grid's axes and override its settings.

    If there are several grids, `datasets` selects those that name them.
    """
    changes = dict(changes)
    changes |= {axis: specs.spread(changes[axis]) for axis in AXES if axis in changes}
    if "datasets" in changes:
        grids = _picked(grids, changes.pop("datasets"), name)
    given = changes.pop("settings", {})
    axes: dict[str, Any] = {key: tuple(value) if key in AXES else value for key, value in changes.items()}
    return tuple(dataclasses.replace(grid, settings=_settings(grid.settings, given), **axes) for grid in grids)


def _settings(before: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Override settings.

    A new schedule brings its own rate and drops a rate that was chosen for another schedule. Natural owners are as many
    as they are, so they drop a number of clients that was chosen for another partition.
    """
    if str(given.get("partition")).startswith("natural"):
        before = {name: value for name, value in before.items() if name != "clients"}
    if not isinstance(given.get("schedule"), str):
        return {**before, **given}
    schedule, rate = without_rate(given["schedule"])
    kept = {name: value for name, value in before.items() if name != "rate"}
    return {**kept, **({} if rate is None else {"rate": rate}), **given, "schedule": schedule}


def _picked(grids: tuple[Grid, ...], datasets: Sequence[str], name: str) -> tuple[Grid, ...]:
    """Return, for each dataset, the grids that name its plugin, reduced to it; a single grid accepts any dataset."""
    if len(grids) == 1:
        return (dataclasses.replace(grids[0], datasets=tuple(datasets)),)
    picked = []
    for dataset in datasets:
        mine = [grid for grid in grids if _name(dataset) in map(_name, grid.datasets)]
        if not mine:
            named = dict.fromkeys(other for grid in grids for other in grid.datasets)
            raise AgrbenchError(f"{name}: no grid has the dataset {dataset}; write {' or '.join(named)}")
        picked += [dataclasses.replace(grid, datasets=(dataset,)) for grid in mine]
    return tuple(picked)


def _name(dataset: str) -> str:
    return specs.parse(dataset)[-1].name


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)
