"""What figures draw: the numbers of the tables, in the units that the tables show, one row a mark."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agrbench.cells import PROTOCOL, SHARE, UNATTACKED
from agrbench.errors import AgrbenchError
from agrbench.results import statistics
from agrbench.results.figures.style import names
from agrbench.results.metrics import Group
from agrbench.results.statistics import Interval, Sample
from agrbench.results.tables import matrix, triad, worst
from agrbench.results.tables.notes import protocol, title
from agrbench.results.text import one_line
from agrbench.settings import spelled

Row = dict[str, Any]
AXES: Mapping[str, str] = {
    "worst": "loss under the worst attack (points of accuracy)",
    "mean": "mean loss over the attacks (points of accuracy)",
    "loss": "robustness loss (points of accuracy)",
    "success": "attack success (%)",
    "fidelity": "fidelity loss (points of accuracy)",
    "time": "server time a round (ms)",
    "trust": "malicious share of the weight (%)",
    "final": "accuracy after the last round (%)",
    "classes": "accuracy on the worst class (%)",
    "clients": "accuracy on the worst client (%)",
}
"""What axes call each metric; `worst` and `mean` are over attacks, the others are the tables of `--metric`."""
NOTHING = "no finished record there that this figure can draw; run `agrbench {command}` first, or name another folder"


def rows(group: Group, metric: str) -> list[Row]:
    """Return a metric of every defense, under each attack or over all of them, as its table has it."""
    if metric == "worst":
        found = [_row(row, row["loss"], row, row["attack"]) for row in worst.table(group).data] if group.attacks else []
        return sorted(found, key=lambda row: group.defenses.index(row["spec"]))
    if metric == "mean":
        return [_of_mean(row) for row in triad.table(group).data if row["mean_loss"] is not None and group.attacks]
    scale = matrix.METRICS[metric].scale
    return [_row(row, row["mean"], row, row["attack"], scale) for row in matrix.table(group, metric).data]


def _of_mean(row: Mapping[str, Any]) -> Row:
    within = statistics.interval(Sample(tuple(row["seeds"]), tuple(row["mean_loss_by_seed"])))
    return _row(row, row["mean_loss"], statistics.columns(within), None)


def _row(told: Mapping[str, Any], value: float, within: Mapping[str, Any], attack: str | None, scale: float = 1) -> Row:
    low, high = (None if within[end] is None else scale * within[end] for end in ("low", "high"))
    return {
        **names(told["defense"]), "spec": told["defense"], "attack": attack, "value": scale * value, "low": low,
        "high": high, "interval": within["interval"], "seeds": len(told["seeds"]),
    }  # fmt: skip


def at_round(sample: Sample) -> Row:
    """Return the mean of a sample with its interval, as columns."""
    within: Interval | None = statistics.interval(sample)
    return {"value": sample.mean, **statistics.columns(within), "seeds": len(sample.values)}


def over_seeds(drawn: Iterable[Row], mark: str) -> str:
    """Say how many seeds there are and which interval is drawn; `mark` is what shows it."""
    drawn = list(drawn)
    counts = sorted({row["seeds"] for row in drawn})
    if counts == [1]:
        return "One seed, so there are no intervals."
    kinds = sorted({row["interval"].split(",")[0] for row in drawn if row["interval"]})
    kinds = [kind for kind in kinds if kind != "no variance"] or kinds
    many = f"{counts[0]} seeds" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"
    return f"Mean of {many}; {mark}: 95% interval ({' or '.join(kinds)})."


def of_groups(groups: Sequence[Group], *apart: str) -> str:
    """Say what was run, under which settings; of several groups, what they share except for settings `apart`."""
    if len(groups) == 1 and not apart:
        return f"{title('', groups[0]).removeprefix(': ')}."
    told = [_settings(group, apart) for group in groups]
    shared = [text for name, text in told[0].items() if all(each.get(name) == text for each in told)]
    return f"{', '.join(shared)}." if shared else ""


def labels(groups: Sequence[Group], *apart: str) -> list[str]:
    """Name each group by what sets it apart from the others, except for settings `apart`."""
    told = [_settings(group, apart) for group in groups]
    names_of = dict.fromkeys(name for each in told for name in each)
    varied = [name for name in names_of if len({each.get(name) for each in told}) > 1]
    return [one_line(", ".join(each[name] for name in varied if name in each)) for each in told]


def _settings(group: Group, apart: Sequence[str] = ()) -> dict[str, str]:
    """Write every setting that titles name, except for those `apart`."""
    cell = group.cell
    share = cell.attackers / cell.clients if "malicious" in group.settings else SHARE
    malicious = f"{share:.0%}" if "clients" in apart else spelled("malicious", cell.count)
    said = {
        "dataset": group.spelled or group.dataset,
        "clients": f"{cell.clients} clients",
        "malicious": f"{malicious} malicious",
        "byzantine": "" if cell.bound == cell.assumed else f"server assumes {cell.bound}",
        "rounds": f"{cell.rounds} rounds",
        "start": f"attack from {cell.first}",
        "protocol": "" if protocol(group) == PROTOCOL else f"protocol {protocol(group)}",
    }
    more = {name: f"{name} {spelled(name, value)}" for name, value in group.settings.items() if name not in said}
    return {name: told for name, told in {**said, **more}.items() if told and name not in apart}


def panel_name(label: str, attack: str | None) -> str:
    """Name a panel by its group and its attack."""
    under = "no attack" if attack == UNATTACKED else attack
    return one_line(", ".join(part for part in (under, label) if part))


def demand(found: Sequence[Any], command: str = "grid") -> None:
    """Check that there is something to draw; `command` makes it.

    Raises:
        AgrbenchError: there is nothing.
    """
    if not found:
        raise AgrbenchError(NOTHING.format(command=command))
