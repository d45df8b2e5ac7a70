"""Tables of one metric, with attacks as rows and defenses as columns; add a metric of this form to `METRICS`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from agrbench.cells import UNATTACKED, UNDEFENDED
from agrbench.results import metrics, statistics
from agrbench.results.formats import NONE, Entry, Table, bracketed
from agrbench.results.metrics import Group
from agrbench.results.statistics import FEW, Interval, Sample
from agrbench.results.tables.notes import about_seeds, labels, marks, missing, title

SECONDS = "seconds"


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
    attacks = metric.rows(group)
    rows, data = [], []
    marked = False
    for attack in attacks:
        samples = {defense: metric.of(group, defense, attack) for defense in group.defenses}
        complete = [d for d, sample in samples.items() if d != UNDEFENDED and _whole(group, sample, metric)]
        best = max((metric.sign * samples[defense].mean for defense in complete), default=None)
        line = [Entry((attack,))]
        for defense, sample in samples.items():
            if not sample.values:
                line.append(Entry())
                continue
            fallen = metrics.collapsed(group, defense, attack)
            marked |= fallen
            within = statistics.interval(sample)
            lines = [*_values(sample, within, metric, fallen), *metric.more(group, defense, attack)]
            line.append(Entry(tuple(lines), defense in complete and metric.sign * sample.mean == best))
            data.append(_flat(group, name, defense, attack, sample, within, fallen))
        rows.append(tuple(line))
    notes = [about_seeds(group, [row["interval"] for row in data]), *marks(marked, group), *missing(group)]
    if not rows:
        notes = ["No attack of this kind among the records."]
    elif not data:
        notes = ["These records do not tell: they were made before records kept these counts. Compute them again."]
    return Table(title(metric.title, group), ("attack", *group.defenses), tuple(rows), tuple(notes), tuple(data))


def _whole(group: Group, sample: Sample, metric: Metric) -> bool:
    """Return whether a sample has a value for every seed; a time of 0 was not measured."""
    return sample.seeds == group.every_seed and not (metric.unit == SECONDS and sample.mean == 0)


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


def _values(sample: Sample, within: Interval | None, metric: Metric, fallen: bool) -> list[str]:
    """Write a mean, its interval and, for fewer than six seeds, every value."""

    def number(value: float) -> str:
        return f"{metric.scale * value:.{metric.digits}f}"

    lines = [number(sample.mean) + ("†" if fallen else "")]
    if within is not None:
        lines.append(bracketed(metric.scale * within.low, metric.scale * within.high, f".{metric.digits}f"))
    if 1 < len(sample.values) < FEW:
        lines.append(" ".join(map(number, sample.values)))
    return lines


def _flat(
    group: Group, name: str, defense: str, attack: str, sample: Sample, within: Interval | None, fallen: bool
) -> dict[str, Any]:
    row = {
        **labels(group, METRICS[name].unit),
        "metric": name,
        "attack": attack,
        "defense": defense,
        "mean": sample.mean,
        **statistics.columns(within),
        "seeds": list(sample.seeds),
        "values": list(sample.values),
        "collapsed": fallen,
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
