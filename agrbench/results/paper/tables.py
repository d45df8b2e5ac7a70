"""Build the tables of AgrAmplifier (ACSAC 2022), with our value next to each published one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agrbench.results import metrics, statistics
from agrbench.results.formats import NONE, Entry, Table, bracketed
from agrbench.results.metrics import Group
from agrbench.results.paper import claims as published
from agrbench.results.paper import matching
from agrbench.results.paper.claims import Page, PublishedValue
from agrbench.results.paper.matching import Match
from agrbench.results.statistics import FEW, Sample

if TYPE_CHECKING:
    from agrbench.plugins.registry import Registry

HEADERS = ("published", "ours", "difference", "95%\ninterval", "seeds")
RATIOS = ("published\namp / base", "ours\namp / base")
UNSEEDED = "heterogeneity"

Pairs = Sequence[tuple[PublishedValue, Match]]


def beside_published(table: str, groups: Sequence[Group], registry: Registry) -> Table:
    """Build one of the paper's tables from records, or the fifth from data files; rows without a run say so."""
    pairs = []
    for claim in published.published_values(table):
        unseeded = claim.quantity == UNSEEDED
        found = [matching.described(claim, registry)] if unseeded else matching.runs(claim, groups)
        pairs += [(claim, run) for run in found or [Match()]]
    return _table(table, pairs)


def _table(name: str, pairs: Pairs) -> Table:
    page = published.PAGES[name]
    ratios = _published_ratios(claim for claim, _ in pairs)
    data = [_flat(name, claim, run, ratios) for claim, run in pairs]
    marks = list(dict.fromkeys(part for _, run in pairs for part in run.departures))
    rows = [
        (Entry((label,)), *_entries(page, row), Entry((_run_as(run, marks),)))
        for label, row, (_, run) in zip(_labels(page, pairs), data, pairs, strict=True)
    ]
    headers = (page.names, *HEADERS, *(RATIOS if ratios else ()), "run as")
    marked = [f"Run as {place}: {part.rstrip('.')}." for place, part in enumerate(marks, 1)]
    notes = [*page.notes, *_about(data), *marked, _summary(pairs, data)]
    return Table(page.title, headers, tuple(rows), tuple(notes), tuple(data))


def _published_ratios(claims: Iterable[PublishedValue]) -> dict[PublishedValue, float]:
    """Divide each amplified form's published seconds by those of its base form."""
    seconds = {(claim.hidden, claim.defense): claim for claim in claims if claim.hidden}
    return {
        claim: claim.value / seconds[hidden, metrics.base_of(defense)].value
        for (hidden, defense), claim in seconds.items()
        if defense != metrics.base_of(defense)
    }


def _flat(table: str, claim: PublishedValue, run: Match, ratios: Mapping[PublishedValue, float]) -> dict[str, Any]:
    """Write a row at full precision, with `None` for what was not run."""
    seeded = claim.quantity != UNSEEDED
    ours = _measured("", run.sample)
    row = {
        "table": table,
        "quantity": claim.quantity,
        "dataset": claim.dataset,
        "hidden": claim.hidden,
        "attack": "+".join(claim.attacks) if seeded else None,
        "defense": claim.defense if seeded else None,
        "published": claim.value,
        **ours,
        "difference": None if ours["ours"] is None else ours["ours"] - claim.value,
        "seeds": list(run.sample.seeds) or None if seeded else None,
        "values": list(run.sample.values) or None,
        "complete": run.complete,
        "collapsed": run.collapsed,
        "run_dataset": run.dataset,
        "run_attack": "+".join(run.attacks) or None,
        "run_defense": run.defense,
        "settings": None if run.settings is None else dict(run.settings),
        "protocol": run.protocol,
        "reason": run.reason,
    }
    if ratios:
        row |= {"ratio_published": ratios.get(claim), **_measured("ratio_", run.ratio)}
    return row


def _measured(prefix: str, sample: Sample) -> dict[str, Any]:
    low, high, how = statistics.interval(sample) or (None, None, None)
    ours = sample.mean if sample.values else None
    return {f"{prefix}ours": ours, f"{prefix}low": low, f"{prefix}high": high, f"{prefix}interval": how}


def _labels(page: Page, pairs: Pairs) -> list[str]:
    """Write a row's names into one column: only the first column is repeated when a terminal cuts the table."""
    names = [page.of(claim) for claim, _ in pairs]
    wide = [max(map(len, column)) for column in zip(*names, strict=True)]
    return ["  ".join(map(str.ljust, parts, wide)).rstrip() for parts in names]


def _entries(page: Page, row: Mapping[str, Any]) -> list[Entry]:
    """Write the numbers of a row; for fewer than six seeds, every value is listed below the interval."""
    values = row["values"] or []
    each = [" ".join(_number(value, page.digits) for value in values)] if 1 < len(values) < FEW else []
    ours = _number(row["ours"], page.digits) + "†" * row["collapsed"]
    entries = [
        Entry((_number(row["published"], page.digits),)),
        Entry((ours if values else "not run",)),
        Entry((_number(row["difference"], page.digits, "+"),)),
        Entry((*_bounds(row["low"], row["high"], page.digits), *each) or (NONE,)),
        Entry((str(len(row["seeds"])) if row["seeds"] else NONE,)),
    ]
    if "ratio_ours" in row:
        within = _bounds(row["ratio_low"], row["ratio_high"], 3)
        entries += [Entry((_number(row["ratio_published"], 3),)), Entry((_number(row["ratio_ours"], 3), *within))]
    return entries


def _number(value: float | None, digits: int, sign: str = "") -> str:
    return NONE if value is None else f"{value:{sign}.{digits}f}"


def _bounds(low: float | None, high: float | None, digits: int) -> list[str]:
    return list(filter(None, [bracketed(low, high, f".{digits}f")]))


def _run_as(run: Match, marks: Sequence[str]) -> str:
    """Return the numbers of the notes on how a run departs from plain names and default settings."""
    places = sorted(marks.index(part) + 1 for part in run.departures)
    return ", ".join(map(str, places)) or ("defaults" if run.dataset else NONE)


def _about(data: Sequence[Mapping[str, Any]]) -> list[str]:
    """Explain our values: their seeds, their intervals and their marks."""
    seeded = [row for row in data if row["seeds"]]
    kinds = sorted({row["interval"] or "none for one seed" for row in seeded})
    about = [f"Ours is the mean over the seeds there are; 95% intervals: {'; '.join(kinds)}."] if seeded else []
    if any(row["collapsed"] for row in data):
        about.append("† collapsed: a model ends under twice chance accuracy.")
    return about


def _summary(pairs: Pairs, data: Sequence[Mapping[str, Any]]) -> str:
    """Count the published rows that were run, and our intervals that hold the published value or ratio of seconds."""
    claimed, ran = {claim for claim, _ in pairs}, [claim for claim, run in pairs if run.sample.values]
    prefix, value = ("ratio_", "ratio") if "ratio_ours" in data[0] else ("", "value")
    sure = [row for row in data if row["complete"] and row[f"{prefix}low"] is not None]
    target = "ratio_published" if prefix else "published"
    held = sum(row[f"{prefix}low"] <= row[target] <= row[f"{prefix}high"] for row in sure)
    ways = f", in {len(ran)} ways" if len(ran) > len(set(ran)) else ""
    summary = f"Published rows: {len(claimed)}; run: {len(set(ran))}{ways}."
    if sure:
        return f"{summary} Intervals over all seeds: {len(sure)}; of these {held} hold the published {value}."
    return f"{summary} No interval over all seeds." if any(row["seeds"] for row in data) else summary
