"""The metrics of robustness, fidelity, efficiency and trust: pure functions of records (docs/metrics.md)."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from agrbench import specs
from agrbench.cells import UNATTACKED, UNDEFENDED, Cell
from agrbench.results.record import Record
from agrbench.results.statistics import Sample

NEAR = 0.1  # of chance accuracy: where there are under ten classes, twice chance is out of a good model's reach


@dataclass(frozen=True)
class Group:
    """The finished records of one dataset and its settings, by defense, attack and seed; why others are `missing`.

    `spelled` is the dataset's spec as titles show it (default: as records have it).
    """

    dataset: str
    settings: Mapping[str, Any]
    records: Mapping[tuple[str, str, int], Record]
    missing: Mapping[tuple[str, str, int], str] = field(default_factory=dict)
    spelled: str = ""

    @cached_property
    def cell(self) -> Cell:
        """Return any cell of the group, for the settings that all of them share."""
        return Cell.from_json(next(iter(self.records.values()))["cell"])

    @cached_property
    def classes(self) -> int:
        """Return the number of classes."""
        return max(record["classes"] or 0 for record in self.records.values())

    @cached_property
    def defenses(self) -> list[str]:
        """List the defenses in natural order, the baseline first and each base form before its amplified forms."""
        return sorted({defense for defense, _, _ in (*self.records, *self.missing)}, key=order)

    @cached_property
    def attacks(self) -> list[str]:
        """List the attacks in natural order."""
        names = {attack for _, attack, _ in (*self.records, *self.missing)}
        return sorted(names - {UNATTACKED}, key=specs.natural)

    @cached_property
    def every_seed(self) -> tuple[int, ...]:
        """List the seeds of all cells, finished or not."""
        return tuple(sorted({seed for _, _, seed in (*self.records, *self.missing)}))

    def over(self, seeds: Iterable[int]) -> Group:
        """Return the group with the cells of some seeds only."""
        kept = set(seeds)
        if kept.issuperset(self.every_seed):
            return self
        records = {key: record for key, record in self.records.items() if key[2] in kept}
        missing = {key: reason for key, reason in self.missing.items() if key[2] in kept}
        return replace(self, records=records, missing=missing)

    def whole(self, defense: str) -> tuple[int, ...]:
        """Return the seeds on which a defense has a loss under every attack or, if there is none, a fidelity loss."""
        samples = [loss(self, defense, attack) for attack in self.attacks] or [fidelity(self, defense)]
        return tuple(sorted(set.intersection(*(set(sample.seeds) for sample in samples))))

    def seeds(self, defense: str, attack: str) -> list[int]:
        """List the seeds with a finished cell."""
        return [seed for seed in self.every_seed if (defense, attack, seed) in self.records]

    def targeted(self, attack: str) -> bool:
        """Return whether an attack aims at a target class."""
        return any(record["success"] for (_, under, _), record in self.records.items() if under == attack)


def groups(records: Iterable[Record], spelled: Callable[[str], str] = str) -> list[Group]:
    """Sort records into groups whose records can be compared; `spelled` writes a dataset's spec for titles."""
    found: dict[str, tuple[str, dict[str, Any], dict[Any, Record], dict[Any, str]]] = {}
    for record in records:
        cell = record["cell"]
        settings = dict(cell["settings"])
        name = json.dumps([cell["dataset"], settings, record["protocol"]], sort_keys=True)
        group = found.setdefault(name, (cell["dataset"], settings, {}, {}))
        key = cell["defense"], cell["attack"], cell["seed"]
        if record["status"] == "done":
            group[2][key] = record
        else:
            group[3][key] = f"{record['status']}: {' '.join(str(record['reason']).split())}"
    return sorted((Group(*each, spelled(each[0])) for each in found.values() if each[2]), key=_order)


def _order(group: Group) -> tuple[Any, ...]:
    """Return a key that sorts groups by dataset and settings, numbers by value."""
    settings = [
        (name, specs.natural(value if isinstance(value, str) else f"_({value})"))
        for name, value in sorted(group.settings.items())
    ]
    return specs.natural(group.dataset), settings, next(iter(group.records.values()))["protocol"]


def order(defense: str) -> tuple[Any, ...]:
    """Return a key that sorts defenses: the baseline first, then by base form, which comes before its amplified forms.

    Names are in alphabetical order, and hyperparameters in that of their values.
    """
    base = base_of(defense)
    return defense != UNDEFENDED, specs.natural(base), defense != base, specs.natural(defense)


def chosen(
    records: Iterable[Record], defenses: Sequence[str] = (), attacks: Sequence[str] = (), only_base: bool = False
) -> Iterator[Record]:
    """Yield the records of some defenses and attacks, canonical specs (none: all), and those they are compared with.

    A base form stands for its amplified form too, unless `only_base` leaves amplified forms out.
    """
    for record in records:
        defense, attack = record["cell"]["defense"], record["cell"]["attack"]
        base = base_of(defense)
        wanted = defense == UNDEFENDED or not defenses or defense in defenses or base in defenses
        if (
            wanted
            and (attack == UNATTACKED or not attacks or attack in attacks)
            and not (only_base and base != defense)
        ):
            yield record


def base_of(defense: str) -> str:
    """Return the base form of an amplified spec; any other spec is returned unchanged."""
    stages = defense.split("+")
    return "+".join(stages[1:]) if stages[0].partition("(")[0] == "amp" and len(stages) > 1 else defense


def loss(group: Group, defense: str, attack: str) -> Sample:
    """Return the robustness loss `L = mean(a_t - b_t)` over evaluated rounds from the first attacked one, by seed."""
    return _accuracy_gap(group, (UNDEFENDED, UNATTACKED), (defense, attack))


def fidelity(group: Group, defense: str) -> Sample:
    """Return the fidelity loss `mean(a_t - c_t)`: what the defense costs when nobody attacks."""
    return _accuracy_gap(group, (UNDEFENDED, UNATTACKED), (defense, UNATTACKED))


def damage(group: Group, defense: str, attack: str) -> Sample:
    """Return the attack damage `mean(c_t - b_t)`: what the attack costs under the defense."""
    return _accuracy_gap(group, (defense, UNATTACKED), (defense, attack))


def success(group: Group, defense: str, attack: str) -> Sample:
    """Return a targeted attack's success `A = mean(s_t)`."""
    return _mean_curve(group, defense, attack, "success")


def untriggered(group: Group, defense: str, attack: str) -> Sample:
    """Return the share of the same test inputs that are classified as the target class without the trigger."""
    return _mean_curve(group, defense, attack, "success_untriggered")


def final(group: Group, defense: str, attack: str) -> Sample:
    """Return the accuracy after the last round."""
    return _each(group, defense, attack, lambda record: record["accuracy"][-1])


def worst_of(group: Group, defense: str, attack: str, kind: str) -> Sample:
    """Return the accuracy after the last round on the `kind`, `"classes"` or `"clients"`, where it is lowest."""
    return _each(group, defense, attack, lambda record: min(shares(record, kind).values(), default=None))


def spread_of(group: Group, defense: str, attack: str, kind: str) -> Sample:
    """Return the best accuracy minus the worst one among classes or honest clients, after the last round."""

    def read(record: Record) -> float | None:
        found = shares(record, kind).values()
        return max(found) - min(found) if found else None

    return _each(group, defense, attack, read)


def hurt(group: Group, defense: str, attack: str, kind: str) -> str | None:
    """Name the class or the client on which the accuracy is lowest in the mean over seeds.

    Return `None` for clients without names: the same number is another client under another seed.
    """
    records = [group.records[defense, attack, seed] for seed in group.seeds(defense, attack)]
    found: dict[str, list[float]] = {}
    for record in records:
        if kind == "clients" and "names" not in (record.get("groups") or {}).get(kind, {}):
            return None
        for name, share in shares(record, kind).items():
            found.setdefault(name, []).append(share)
    return min(found, key=lambda name: statistics.fmean(found[name]), default=None)


def shares(record: Record, kind: str) -> dict[str, float]:
    """Return the accuracy on each class or honest client that has examples, by name or else by number."""
    counts = (record.get("groups") or {}).get(kind)
    if not counts:
        return {}
    names = counts.get("names") or counts.get("ids") or range(len(counts["rows"]))
    return {
        str(name): hits / rows for name, rows, hits in zip(names, counts["rows"], counts["hits"], strict=True) if rows
    }


def error(group: Group) -> Sample:
    """Return the error rate `mean(1 - a_t)` without attack or defense, the reference for all losses."""
    first = group.cell.first
    return _each(
        group, UNDEFENDED, UNATTACKED,
        lambda record: known_mean(
            1 - a for t, a in zip(record["rounds"], record["accuracy"], strict=True) if t >= first
        ),
    )  # fmt: skip


def server_seconds(group: Group, defense: str) -> Sample:
    """Return the server's seconds per round, averaged over all attacks of each seed."""
    by_seed: dict[int, list[float]] = {}
    for (name, _, seed), record in group.records.items():
        if name == defense:
            by_seed.setdefault(seed, []).append(record["time"]["server_s"])
    return Sample(tuple(sorted(by_seed)), tuple(statistics.fmean(by_seed[seed]) for seed in sorted(by_seed)))


def server_time(group: Group, defense: str, attack: str) -> Sample:
    """Return the server's seconds per round under one attack."""
    return _each(group, defense, attack, lambda record: record["time"]["server_s"])


def peak_bytes(group: Group, defense: str, attack: str) -> Sample:
    """Return the peak resident memory, in bytes, of the processes that computed the runs."""
    return _each(group, defense, attack, lambda record: record["peak_bytes"])


def run_seconds(group: Group, defense: str, attack: str) -> Sample:
    """Return the seconds of whole runs, including the clients' training."""
    return _each(group, defense, attack, lambda record: record["time"]["round_s"] * record["rounds"][-1])


def trust(group: Group, defense: str, attack: str, rate: str) -> Sample:
    """Return one rate of the record's `trust`: its mean over the evaluated rounds that have it."""
    return _each(group, defense, attack, lambda record: known_mean(record["trust"][rate]))


def collapsed(group: Group, defense: str, attack: str) -> bool:
    """Return whether the model of any seed ends under twice chance accuracy; of few classes, within 0.1 of chance."""
    ends = [
        record["accuracy"][-1] < min(2 / record["classes"], 1 / record["classes"] + NEAR)
        for record in (group.records[defense, attack, seed] for seed in group.seeds(defense, attack))
        if record["classes"]
    ]
    return any(ends)


def worst(samples: Mapping[str, Sample], seeds: Sequence[int]) -> tuple[str, Sample] | None:
    """Return the attack with the largest mean over seeds, and its values; `None` if a value is missing."""
    if not samples or any(sample.seeds != tuple(seeds) for sample in samples.values()):
        return None
    name = max(samples, key=lambda attack: samples[attack].mean)
    return name, samples[name]


def _accuracy_gap(group: Group, reference: tuple[str, str], measured: tuple[str, str]) -> Sample:
    first = group.cell.first
    seeds, values = [], []
    for seed in group.seeds(*measured):
        ours, theirs = group.records[(*measured, seed)], group.records.get((*reference, seed))
        if theirs is None or ours["rounds"] != theirs["rounds"]:
            continue
        gaps = [
            a - b for t, a, b in zip(ours["rounds"], theirs["accuracy"], ours["accuracy"], strict=True) if t >= first
        ]
        if gaps:
            seeds.append(seed)
            values.append(statistics.fmean(gaps))
    return Sample(tuple(seeds), tuple(values))


def _mean_curve(group: Group, defense: str, attack: str, curve: str) -> Sample:
    return _each(group, defense, attack, lambda record: known_mean(record[curve] or []))


def _each(group: Group, defense: str, attack: str, read: Callable[[Record], float | None]) -> Sample:
    found = [(seed, read(group.records[defense, attack, seed])) for seed in group.seeds(defense, attack)]
    known = [(seed, value) for seed, value in found if value is not None]
    return Sample(tuple(seed for seed, _ in known), tuple(value for _, value in known))


def known_mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are known; `None` if none is."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
