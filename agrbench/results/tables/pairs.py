"""The table of pairs: how much more one defense loses than another, over paired seeds (docs/metrics.md)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from agrbench.results import metrics, statistics
from agrbench.results.formats import NONE, Entry, Table, with_interval
from agrbench.results.metrics import Group
from agrbench.results.statistics import Sample
from agrbench.results.tables.notes import labels, title
from agrbench.results.tables.ranking import listed

HEADERS = ("defense", "other", "mean\nloss", "other's", "difference", "p", "seeds")


def table(group: Group, of: Sequence[str] = ()) -> Table:
    """Compare every two defenses by their mean loss over the attacks or, with `of`, only these with every other one."""
    losses = {defense: _mean_loss(group, defense) for defense in group.defenses}
    whole = [defense for defense, sample in losses.items() if sample.values]
    rows = [_row(group, mine, other, losses[mine], losses[other]) for mine, other in _pairs(whole, of)]
    tested = [row for row in rows if row["p"] is not None]
    for row, adjusted in zip(tested, statistics.holm([row["p"] for row in tested]), strict=True):
        row["p"] = adjusted
    kinds = sorted({row["interval"] for row in rows if row["interval"]})
    only = f", those of {listed(of)}," if of else ""
    unknown = [defense for defense in group.defenses if defense not in whole]
    notes = [
        f"Mean loss in points of accuracy over {', '.join(group.attacks)}, on the seeds that both defenses have.",
        f"Difference: the defense's less the other's, above 0 where the defense loses more; p adjusted over the "
        f"{len(tested)} comparisons shown{only} by Holm's method.",
        f"95% intervals: {'; '.join(kinds)}." if kinds else "One seed or none shared: no interval and no p.",
        *([f"Not compared, because no seed has all their runs: {listed(unknown)}."] if unknown else []),
    ]
    return Table(title("Pairs of defenses", group), HEADERS, tuple(map(_shown, rows)), tuple(notes), tuple(rows))


def _pairs(defenses: Sequence[str], of: Sequence[str]) -> list[tuple[str, str]]:
    """Return every two defenses once; with `of`, those pairs that have one of these, which comes first."""
    if not of:
        return list(itertools.combinations(defenses, 2))
    mine = [defense for defense in of if defense in defenses]
    return [
        (one, other)
        for place, one in enumerate(mine)
        for other in defenses
        if other != one and other not in mine[:place]
    ]


def _mean_loss(group: Group, defense: str) -> Sample:
    """Average a defense's losses, in points, over all attacks, seed by seed."""
    return statistics.averaged(metrics.loss(group, defense, attack) for attack in group.attacks).points


def _row(group: Group, defense: str, other: str, ours: Sample, theirs: Sample) -> dict[str, Any]:
    difference = statistics.rounded(ours.minus(theirs))
    shared = difference.seeds
    return {
        **labels(group, "points"),
        "defense": defense,
        "other": other,
        "loss": ours.over(shared).mean,
        "other_loss": theirs.over(shared).mean,
        "difference": difference.mean,
        **statistics.columns(statistics.interval(difference)),
        "p": statistics.p_value(difference),
        "seeds": list(shared),
        "values": list(difference.values),
    }


def _shown(row: dict[str, Any]) -> tuple[Entry, ...]:
    names, count = (row["defense"], row["other"]), str(len(row["seeds"]))
    if not row["seeds"]:
        return tuple(Entry((each,)) for each in (*names, *[NONE] * 4, count))
    numbers = (
        f"{row['loss']:.1f}", f"{row['other_loss']:.1f}",
        with_interval(row["difference"], row["low"], row["high"], "+.1f"),
        NONE if row["p"] is None else f"{row['p']:.2g}",
    )  # fmt: skip
    return tuple(Entry((each,)) for each in (*names, *numbers, count))
