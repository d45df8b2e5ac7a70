"""The text above and below a table: its title, its marks, and what is missing from it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agrbench import specs
from agrbench.cells import PROTOCOL, UNATTACKED, UNDEFENDED, Cell
from agrbench.plugins.elsewhere import is_elsewhere
from agrbench.results.metrics import NEAR, Group
from agrbench.results.stability import FALL
from agrbench.results.tables.ranking import Ranking, listed
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


def mark(row: Mapping[str, Any]) -> str:
    """Write the marks of a flat row."""
    return ("†" if row["collapsed"] else "") + ("‡" if row["unstable"] else "")


def marks(rows: Iterable[Mapping[str, Any]], group: Group, best: bool) -> list[str]:
    """Explain the marks that a table has."""
    rows, line = list(rows), "under twice" if group.classes >= 1 / NEAR else f"within {100 * NEAR:.0f} points of"
    explained = {
        "Best defense marked (fedavg is the baseline and is not ranked).": best,
        f"† collapsed: a model ends {line} chance accuracy.": any(row["collapsed"] for row in rows),
        "‡ unstable: the run without attack or defense loses more than "
        f"{FALL:.0f} points between two evaluations, and so does the run compared with it: the loss is noise in part.":
        any(row["unstable"] for row in rows),
    }  # fmt: skip
    return [note for note, holds in explained.items() if holds]


def no_best(word: str, where: Sequence[str]) -> list[str]:
    """Say where no defense is marked because fedavg does better than all of them; `word` is "in" or "under"."""
    if not where:
        return []
    return [f"No defense is marked {word} {listed(where)}: each does worse there than fedavg, which defends nothing."]


def missing(group: Group, rankings: Mapping[str, Ranking], unattacked: Sequence[str] | None = None) -> list[str]:
    """List what is missing, by reason; of unattacked runs, list those of the defenses in `unattacked` (`None`: all).

    `rankings` has one for each attack, or just one. A defense that has no seed there is not ranked for that reason.
    """
    first = next(iter(rankings.values()), Ranking({}, ()))
    reasons: dict[tuple[str, str], list[str]] = {}
    for defense, attack in itertools.product(group.defenses, (UNATTACKED, *group.attacks)):
        if attack == UNATTACKED and unattacked is not None and defense not in unattacked:
            continue
        ranking = rankings.get(attack, first)
        kind = "Missing" if defense == UNDEFENDED or ranking.had.get(defense) else "Not ranked"
        for reason in _reasons(group, defense, attack, ranking):
            reasons.setdefault((kind, reason), []).append(f"{defense} under {attack}")
    return _weightless(group) + [f"{kind}: {listed(names)}: {reason}." for (kind, reason), names in reasons.items()]


def _weightless(group: Group) -> list[str]:
    """Say which defenses are rules from elsewhere, of which a table lacks what weights would tell."""
    found = [spec for spec in group.defenses if is_elsewhere(specs.natural(spec)[-1][0])]
    why = "rules from elsewhere return a step and no weights, so they have no amplified form and no rates of trust"
    return [f"No weights: {listed(found)}: {why}."] if found else []


def _reasons(group: Group, defense: str, attack: str, ranking: Ranking) -> Iterable[str]:
    """Say why runs are missing: what their records say, and that there is none on a seed that is shown."""
    found = {seed: group.missing.get((defense, attack, seed)) for seed in group.every_seed}
    known = {seed: why for seed, why in found.items() if why is not None}
    wanted = (() if defense == UNDEFENDED else ranking.shown(defense)) or group.every_seed
    absent = [seed for seed in wanted if (defense, attack, seed) not in group.records and seed not in known]
    return dict.fromkeys([*known.values(), *("no record" for _ in absent)])
