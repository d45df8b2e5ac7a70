"""What the page shows, as plain data: every number is one of the tables' (docs/report.md)."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agrbench import specs
from agrbench.cells import UNATTACKED, UNDEFENDED
from agrbench.errors import AgrbenchError, SpecError
from agrbench.plugins.registry import Registry
from agrbench.results import searches
from agrbench.results.leaderboard.common import author, common
from agrbench.results.leaderboard.page import certificate
from agrbench.results.metrics import Group, base_of
from agrbench.results.page.answers import answer
from agrbench.results.tables import matrix, triad, worst
from agrbench.results.tables.notes import missing, protocol, title
from agrbench.results.tables.ranking import about, unranked
from agrbench.results.tables.standing import standings

DIGITS = 6  # decimals of points, percent and milliseconds
TRIAD = (
    "mean_loss", "worst_success", "fidelity_loss", "server_ms", "server_ratio", "gain", "gain_low", "gain_high",
    "gain_p", "gain_interval",
)  # fmt: skip
TAKEN = ("collapsed", "unstable")  # what a flat row of a table says as the page does

Row = dict[str, Any]


@dataclass(frozen=True)
class Known:
    """What a page knows beside its records: plugins, demanded attacks, breaking points and certificates."""

    registry: Registry
    demanded: Sequence[str] = ()
    points: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    certified: Mapping[str, str] = field(default_factory=dict)


def model(source: str, group: Group, known: Known) -> Row:
    """Return what the page shows of one group of comparable records, which came from `source`."""
    shared, left_out = common(group)
    ranking = worst.ranking(shared)
    worsts = {row["defense"]: row for row in worst.table(shared).data} if shared.attacks else {}
    ranks = {name: row["rank"] for name, row in worsts.items() if row["rank"] is not None}
    cells = list(_cells(group))
    losses = {(cell["defense"], cell["attack"]): cell for cell in cells}
    triads = {row["defense"]: row for row in triad.table(shared).data}
    defenses = [
        _defense(name, group, known)
        | {"rank": ranks.get(name), "best_attack": (best := _strongest(name, group, losses))}
        | {"best_author": author(best, known.registry) if best else ""}
        | _worst(worsts.get(name))
        | {key: _round(triads[name][key]) if name in triads else None for key in TRIAD}
        | {key: any(cell[key] for cell in cells if cell["defense"] == name) for key in TAKEN}
        for name in group.defenses
    ]
    return {
        "id": _identity(source, group),
        "source": source,
        "title": title("", group).removeprefix(": "),
        "dataset": group.dataset,
        "first": group.cell.first,
        "last": group.cell.rounds,
        "share": group.cell.attackers / group.cell.clients,
        "seeds": list(group.every_seed),
        "answer": answer(shared, ranking, worsts, ranks),
        "over": " ".join(about({"": ranking}, [row["interval"] for row in worsts.values()])),
        "weaker": " ".join(_plain(worst.weaker(shared, known.demanded))),
        "notes": _plain(
            [*unranked({"": ranking}), *left_out, *missing(shared, {"": ranking}, unattacked=(UNDEFENDED,))]
        ),
        "attacks": [_attack(name, group, shared, known.registry) for name in (UNATTACKED, *group.attacks)],
        "defenses": defenses,
        "cells": cells,
        "missing": _missing(group),
    }  # fmt: skip


def _identity(source: str, group: Group) -> str:
    """Name a group by what it is, so that links to it last."""
    text = json.dumps([source, group.dataset, dict(group.settings), protocol(group)], sort_keys=True)
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:8]


def _plain(notes: Sequence[str]) -> list[str]:
    """Write notes without the marks for code."""
    return [note.replace("`", "") for note in notes]


def _round(value: Any) -> Any:
    """Round a number, and write one that is unknown as `None`."""
    if not isinstance(value, float):
        return value
    return round(value, DIGITS) + 0.0 if math.isfinite(value) else None


def _defense(name: str, group: Group, known: Known) -> Row:
    """Return what a defense is, where it breaks and what is certified of it."""
    terms = rules(name)
    cell = group.cell
    mine = known.points.get(searches.setting(cell), {}) if cell.bound == cell.assumed else {}
    family, summary = _told(known.registry, "defense", terms[-1])
    return {
        "name": name, "base": base_of(name), "amplified": base_of(name) != name, "stages": terms[:-1],
        "family": family, "summary": summary, "breaks": mine.get(name),
        "certificate": _certificate(name, known.certified),
    }  # fmt: skip


def rules(spec: str) -> list[str]:
    """Return the names in a spec, left to right; a record may hold a text that is none, which counts as one name."""
    try:
        return [term.name for term in specs.parse(spec)]
    except SpecError:
        return [spec]


def _certificate(name: str, certified: Mapping[str, str]) -> str | None:
    """Return the verdicts on a stack's plugins; `None` if there is none on any."""
    return certificate(name, certified) if set(rules(name)) & set(certified) else None


def _told(registry: Registry, kind: str, name: str) -> tuple[str, str]:
    """Return a plugin's family and first line; both say that it is out of reach if it is."""
    try:
        entry = registry.entry(kind, name)
        return str(entry.literal("family", "other")) if kind == "defense" else "", entry.summary
    except AgrbenchError:
        return "unknown", ""


def _worst(row: Mapping[str, Any] | None) -> Row:
    """Return a defense's loss under its worst attack."""
    names = {"worst_attack": "attack", "worst_loss": "loss", "worst_low": "low", "worst_high": "high"}
    names |= {"interval": "interval", "regret": "regret", "regret_p": "regret_p", "seeds": "seeds"}
    return {ours: None if row is None else _round(row[theirs]) for ours, theirs in names.items()}


def _strongest(defense: str, group: Group, losses: Mapping[tuple[str, str], Row]) -> str | None:
    """Name the attack that costs a defense most among all that were tried, even where few defenses met it."""
    found = [losses[defense, attack] for attack in group.attacks if (defense, attack) in losses]
    strongest: str | None = max(found, key=lambda cell: float(cell["loss"]), default={"attack": None})["attack"]
    return strongest


def _attack(name: str, group: Group, shared: Group, registry: Registry) -> Row:
    """Return what an attack is; `common` attacks count in the ranking."""
    summary = _told(registry, "attack", rules(name)[0])[1]
    counts = name in (UNATTACKED, *shared.attacks)
    return {"name": name, "summary": summary, "common": counts, "targeted": group.targeted(name)}


def _cells(group: Group) -> Iterator[Row]:
    """Yield what each defense loses under each attack, and under none, ranked attack by attack."""
    hits = {(row["defense"], row["attack"]): row for row in matrix.table(group, "success").data}
    rows = [*matrix.table(group, "fidelity").data, *matrix.table(group, "loss").data]
    for attack in dict.fromkeys(row["attack"] for row in rows):
        mine = [row for row in rows if row["attack"] == attack]
        ranks = _ranks(group, attack, mine)
        yield from (_cell(row, hits.get((row["defense"], attack)), ranks.get(row["defense"])) for row in mine)


def _ranks(group: Group, attack: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Rank the defenses under one attack."""
    ranking = matrix.ranking_of(group, matrix.METRICS["loss" if attack != UNATTACKED else "fidelity"], attack)
    return standings({row["defense"]: worst.sample(row).points for row in rows if ranking.ranks(row["defense"])})


def _cell(row: Mapping[str, Any], hit: Mapping[str, Any] | None, rank: int | None) -> Row:
    numbers = {"loss": row["mean"], "low": row["low"], "high": row["high"]}
    numbers |= {"fidelity": row.get("fidelity"), "damage": row.get("damage")}
    if hit is not None:
        numbers |= {"success": hit["mean"], "success_low": hit["low"], "success_high": hit["high"]}
        numbers |= {"untriggered": hit["untriggered"]}
    shown = {name: None if value is None else _round(100 * value) for name, value in numbers.items()}
    told = {"defense": row["defense"], "attack": row["attack"], "interval": row["interval"], "seeds": row["seeds"]}
    return told | shown | {"rank": rank} | {key: row[key] for key in TAKEN}


def _missing(group: Group) -> list[Row]:
    """List the runs without a result, with the reason."""
    found = {(defense, attack): reason for (defense, attack, _), reason in group.missing.items()}
    return [{"defense": defense, "attack": attack, "reason": reason} for (defense, attack), reason in found.items()]
