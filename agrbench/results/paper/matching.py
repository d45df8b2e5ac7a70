"""Find our runs that match a published value.

A run matches if its dataset, attack and defense have the published names. Hyperparameters and settings may differ;
`Match.departures` lists those that do.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from agrbench import settings, specs
from agrbench.cells import PROTOCOL, UNATTACKED, UNDEFENDED
from agrbench.results import metrics, statistics
from agrbench.results.metrics import Group
from agrbench.results.paper.claims import PublishedValue
from agrbench.results.statistics import Sample

if TYPE_CHECKING:
    from agrbench.plugins.registry import Registry

HIDDEN = 512  # first width of location30's default model, which runs without the setting `model` use
NOTHING = Sample((), ())


@dataclass(frozen=True)
class Match:
    """What matches a published value: one number per seed in its unit, and what was run.

    `complete`: no seed of its group is missing; `reason`: why one is; `ratio`: seconds divided by the base form's.
    """

    sample: Sample = NOTHING
    dataset: str | None = None
    attacks: tuple[str, ...] = ()
    defense: str | None = None
    settings: Mapping[str, Any] | None = None
    protocol: int | None = None
    complete: bool = False
    collapsed: bool = False
    reason: str | None = None
    ratio: Sample = NOTHING

    @property
    def departures(self) -> list[str]:
        """List the specs with hyperparameters, the settings that differ from the default, and why seeds are missing."""
        given = [spec for spec in (self.dataset, *self.attacks, self.defense) if spec and spec != named(spec)]
        options = dict(self.settings or {})
        if self.protocol not in (None, PROTOCOL):
            options["protocol"] = self.protocol
        changed = ", ".join(f"{name} {settings.spelled(name, value)}" for name, value in options.items())
        return [*given, *filter(None, (changed, self.reason))]


@lru_cache(maxsize=4096)
def named(spec: str) -> str:
    """Strip the hyperparameters from a spec."""
    return "+".join(term.name for term in specs.parse(spec))


def runs(claim: PublishedValue, groups: Iterable[Group]) -> list[Match]:
    """Find the runs that match a published value, including runs that have no value yet."""
    return [
        _run(claim.quantity, group, defense, attacks)
        for group in groups
        if named(group.dataset) == claim.dataset and claim.hidden in (None, hidden_width(group))
        for defense in group.defenses
        if named(defense) == claim.defense
        for attacks in _attacks(claim, group, defense)
    ]


def hidden_width(group: Group) -> int | None:
    """Return the first hidden width of a group's perceptrons on location30; `None` for other models."""
    if "model" not in group.settings:
        return HIDDEN
    model = settings.read("model", group.settings["model"])
    return model.values[0] if model.name == "mlp" and model.values else None


def described(claim: PublishedValue, registry: Registry) -> Match:
    """Compute a dataset's intra-label cosine similarity, if its files are available."""
    if claim.dataset not in registry.names("dataset"):
        return Match(reason=f"no dataset is named {claim.dataset}")
    from agrbench.data.summary import describe

    dataset = registry.dataset(claim.dataset).record
    known, state = describe(claim.dataset, dataset.source, dataset.load)
    if known is None:
        return Match(reason=f"{claim.dataset}: {' '.join(state.split())}")
    return Match(Sample((0,), (known.cosine,)), claim.dataset, complete=True)


def _attacks(claim: PublishedValue, group: Group, defense: str) -> Iterator[tuple[str, ...]]:
    """Yield every choice of specs, one for each published attack, under which the defense was run."""
    found = {attack for has, attack, _ in (*group.records, *group.missing) if has == defense}
    under = sorted(found, key=specs.natural)
    return itertools.product(*([spec for spec in under if named(spec) == attack] for attack in claim.attacks))


def _run(quantity: str, group: Group, defense: str, attacks: tuple[str, ...]) -> Match:
    sample, base = MEASURES[quantity](group, defense, attacks), metrics.base_of(defense)
    complete = sample.seeds == group.every_seed
    return Match(
        sample,
        group.dataset,
        attacks,
        defense,
        group.settings,
        next(iter(group.records.values()))["protocol"],
        complete,
        any(metrics.collapsed(group, defense, attack) for attack in attacks),
        None if complete else _reason(group, defense, attacks),
        _ratio(sample, _seconds(group, base, attacks)) if quantity == "seconds" and base != defense else NOTHING,
    )


def _scaled(sample: Sample, scale: float, shift: float = 0.0) -> Sample:
    return Sample(sample.seeds, tuple(shift + scale * value for value in sample.values))


def _seconds(group: Group, defense: str, attacks: Sequence[str]) -> Sample:
    """Add up the seconds of whole runs under several attacks, seed by seed."""
    each = [metrics.run_seconds(group, defense, attack) for attack in attacks]
    return _scaled(statistics.averaged(each), len(attacks))


def _ratio(ours: Sample, base: Sample) -> Sample:
    theirs = dict(zip(*base, strict=True))
    pairs = [(seed, value / theirs[seed]) for seed, value in zip(*ours, strict=True) if theirs.get(seed)]
    return Sample(tuple(seed for seed, _ in pairs), tuple(value for _, value in pairs))


def _reason(group: Group, defense: str, attacks: Sequence[str]) -> str:
    """Return why a seed is missing: the reason in its record, or that its record or the reference's is missing."""
    needed = {(defense, attack) for attack in attacks} | {(UNDEFENDED, UNATTACKED)}
    said = {reason: None for (has, under, _), reason in group.missing.items() if (has, under) in needed}
    return "; ".join(said) or "no record for some seeds, or none of fedavg without attack"


MEASURES: Mapping[str, Callable[[Group, str, tuple[str, ...]], Sample]] = {
    # Fidelity loss is the same difference with nobody attacking.
    "loss_percent": lambda group, defense, attacks: _scaled(metrics.loss(group, defense, *attacks), 100),
    "success_percent": lambda group, defense, attacks: _scaled(metrics.success(group, defense, *attacks), 100),
    "error_percent": lambda group, defense, attacks: _scaled(metrics.final(group, defense, *attacks), -100, 100),
    "seconds": _seconds,
}
