"""Tables of one metric, with attacks as rows and defenses as columns; add a metric of this form to `METRICS`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agrbench.cells import UNATTACKED, UNDEFENDED
from agrbench.results import metrics, statistics
from agrbench.results.formats import NONE, Entry, Table, bracketed
from agrbench.results.metrics import Group
from agrbench.results.stability import unstable
from agrbench.results.statistics import FEW, Sample
from agrbench.results.tables.notes import labels, mark, marks, missing, no_best, title
from agrbench.results.tables.ranking import Ranking, about, best, unranked

SECONDS = "seconds"
DIFFERENCES = ("loss", "fidelity")  # metrics that compare with the run without attack or defense


@dataclass(frozen=True)
class Metric:
    """What a table of attacks x defenses shows; `sign` is 1 if larger values are better, or else -1.

    Values are shown `scale` times as large as they are in flat rows, where they are in `unit`.
    """

    title: str
    of: Callable[[Group, str, str], Sample]
    rows: Callable[[Group], list[str]]
    scale: float
    digits: int
    sign: int
    more: Callable[[Group, str, str], list[str]] = field(default=lambda group, defense, attack: [])
    unit: str = "share"


def table(group: Group, name: str) -> Table:
    """Show a metric with attacks as rows and defenses as columns, each base form next to its amplified one."""
    metric = METRICS[name]
    rankings = {attack: ranking_of(group, metric, attack) for attack in metric.rows(group)}
    rows: list[tuple[Entry, ...]] = []
    data: list[dict[str, Any]] = []
    marked, outdone = False, []
    for attack, ranking in rankings.items():
        views = {defense: ranking.over(group, defense) for defense in group.defenses}
        samples = {defense: metric.of(view, defense, attack) for defense, view in views.items()}
        ranked = [_cost(metric, samples[defense]) for defense in group.defenses if ranking.ranks(defense)]
        top = best(ranked, _floor(metric, samples.get(UNDEFENDED), attack, ranking))
        outdone += [attack] if ranked and top is None else []
        marked |= top is not None
        line = [Entry((attack,))]
        for defense, view in views.items():
            flat = _flat(view, name, defense, attack, samples[defense])
            line.append(_entry(view, metric, flat, ranking.ranks(defense) and _cost(metric, samples[defense]) == top))
            data += [flat] if samples[defense].values else []
        rows.append(tuple(line))
    notes = [
        *about(rankings, [row["interval"] for row in data]), *unranked(rankings), *marks(data, group, marked),
        *no_best("under", outdone), *missing(group, rankings),
    ]  # fmt: skip
    if not rows:
        notes = ["No attack of this kind among the records."]
    elif not data:
        notes = ["These records do not tell: they were made before records kept these counts. Compute them again."]
    headers = ("attack", *group.defenses)
    return Table(title(metric.title, group), headers, tuple(rows), tuple(notes), tuple(data), "defense")


def ranking_of(group: Group, metric: Metric, attack: str) -> Ranking:
    """Rank the defenses of one row on the seeds that all ranked ones share; a time of 0 was not measured."""
    samples = {defense: metric.of(group, defense, attack) for defense in group.defenses}
    unmeasured = {defense for defense, sample in samples.items() if metric.unit == SECONDS and sample.mean == 0}
    return Ranking.of({defense: () if defense in unmeasured else each.seeds for defense, each in samples.items()})


def _cost(metric: Metric, sample: Sample) -> float:
    """Return a mean as it is shown, with the sign that makes small values good."""
    return -metric.sign * metric.scale * sample.mean


def _floor(metric: Metric, undefended: Sample | None, attack: str, ranking: Ranking) -> float | None:
    """Return what no best defense exceeds, which is fedavg's value under an attack; `None` where it decides nothing."""
    if attack == UNATTACKED or metric.unit == SECONDS:  # a defense always costs something there
        return None
    return None if undefended is None or undefended.seeds != ranking.seeds else _cost(metric, undefended)


def _entry(group: Group, metric: Metric, row: Mapping[str, Any], top: bool) -> Entry:
    if not row["values"]:
        return Entry()
    more = metric.more(group, row["defense"], row["attack"])
    return Entry((*_values(row, metric), *more), top)


def _attacks(group: Group) -> list[str]:
    return group.attacks


def _all_runs(group: Group) -> list[str]:
    return [UNATTACKED, *group.attacks]


def _loss_parts(group: Group, defense: str, attack: str) -> list[str]:
    costs, damage = metrics.fidelity(group, defense).mean, metrics.damage(group, defense, attack).mean
    return [f"{_points(costs)} + {_points(damage)}"]


def _points(share: float) -> str:
    return NONE if math.isnan(share) else f"{100 * share:.1f}"


def _time_parts(group: Group, defense: str, attack: str) -> list[str]:
    server, undefended = (metrics.server_time(group, name, attack).mean for name in (defense, UNDEFENDED))
    ratio = f"x{server / undefended:.1f}" if server > 0 and undefended > 0 else f"x {NONE}"
    run, peak = metrics.run_seconds(group, defense, attack).mean, metrics.peak_bytes(group, defense, attack).mean
    return [ratio, f"run {run:.1f} s", f"peak {peak / 2**20:.0f} MiB"]


def _trust_parts(group: Group, defense: str, attack: str) -> list[str]:
    rates = [metrics.trust(group, defense, attack, rate) for rate in ("precision", "recall")]
    return [f"P {rates[0].mean:.2f} R {rates[1].mean:.2f}"] if all(rate.values for rate in rates) else []


def _hurt(kind: str) -> Callable[[Group, str, str], list[str]]:
    """Return the function that writes who is worst off, and how far below the best."""

    def lines(group: Group, defense: str, attack: str) -> list[str]:
        name = metrics.hurt(group, defense, attack, kind)
        spread = f"spread {_points(metrics.spread_of(group, defense, attack, kind).mean)}"
        return [spread] if name is None else [name, spread]

    return lines


METRICS: dict[str, Metric] = {
    "loss": Metric(
        "Robustness loss in points of accuracy; below it fidelity loss + attack damage",
        metrics.loss, _attacks, 100, 1, -1, _loss_parts,
    ),
    "success": Metric(
        "Success of targeted attacks in percent; below it the same share without trigger",
        metrics.success, lambda group: [attack for attack in group.attacks if group.targeted(attack)], 100, 1, -1,
        lambda group, defense, attack: [f"{_points(metrics.untriggered(group, defense, attack).mean)} untriggered"],
    ),
    "fidelity": Metric(
        "Fidelity loss in points of accuracy, nobody attacking",
        lambda group, defense, attack: metrics.fidelity(group, defense), lambda group: [UNATTACKED], 100, 1, -1,
    ),
    "time": Metric(
        "Server milliseconds a round; below it the ratio to fedavg, the whole run, and the process's peak memory",
        metrics.server_time, _all_runs, 1000, 2, -1, _time_parts, SECONDS,
    ),
    "trust": Metric(
        "Malicious share of all weight in percent; below it precision and recall of weight 0",
        lambda group, defense, attack: metrics.trust(group, defense, attack, "malicious_share"),
        _attacks, 100, 1, -1, _trust_parts,
    ),
    "final": Metric("Accuracy after the last round in percent", metrics.final, _all_runs, 100, 1, 1),
    "classes": Metric(
        "Accuracy on the worst class after the last round in percent; below it which, and best minus worst",
        lambda group, defense, attack: metrics.worst_of(group, defense, attack, "classes"), _all_runs, 100, 1, 1,
        _hurt("classes"),
    ),
    "clients": Metric(
        "Accuracy on the worst honest client's data after the last round in percent; below it best minus worst",
        lambda group, defense, attack: metrics.worst_of(group, defense, attack, "clients"), _all_runs, 100, 1, 1,
        _hurt("clients"),
    ),
}  # fmt: skip


def _values(row: Mapping[str, Any], metric: Metric) -> list[str]:
    """Write a mean, its interval and, for fewer than six seeds, every value."""

    def number(value: float) -> str:
        return f"{metric.scale * value:.{metric.digits}f}"

    lines = [number(row["mean"]) + mark(row)]
    if row["low"] is not None:
        lines.append(bracketed(metric.scale * row["low"], metric.scale * row["high"], f".{metric.digits}f"))
    if 1 < len(row["values"]) < FEW:
        lines.append(" ".join(map(number, row["values"])))
    return lines


def _flat(group: Group, name: str, defense: str, attack: str, sample: Sample) -> dict[str, Any]:
    row = {
        **labels(group, METRICS[name].unit),
        "metric": name,
        "attack": attack,
        "defense": defense,
        "mean": sample.mean,
        **statistics.columns(statistics.interval(sample)),
        "seeds": list(sample.seeds),
        "values": list(sample.values),
        "collapsed": metrics.collapsed(group, defense, attack),
        "unstable": name in DIFFERENCES and unstable(group, defense, attack),
    }
    if name == "loss":
        row |= {
            "fidelity": metrics.fidelity(group, defense).mean,
            "damage": metrics.damage(group, defense, attack).mean,
        }
    if name == "success":
        row |= {"untriggered": metrics.untriggered(group, defense, attack).mean}
    if name in ("classes", "clients"):
        spread = metrics.spread_of(group, defense, attack, name)
        row |= {"worst": metrics.hurt(group, defense, attack, name), "spread": spread.mean}
    if name == "time":
        row |= {"run_s": metrics.run_seconds(group, defense, attack).mean}
        row |= {"peak_bytes": metrics.peak_bytes(group, defense, attack).mean}
    if name == "trust":
        rates = {rate: metrics.trust(group, defense, attack, rate) for rate in ("precision", "recall")}
        row |= {rate: values.mean if values.values else None for rate, values in rates.items()}
    return row
