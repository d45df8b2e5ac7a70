"""The leaderboard's page, written from its records alone: defenses ranked by their worst case (docs/submitting.md)."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from agrbench import specs
from agrbench.plugins.registry import Registry
from agrbench.results import formats, metrics, searches, store
from agrbench.results.breaking import Search
from agrbench.results.formats import with_interval
from agrbench.results.leaderboard.common import common, stronger
from agrbench.results.leaderboard.publish import PAGE, RECORDS
from agrbench.results.metrics import Group
from agrbench.results.record import Record
from agrbench.results.store import PACKED
from agrbench.results.tables import triad, worst
from agrbench.results.tables.notes import mark
from agrbench.results.tables.ranking import about, unranked
from agrbench.results.text import code, markdown

__all__ = ["PAGE", "breaking_points", "certificates", "page"]

BREAKING = "breaking"  # its records are there for the breaking points, not for a ranking
CERTIFICATES = "certificates.json"
NONE = "—"
HEADERS = ("", "defense", "worst loss", "under", "breaks at", "fidelity loss", "server x fedavg", "certificate")
INTRODUCTION = """\
# Leaderboard

Written by `agrbench leaderboard publish` from the records in this folder, and by nothing else. Each record tells how
it was made: `agrbench show FILE` prints its settings, curves and environment, and the command that computes it again.
[docs/submitting.md](../docs/submitting.md) tells how a defense of yours gets a row,
[docs/metrics.md](../docs/metrics.md) what the numbers mean. More tables of these records: [the default grid](demo.md),
[every rule under every attack](catalogue.md), [breaking points](breaking.md), [beside the paper's values](paper.md).

* Ranked by the **worst loss**: points of accuracy lost under the attack that is worst for the defense, among those
  that its table names, in the mean over seeds and with a 95% interval. Defenses are ranked on the seeds that all
  ranked ones share, and one seed ranks nothing. The best defense without a rank shares it with all that paired tests
  (Holm, 5%) cannot tell from it. A ranking is only as good as its attacks and seeds.
* **Breaks at**: the smallest number of malicious clients at which the worst attack of its search costs ten points,
  where that was measured under the same settings. The search may know attacks that the table lacks.
* **Fidelity loss**: points of accuracy that the defense costs with nobody attacking.
* **Server**: its time a round over fedavg's, while other runs ran beside.
* **Certificate**: how many properties hold, plugin by plugin of a stack; the others are waived, for the reasons in
  [certificates.md](certificates.md).
* `fedavg` is the baseline and has no rank; † marks a model that ends under twice chance
  accuracy, ‡ a loss that is noise in part, because training is unstable without attack or defense.
"""


def page(board: Path, registry: Registry, demanded: Sequence[str], staged: Mapping[Path, Path] | None = None) -> str:
    """Write the page from the records; `demanded` attacks are those that a claim of robustness must survive.

    `staged` maps files of records to those that are about to take their places. A line that is no record is left out,
    with a warning.

    Raises:
        RecordError: two records of a file contradict each other.
    """
    files = {path: path for path in (board / RECORDS).glob(f"*{PACKED}")} | dict(staged or {})
    breaking = board / RECORDS / f"{BREAKING}{PACKED}"
    points = breaking_points(files.pop(breaking, breaking), registry)
    certified = certificates(board / CERTIFICATES)
    parts = [INTRODUCTION]
    for packed in sorted(files):
        records = (record for _, record in store.readable([files[packed]]))
        groups = metrics.groups(records, functools.partial(registry.spelled, "dataset"))
        parts.append(f"## {markdown(packed.stem)}\n")
        parts += [_section(group, demanded, points, certified, registry) for group in groups if group.attacks]
    return "\n".join(parts)


def _section(
    every: Group,
    demanded: Sequence[str],
    points: Mapping[str, Mapping[str, str]],
    certified: Mapping[str, str],
    registry: Registry,
) -> str:
    group, left_out = common(every)
    ranked = worst.table(group)
    triads = {row["defense"]: row for row in triad.table(group).data}
    known = group.cell.bound == group.cell.assumed  # as in the searches for breaking points
    mine = points.get(searches.setting(group.cell), {}) if known else {}
    rows = [_row(row, triads[row["defense"]], mine, certified) for row in ranked.data]
    ranking = {"": worst.ranking(group)}
    notes = [
        f"Worst of {', '.join(map(markdown, group.attacks))}.",
        *worst.weaker(group, demanded),
        *about(ranking, [row["interval"] for row in ranked.data]),
        *map(markdown, unranked(ranking)),
        *_unranked(group, {row["defense"] for row in ranked.data}),
        *left_out,
        *stronger(every, group, registry),
    ]
    title = markdown(ranked.title.partition(": ")[2])
    return formats.markdown_table(title, HEADERS, rows, notes) + "\n"


def _unranked(group: Group, ranked: set[str]) -> Iterator[str]:
    """Name the defenses without a rank, once a reason."""
    reasons: dict[str, list[str]] = {}
    for defense in (each for each in group.defenses if each not in ranked):
        found = dict.fromkeys(why for (name, _, _), why in group.missing.items() if name == defense)
        reasons.setdefault("; ".join(found) or "records are missing", []).append(code(defense))
    for reason, names in reasons.items():
        yield f"Not ranked: {', '.join(names)}: {markdown(reason)}."


def _row(
    row: Mapping[str, Any],
    triads: Mapping[str, Any],
    points: Mapping[str, str],
    certified: Mapping[str, str],
) -> tuple[str, ...]:
    defense = row["defense"]
    numbers = [triads[name] for name in ("fidelity_loss", "server_ratio")]
    return (
        NONE if row["rank"] is None else str(row["rank"]),
        f"{code(defense)}{mark(row)}",
        with_interval(row["loss"], row["low"], row["high"]),
        code(row["attack"]),
        points.get(defense, NONE),
        *(NONE if number is None else f"{number:.1f}" for number in numbers),
        certificate(defense, certified),
    )


def breaking_points(packed: Path, registry: Registry) -> dict[str, dict[str, str]]:
    """Return by setting and defense where it breaks, from the file of the searches' records, if there is one."""
    return points_of([record for _, record in store.readable([packed] if packed.exists() else [])], registry)


def points_of(collected: Sequence[Record], registry: Registry) -> dict[str, dict[str, str]]:
    """Return by setting and defense where it breaks, from the records that `agrbench breaking-point` left."""
    found = searches.recorded(collected, registry)
    return {name: {each.cell.defense: _point(each) for each in mine} for name, mine in found.items()}


def _point(search: Search) -> str:
    if search.next is not None:
        return NONE
    clients = search.cell.clients
    return f"{search.broken}/{clients}" if search.broken is not None else f"> {search.limit}/{clients}"


def certificates(path: Path) -> dict[str, str]:
    """Read the certificates: for each plugin, how many properties hold and how many it waives."""
    found: dict[str, str] = {}
    for made in json.loads(path.read_text(encoding="utf-8")) if path.is_file() else ():
        holds, waived = (len(made[kind]) for kind in ("holds", "waives"))
        found[made["plugin"]] = f"{holds} hold" + (f", {waived} waived" if waived else "") if holds else NONE
    return found


def certificate(spec: str, certified: Mapping[str, str]) -> str:
    """Give the certificates of a stack's plugins, left to right."""
    parts: Sequence[str | None] = [certified.get(term.name) for term in specs.parse(spec)]
    return " + ".join(part or NONE for part in parts) if any(parts) else NONE
