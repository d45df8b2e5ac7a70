"""The worst-case table: which attack costs each defense most, and how far it is from the best (docs/metrics.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agrbench.cells import UNATTACKED, UNDEFENDED
from agrbench.results import metrics, statistics
from agrbench.results.formats import NONE, Entry, Table, with_interval
from agrbench.results.metrics import Group
from agrbench.results.stability import unstable
from agrbench.results.statistics import Sample
from agrbench.results.tables.notes import labels, mark, marks, missing, no_best, title
from agrbench.results.tables.ranking import Ranking, about, best, unranked
from agrbench.results.tables.standing import standings

SUITE = "worst"
SHARED = "Rank: shared by the best defense without one and all that paired tests (Holm, 5%) cannot tell from it."


def table(group: Group, demanded: Sequence[str] = ()) -> Table:
    """Rank the defenses by the loss under the worst attack for each, on the seeds that all ranked ones share.

    Those without a rank follow in the order of their names. `demanded` are the attacks that a claim of robustness must
    survive; a note names those without records.
    """
    found = ranking(group)
    rows = list(filter(None, (_row(found.over(group, defense), defense) for defense in group.defenses)))
    ranked = sorted((row for row in rows if found.ranks(row["defense"])), key=lambda row: float(row["loss"]))
    baseline = [row for row in rows if row["defense"] == UNDEFENDED]
    rows = [*ranked, *(row for row in rows if row not in ranked and row not in baseline), *baseline]
    _judge_regrets(ranked)
    ranks = standings({row["defense"]: sample(row) for row in ranked})
    for row in ranked:
        row["rank"] = ranks[row["defense"]]
    floor = next((row["loss"] for row in baseline if row["seeds"] == list(found.seeds)), None)
    top = best((row["loss"] for row in ranked), floor)
    shown = tuple(
        (
            Entry((row["defense"] + mark(row),)),
            Entry((NONE if row["rank"] is None else str(row["rank"]),)),
            Entry((row["attack"],)),
            Entry(
                (with_interval(row["loss"], row["low"], row["high"]),),
                top is not None and row["regret"] == 0,
            ),
            Entry((_regret(row),)),
            Entry((NONE if row["on_fedavg"] is None else f"{row['on_fedavg']:.1f}",)),
        )
        for row in rows
    )
    notes = [
        f"Loss in points of accuracy, mean over seeds, under the worst of {', '.join(group.attacks) or 'no attack'}.",
        "Regret: that loss less the best defense's, with its interval over paired seeds and p adjusted over this table "
        "(Holm). On fedavg: what the same attack costs where nobody defends.",
        *([SHARED] if ranked else []),
        *weaker(group, demanded),
        *about({"": found}, [row["interval"] for row in rows]),
        *unranked({"": found}),
        *marks(rows, group, top is not None),
        *(no_best("in", ["the worst case"]) if ranked and top is None else []),
        *missing(group, {"": found}, unattacked=(UNDEFENDED,)),
    ]
    headers = ("defense", "rank", "worst\nattack", "loss", "regret", "on\nfedavg")
    return Table(title("The worst case", group), headers, shown, tuple(notes), tuple(rows))


def ranking(group: Group) -> Ranking:
    """Rank the defenses on the seeds that all ranked ones share."""
    return Ranking.of({defense: group.whole(defense) if group.attacks else () for defense in group.defenses})


def _row(group: Group, defense: str) -> dict[str, Any] | None:
    """Return the row of a defense, over all seeds of the group; `None` if it lacks a loss."""
    losses = {attack: metrics.loss(group, defense, attack) for attack in group.attacks}
    worst = metrics.worst(losses, group.every_seed)
    if worst is None:
        return None
    attack, loss = worst[0], worst[1].points
    within = statistics.interval(loss)
    undefended = metrics.loss(group, UNDEFENDED, attack)
    return {
        **labels(group, "points"),
        "defense": defense,
        "rank": None,
        "attack": attack,
        "loss": loss.mean,
        **statistics.columns(within),
        "seeds": list(loss.seeds),
        "values": list(loss.values),
        "regret": None,
        "regret_low": None,
        "regret_high": None,
        "regret_p": None,
        "on_fedavg": 100 * undefended.mean if undefended.seeds == loss.seeds else None,
        "collapsed": any(metrics.collapsed(group, defense, under) for under in (UNATTACKED, *group.attacks)),
        "unstable": any(unstable(group, defense, under) for under in (UNATTACKED, *group.attacks)),
    }


def _judge_regrets(rows: Sequence[dict[str, Any]]) -> None:
    """Set each row's difference from the first row, the best, and adjust the p-values over the table."""
    if not rows:
        return
    samples = [sample(row) for row in rows]
    regrets = [statistics.rounded(each.minus(samples[0])) for each in samples]
    for row, regret in zip(rows, regrets, strict=True):
        row["regret"] = regret.mean
        within = statistics.interval(regret)
        if within is not None:
            row["regret_low"], row["regret_high"], _ = within
    p_values = [p for regret in regrets[1:] if (p := statistics.p_value(regret)) is not None]
    for row, adjusted in zip(rows[1:], statistics.holm(p_values), strict=False):  # one seed has no p
        row["regret_p"] = adjusted


def sample(row: Mapping[str, Any]) -> Sample:
    """Return the values of a flat row, one a seed."""
    return Sample(tuple(row["seeds"]), tuple(row["values"]))


def _regret(row: Mapping[str, Any]) -> str:
    if row["regret"] is None:
        return NONE
    if row["regret_p"] is None:
        return f"{row['regret']:.1f}"
    return f"{with_interval(row['regret'], row['regret_low'], row['regret_high'])} p={row['regret_p']:.2g}"


def weaker(group: Group, demanded: Sequence[str]) -> list[str]:
    """Return a note that names the demanded attacks without records, or an empty list if there are none."""
    lacking = [attack for attack in demanded if attack not in group.attacks and attack != UNATTACKED]
    return [f"Weaker than the suite `{SUITE}`: no record under {', '.join(lacking)}."] if lacking else []
