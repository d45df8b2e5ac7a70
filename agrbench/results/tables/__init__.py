"""Tables of records: what each metric shows, and how a table is written as text, Markdown, LaTeX, CSV or JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agrbench.cells import UNATTACKED, UNDEFENDED
from agrbench.results import metrics
from agrbench.results import statistics as inference
from agrbench.results.formats import NONE, Entry, Table
from agrbench.results.metrics import Group
from agrbench.results.statistics import FEW, Interval, Sample
from agrbench.results.tables import worst
from agrbench.results.tables.notes import about_seeds, marks, missing, title


@dataclass(frozen=True)
class Metric:
    """What a table of attacks x defenses shows."""

    title: str
    of: Callable[[Group, str, str], Sample]
    rows: Callable[[Group], list[str]]
    scale: float
    digits: int
    sign: int
    more: Callable[[Group, str, str], list[str]] = field(default=lambda group, defense, attack: [])


def triad(group: Group) -> Table:
    """Show one row a defense: robustness, fidelity, efficiency, and what amplification changes."""
    rows = [_triad_row(group, defense) for defense in group.defenses]
    _judge_gains(rows)
    numbers = ("worst_loss", "mean_loss", "worst_success", "fidelity_loss", "server_ms")
    rivals = [row for row in rows if row["defense"] != UNDEFENDED]
    best = {name: min((row[name] for row in rivals if row[name] is not None), default=None) for name in numbers}

    def entry(row: Mapping[str, Any], name: str, digits: int, beside: str | None = None) -> Entry:
        if row[name] is None:
            return Entry()
        text = f"{row[name]:.{digits}f}" + (f" {row[beside]}" if beside else "")
        return Entry((text,), row["defense"] != UNDEFENDED and row[name] == best.get(name))

    shown = tuple(
        (
            Entry((row["defense"] + ("†" if row["collapsed"] else ""),)),
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
        about_seeds(group, [row["gain_interval"] for row in rows]),
        *marks(any(row["collapsed"] for row in rows)),
        *missing(group),
    ]
    headers = (
        "defense", "worst\nloss", "mean\nloss", "worst\nsuccess", "fidelity\nloss", "server\nms", "x\nfedavg",
        "amplified\n- base",
    )  # fmt: skip
    return Table(title("The triad", group), headers, shown, tuple(notes), tuple(rows))


def matrix(group: Group, metric: Metric, name: str) -> Table:
    """Show a metric with attacks as rows and defenses as columns, each base form beside its amplified one."""
    attacks = metric.rows(group)
    rows, data = [], []
    marked = False
    for attack in attacks:
        samples = {defense: metric.of(group, defense, attack) for defense in group.defenses}
        complete = [d for d, sample in samples.items() if d != UNDEFENDED and sample.seeds == group.every_seed]
        best = max((metric.sign * samples[defense].mean for defense in complete), default=None)
        line = [Entry((attack,))]
        for defense, sample in samples.items():
            if not sample.values:
                line.append(Entry())
                continue
            fallen = metrics.collapsed(group, defense, attack)
            marked |= fallen
            within = inference.interval(sample)
            lines = [*_values(sample, within, metric, fallen), *metric.more(group, defense, attack)]
            line.append(Entry(tuple(lines), defense in complete and metric.sign * sample.mean == best))
            data.append(_flat(group, name, defense, attack, sample, within, fallen))
        rows.append(tuple(line))
    notes = [about_seeds(group, [row["interval"] for row in data]), *marks(marked), *missing(group)]
    if not rows:
        notes = ["No attack of this kind among the records."]
    return Table(title(metric.title, group), ("attack", *group.defenses), tuple(rows), tuple(notes), tuple(data))


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
    undefended = metrics.server_time(group, UNDEFENDED, attack).mean
    ratio = metrics.server_time(group, defense, attack).mean / undefended if undefended else math.nan
    run, peak = metrics.run_seconds(group, defense, attack).mean, metrics.peak_bytes(group, defense, attack).mean
    return [f"x{ratio:.1f}", f"run {run:.1f} s", f"peak {peak / 2**20:.0f} MiB"]


def _trust_parts(group: Group, defense: str, attack: str) -> list[str]:
    rates = [metrics.trust(group, defense, attack, rate) for rate in ("precision", "recall")]
    return [f"P {rates[0].mean:.2f} R {rates[1].mean:.2f}"] if all(rate.values for rate in rates) else []


METRICS: dict[str, Metric] = {
    "loss": Metric(
        "Robustness loss in points of accuracy; below it fidelity loss + attack damage",
        metrics.loss, _attacks, 100, 1, -1, _loss_parts,
    ),
    "success": Metric(
        "Success of targeted attacks in percent; below it the same share without trigger",
        metrics.success, lambda group: [attack for attack in group.attacks if group.targeted(attack)], 100, 1, -1,
        lambda group, defense, attack: [f"{100 * metrics.untriggered(group, defense, attack).mean:.1f} untriggered"],
    ),
    "fidelity": Metric(
        "Fidelity loss in points of accuracy, nobody attacking",
        lambda group, defense, attack: metrics.fidelity(group, defense), lambda group: [UNATTACKED], 100, 1, -1,
    ),
    "time": Metric(
        "Server milliseconds a round; below it the ratio to fedavg, the whole run, and the process's peak memory",
        metrics.server_time, _all_runs, 1000, 2, -1, _time_parts,
    ),
    "trust": Metric(
        "Malicious share of all weight in percent; below it precision and recall of weight 0",
        lambda group, defense, attack: metrics.trust(group, defense, attack, "malicious_share"),
        _attacks, 100, 1, -1, _trust_parts,
    ),
    "final": Metric("Accuracy after the last round in percent", metrics.final, _all_runs, 100, 1, 1),
}  # fmt: skip


def tables(groups: Iterable[Group], metric: str) -> list[Table]:
    """Make one table a group."""
    whole = {"triad": triad, "worst": worst.table}
    wanted = [group for group in groups if group.attacks or metric != "worst"]
    return [whole[metric](group) if metric in whole else matrix(group, METRICS[metric], metric) for group in wanted]


def _triad_row(group: Group, defense: str) -> dict[str, Any]:
    losses = {attack: metrics.loss(group, defense, attack) for attack in group.attacks}
    hits = {attack: metrics.success(group, defense, attack) for attack in group.attacks if group.targeted(attack)}
    seeds = group.every_seed
    worst, hit = metrics.worst(losses, seeds), metrics.worst(hits, seeds)
    costs = metrics.fidelity(group, defense)
    server, undefended = (
        metrics.server_seconds(group, defense).mean,
        metrics.server_seconds(group, UNDEFENDED).mean,
    )
    mean = inference.averaged(losses.values()) if worst else Sample((), ())
    return {
        "dataset": group.dataset,
        "settings": dict(group.settings),
        "defense": defense,
        "worst_loss": 100 * worst[1].mean if worst else None,
        "worst_attack": worst[0] if worst else None,
        "mean_loss": 100 * mean.mean if worst else None,
        "mean_loss_by_seed": [100 * value for value in mean.values],
        "worst_success": 100 * hit[1].mean if hit else None,
        "fidelity_loss": 100 * costs.mean if costs.seeds == seeds else None,
        "server_ms": 1000 * server if math.isfinite(server) else None,
        "server_ratio": server / undefended if undefended and math.isfinite(server) else None,
        "collapsed": any(metrics.collapsed(group, defense, attack) for attack in (UNATTACKED, *group.attacks)),
        "seeds": list(seeds),
        "gain": None,
        "gain_low": None,
        "gain_high": None,
        "gain_interval": None,
        "gain_p": None,
    }


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
        within, p = inference.interval(gain), inference.p_value(gain)
        row["gain"] = gain.mean
        if within is not None:
            row["gain_low"], row["gain_high"], row["gain_interval"] = within
        if p is not None:
            claims.append((row, p))
    for (row, _), adjusted in zip(claims, inference.holm([p for _, p in claims]), strict=True):
        row["gain_p"] = adjusted


def _gain(row: Mapping[str, Any]) -> str:
    if row["gain"] is None:
        return NONE if row["defense"] == metrics.base_of(row["defense"]) else "not both complete"
    if row["gain_low"] is None:
        return f"{row['gain']:+.1f} (one seed: no interval)"
    p = "" if row["gain_p"] is None else f" p={row['gain_p']:.2g}"
    return f"{row['gain']:+.1f} [{row['gain_low']:+.1f}, {row['gain_high']:+.1f}]{p}"


def _values(sample: Sample, within: Interval | None, metric: Metric, fallen: bool) -> list[str]:
    """Write a mean, its interval, and below six seeds every value."""

    def number(value: float) -> str:
        return f"{metric.scale * value:.{metric.digits}f}"

    lines = [number(sample.mean) + ("†" if fallen else "")]
    if within is not None:
        lines.append(f"[{number(within.low)}, {number(within.high)}]")
    if 1 < len(sample.values) < FEW:
        lines.append(" ".join(map(number, sample.values)))
    return lines


def _flat(
    group: Group, name: str, defense: str, attack: str, sample: Sample, within: Interval | None, fallen: bool
) -> dict[str, Any]:
    row = {
        "dataset": group.dataset,
        "settings": dict(group.settings),
        "metric": name,
        "attack": attack,
        "defense": defense,
        "mean": sample.mean,
        **inference.columns(within),
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
    if name == "time":
        row |= {"run_s": metrics.run_seconds(group, defense, attack).mean}
        row |= {"peak_bytes": metrics.peak_bytes(group, defense, attack).mean}
    if name == "trust":
        rates = {rate: metrics.trust(group, defense, attack, rate) for rate in ("precision", "recall")}
        row |= {rate: values.mean if values.values else None for rate, values in rates.items()}
    return row
