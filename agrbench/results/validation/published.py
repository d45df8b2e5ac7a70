"""Read what others published: accuracies with their source and licence, and the cells that recompute them."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from typing import TYPE_CHECKING, Any

from agrbench.cells import Cell
from agrbench.errors import AgrbenchError

if TYPE_CHECKING:
    from agrbench.plugins.registry import Registry


@dataclass(frozen=True)
class Value:
    """A published mean accuracy in percent, over the source's seeds.

    It is of `defense` under one attack, or the lowest under any of several. `deviation` is that of its seeds in
    points, with ddof 1, or `None` if none was published. `settings` are those that differ between the suite's values.
    """

    defense: str
    attacks: tuple[str, ...]
    settings: Mapping[str, Any]
    accuracy: float
    deviation: float | None


@dataclass(frozen=True)
class Published:
    """A suite of published values.

    `seeds` is the number of seeds behind each of them, and `rounding` half of their last digit, in points. An accuracy
    is that after the last round, or, if `best_of` is a number, the highest mean at any multiple of so many rounds.
    """

    name: str
    title: str
    source: str
    licence: str
    notes: tuple[str, ...]
    seeds: int
    rounding: float
    best_of: int | None
    dataset: str
    settings: Mapping[str, Any]
    values: tuple[Value, ...]

    def cell(self, value: Value, attack: str, seed: int, registry: Registry) -> Cell:
        """Return the cell that recomputes a value under one of its attacks with one seed."""
        return Cell(
            registry.canonical("dataset", self.dataset),
            registry.canonical("defense", value.defense),
            registry.canonical("attack", attack),
            seed,
            **{**self.settings, **value.settings},
        )


def names() -> list[str]:
    """List the suites of published values."""
    return sorted(
        file.name[:-5] for file in resources.files(__name__.rpartition(".")[0]).iterdir() if _is_suite(file.name)
    )


def read(name: str) -> Published:
    """Read a suite of published values by name.

    Raises:
        AgrbenchError: there is no such suite; the message lists those there are.
    """
    if name not in names():
        near = difflib.get_close_matches(name, names()) or names()
        raise AgrbenchError(f"no suite of published values is named {name!r}; write {' or '.join(near)}")
    table = tomllib.loads((resources.files(__name__.rpartition(".")[0]) / f"{name}.toml").read_text(encoding="utf-8"))
    rows, attacks, ddof = table.pop("rows"), tuple(table.pop("attacks")), table.pop("deviation", "sample")
    scale = (table["seeds"] / (table["seeds"] - 1)) ** 0.5 if ddof == "population" else 1.0
    values = tuple(value for row in rows for value in _values(row, attacks, scale))
    return Published(name, values=values, notes=tuple(table.pop("notes")), best_of=table.pop("best_of", None), **table)


def _values(row: Mapping[str, Any], attacks: tuple[str, ...], scale: float) -> list[Value]:
    """Read a row: one value for each attack, or one for the worst of all."""
    defense, settings = row["defense"], row.get("settings", {})
    if "worst" in row:
        return [Value(defense, attacks, settings, row["worst"], None)]
    return [
        Value(defense, (attack,), settings, accuracy, scale * deviation)
        for attack, accuracy, deviation in zip(attacks, row["accuracy"], row["deviation"], strict=True)
    ]


def _is_suite(name: str) -> bool:
    return name.endswith(".toml")


def chosen(suite: Published, defenses: Sequence[str], attacks: Sequence[str], registry: Registry) -> Published:
    """Keep the values of the given defenses and attacks; none given keeps all.

    Raises:
        AgrbenchError: no value is of them, or a spec is invalid.
    """
    wanted = {
        kind: {registry.canonical(kind, each) for each in given}
        for kind, given in (("defense", defenses), ("attack", attacks))
    }
    kept = tuple(
        value
        for value in suite.values
        if (not defenses or registry.canonical("defense", value.defense) in wanted["defense"])
        and (not attacks or wanted["attack"] & {registry.canonical("attack", each) for each in value.attacks})
    )
    if not kept:
        there = dict.fromkeys(
            (*(each.defense for each in suite.values), *(a for each in suite.values for a in each.attacks))
        )
        raise AgrbenchError(
            f"{suite.name} has no value of {', '.join([*defenses, *attacks])}; it has {', '.join(there)}"
        )
    return replace(suite, values=kept)
