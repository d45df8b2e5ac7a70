"""The text above and below a table: its title, its seeds, its marks, and what is missing from it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agrbench.cells import PROTOCOL, UNATTACKED, Cell
from agrbench.results.metrics import NEAR, Group
from agrbench.settings import own_rate, spelled


def title(what: str, group: Group) -> str:
    """Write what a table shows, for which dataset and under which settings."""
    cell = group.cell
    return (
        f"{what}: {group.spelled or group.dataset}, {federation(cell)}, "
        f"{cell.rounds} rounds, attack from {cell.first}{beyond(group.settings)}{_another(protocol(group))}"
    )


def protocol(group: Group) -> int:
    """Return the protocol under which a group's records were computed."""
    number: int = next(iter(group.records.values()))["protocol"]
    return number


def _another(number: int) -> str:
    return "" if number == PROTOCOL else f", protocol {number}"


def labels(group: Group, unit: str) -> dict[str, Any]:
    """Return the first columns of a flat row: what was run, under which settings, and the unit of its numbers."""
    number = protocol(group)
    other = {} if number == PROTOCOL else {"protocol": number}
    return {"dataset": group.dataset, "settings": dict(group.settings), **other, "unit": unit}


def federation(cell: Cell) -> str:
    """Write how many clients there are, take part in a round, are malicious, and are assumed to be by the server."""
    assumed = f"{cell.bound}" if cell.sample is None else f"{cell.bound} a round"
    malicious = spelled("malicious", cell.count)
    return f"{cell.clients} clients{a_round(cell)}, {malicious} malicious (server assumes {assumed})"


def a_round(cell: Cell) -> str:
    """Write how many clients take part in a round, unless all do."""
    return "" if cell.sample is None else f", {cell.participants} a round"


def beyond(settings: Mapping[str, Any]) -> str:
    """List the other settings that differ from their defaults, each with all its hyperparameters."""
    said = ("clients", "rounds", "start", "malicious", "byzantine")
    rate = own_rate(settings["schedule"]) if "schedule" in settings else None
    shown = {**settings, **({} if rate is None else {"rate": settings.get("rate", rate)})}
    return "".join(
        f", {key} {spelled(key, value)}"
        for key, value in shown.items()
        if key not in said and not (key == "sample" and isinstance(value, int))
    )


def about_seeds(group: Group, how: Iterable[str | None]) -> str:
    """Write how many seeds there are and which methods the intervals use."""
    seeds = group.every_seed
    if len(seeds) == 1:
        return f"One seed ({seeds[0]}): no interval."
    kinds = sorted({kind for kind in how if kind})
    return f"{len(seeds)} seeds; 95% intervals: {'; '.join(kinds) or 'none'}."


def marks(collapsed: bool, group: Group) -> list[str]:
    """Explain the marks of a table."""
    line = "under twice" if group.classes >= 1 / NEAR else f"within {100 * NEAR:.0f} points of"
    best = "Best defense marked (fedavg is the baseline and is not ranked)."
    return [best, f"† collapsed: a model ends {line} chance accuracy."] if collapsed else [best]


def missing(group: Group, unattacked: Sequence[str] | None = None) -> list[str]:
    """List what is missing, by reason; of unattacked runs, list those of the defenses in `unattacked` (`None`: all)."""
    reasons: dict[str, dict[str, None]] = {}
    for (defense, attack, _), reason in {**group.missing, **_absent(group)}.items():
        if attack == UNATTACKED and unattacked is not None and defense not in unattacked:
            continue
        reasons.setdefault(reason, {})[f"{defense} under {attack}"] = None
    return [f"Not ranked: {_listed(list(names))}: {reason}." for reason, names in reasons.items()]


def _absent(group: Group) -> dict[tuple[str, str, int], str]:
    cells = itertools.product(group.defenses, (UNATTACKED, *group.attacks), group.every_seed)
    return {cell: "no record" for cell in cells if cell not in group.records and cell not in group.missing}


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
