"""The triad table: one row per defense, with robustness, fidelity, efficiency and what amplification changes."""

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

NUMBERS = {  # the columns with a best value; where fedavg's may be better, what the note calls them
    "worst_loss": "worst loss", "mean_loss": "mean loss", "worst_success": "worst success", "fidelity_loss": "",
    "server_ms": "",
}  # fmt: skip


def table(group: Group) -> Table:
    """Show one row per defense: robustness, fidelity, efficiency, and what amplification changes."""
    ranking = Ranking.of({defense: group.whole(defense) for defense in group.defenses})
    rows = [_row(ranking.over(group, defense), defense) for defense in group.defenses]
    _judge_gains(rows)
    tops, outdone = _tops(rows, ranking)

    def entry(row: Mapping[str, Any], name: str, digits: int, beside: str | None = None) -> Entry:
        if row[name] is None:
            return Entry()
        text = f"{row[name]:.{digits}f}" + (f" {row[beside]}" if beside else "")
        return Entry((text,), ranking.ranks(row["defense"]) and row[name] == tops.get(name))

    shown = tuple(
        (
            Entry((row["defense"] + mark(row),)),
            entry(row, "worst_loss", 1, "worst_attack"),
            entry(row, "mean_loss", 1),
            entry(row, "worst_success", 1),
            entry(row, "fidelity_loss", 1),
            entry(row, "server_ms", 2),
            entry(row, "server_ratio", 1),
            Entry((_gain(row),)),
        )
        for row in rows
    )
    notes = [
        "Losses in points of accuracy against the unattacked, undefended run of the same seed, in rounds "
        f"{group.cell.first} and later; worst and mean over {', '.join(group.attacks) or 'no attack'}.",
        "Worst success: share of triggered inputs sent to the target class, in percent. "
        "Server: milliseconds a round, and as a ratio to fedavg.",
        "Amplified minus base: mean loss, with its interval over paired seeds and p adjusted over this table (Holm).",
        *about({"": ranking}, [row["gain_interval"] for row in rows]),
        *unranked({"": ranking}),
        *marks(rows, group, any(top is not None for top in tops.values())),
        *no_best("in", outdone),
        *missing(group, {"": ranking}),
    ]
    headers = (
        "defense", "worst\nloss", "mean\nloss", "worst\nsuccess", "fidelity\nloss", "server\nms", "x\nfedavg",
        "amplified\n- base",
    )  # fmt: skip
    return Table(title("The triad", group), headers, shown, tuple(notes), tuple(rows))


def _tops(rows: Sequence[Mapping[str, Any]], ranking: Ranking) -> tuple[dict[str, float | None], list[str]]:
    """Return the best value of each column, and the names of the columns in which fedavg has a better one."""
    tops: dict[str, float | None] = {}
    outdone, shared = [], list(ranking.seeds)
    for name, words in NUMBERS.items():
        known = {row["defense"]: row[name] for row in rows if row[name] is not None and row["seeds"] == shared}
        ranked = [value for defense, value in known.items() if ranking.ranks(defense)]
        tops[name] = best(ranked, known.get(UNDEFENDED) if words else None)
        if ranked and tops[name] is None:
            outdone.append(words)
    return tops, outdone


def _row(group: Group, defense: str) -> dict[str, Any]:
    losses = {attack: metrics.loss(group, defense, attack) for attack in group.attacks}
    hits = {attack: metrics.success(group, defense, attack) for attack in group.attacks if group.targeted(attack)}
    seeds = group.every_seed
    worst, hit = metrics.worst(losses, seeds), metrics.worst(hits, seeds)
    costs = metrics.fidelity(group, defense)
    server, undefended = (_measured(metrics.server_seconds(group, name)) for name in (defense, UNDEFENDED))
    mean = statistics.averaged(losses.values()) if worst else Sample((), ())
    return {
        **labels(group, "points"),
        "defense": defense,
        "worst_loss": 100 * worst[1].mean if worst else None,
        "worst_attack": worst[0] if worst else None,
        "mean_loss": 100 * mean.mean if worst else None,
        "mean_loss_by_seed": [100 * value for value in mean.values],
        "worst_success": 100 * hit[1].mean if hit else None,
        "fidelity_loss": 100 * costs.mean if costs.seeds == seeds else None,
        "server_ms": 1000 * server if server else None,
        "server_ratio": server / undefended if server and undefended else None,
        "collapsed": any(metrics.collapsed(group, defense, attack) for attack in (UNATTACKED, *group.attacks)),
        "unstable": any(unstable(group, defense, attack) for attack in (UNATTACKED, *group.attacks)),
        "seeds": list(seeds),
        "gain": None,
        "gain_low": None,
        "gain_high": None,
        "gain_interval": None,
        "gain_p": None,
    }


def _measured(seconds: Sample) -> float | None:
    """Return the mean of times; `None` if there is none, or 0, which says that nothing was measured."""
    return seconds.mean if seconds.values and seconds.mean > 0 else None


def _judge_gains(rows: Sequence[dict[str, Any]]) -> None:
    """Set each amplified row's difference from its base, and adjust the p-values over the table."""
    by_name = {row["defense"]: row for row in rows}
    claims = []
    for row in rows:
        base = by_name.get(metrics.base_of(row["defense"]))
        if base is None or base is row or row["mean_loss"] is None or base["mean_loss"] is None:
            continue
        ours, theirs = (Sample(tuple(r["seeds"]), tuple(r["mean_loss_by_seed"])) for r in (row, base))
        gain = ours.minus(theirs)
        within, p = statistics.interval(gain), statistics.p_value(gain)
        row["gain"] = gain.mean
        if within is not None:
            row["gain_low"], row["gain_high"], row["gain_interval"] = within
        if p is not None:
            claims.append((row, p))
    for (row, _), adjusted in zip(claims, statistics.holm([p for _, p in claims]), strict=True):
        row["gain_p"] = adjusted


def _gain(row: Mapping[str, Any]) -> str:
    if row["gain"] is None:
        return NONE if row["defense"] == metrics.base_of(row["defense"]) else "not both complete"
    if row["gain_low"] is None:
        return f"{row['gain']:+.1f} (one seed: no interval)"
    p = "" if row["gain_p"] is None else f" p={row['gain_p']:.2g}"
    return f"{with_interval(row['gain'], row['gain_low'], row['gain_high'], '+.1f')}{p}"
