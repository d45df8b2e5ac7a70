"""Which defenses a table ranks, and on which seeds: those that all ranked defenses share (docs/metrics.md)."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low

from agrbench.cells import UNDEFENDED
from agrbench.results.metrics import Group
from agrbench.results.statistics import LEAST

ENOUGH = 2  # seeds that a rank takes
Seeds = tuple[int, ...]


@dataclass(frozen=True)
class Ranking:
    """The seeds on which each defense has all its runs, and the `seeds` that all ranked defenses share.

    A defense is ranked if it has all of `seeds`, which are chosen to rank as many defenses as possible, and then on as
    many seeds as possible. A defense with fewer than half as many seeds as most have does not count in this choice.
    Nothing is ranked if no defense has two seeds. `fedavg` is never ranked.
    """

    had: Mapping[str, Seeds]
    seeds: Seeds

    @classmethod
    def of(cls, had: Mapping[str, Iterable[int]]) -> Ranking:
        """Rank defenses by the seeds that they have."""
        whole = {name: tuple(sorted(seeds)) for name, seeds in had.items()}
        return cls(whole, _shared(seeds for name, seeds in whole.items() if name != UNDEFENDED))

    def ranks(self, defense: str) -> bool:
        """Return whether a defense is ranked."""
        return defense != UNDEFENDED and self._has_all(defense)

    def shown(self, defense: str) -> Seeds:
        """Return the seeds that a defense is shown on: the shared ones or, if it lacks any, its own."""
        return self.seeds if self._has_all(defense) else self.had.get(defense, ())

    def over(self, group: Group, defense: str) -> Group:
        """Return the records on the seeds that a defense is shown on; all, if it has no seed."""
        seeds = self.shown(defense)
        return group.over(seeds) if seeds else group

    def _has_all(self, defense: str) -> bool:
        return bool(self.seeds) and set(self.seeds) <= set(self.had.get(defense, ()))

    def __str__(self) -> str:
        """Say which seeds count, and who has more."""
        every = sorted(set(itertools.chain(*self.had.values())))
        if len(every) == 1:
            return f"One seed ({every[0]}): no interval, and nothing is ranked"
        if not self.seeds and set(self.had) != {UNDEFENDED}:
            return "Nothing is ranked: no defense has all its runs on two seeds"
        more: dict[Seeds, list[str]] = {}
        for name in filter(self._has_all, self.had):
            more.setdefault(tuple(seed for seed in self.had[name] if seed not in self.seeds), []).append(name)
        parts = [f"{numbered(seeds)} of {listed(names)}" for seeds, names in more.items() if seeds]
        if not parts:
            return f"{len(self.seeds or every)} seeds"
        return f"Ranked on {numbered(self.seeds)}, which all ranked defenses have (not counted: {'; '.join(parts)})"

    def unranked(self) -> Iterator[tuple[str, str]]:
        """Yield each defense that has all its runs on some seeds and yet no rank, and the reason, if seeds differ."""
        if len(set(itertools.chain(*self.had.values()))) < ENOUGH:
            return
        for name, seeds in self.had.items():
            if seeds and name != UNDEFENDED and not self.ranks(name):
                few = len(seeds) < ENOUGH or set(seeds) <= set(self.seeds)
                why = "it has only" if few else "it shares fewer than two seeds with the others and has"
                yield name, f"{why} {numbered(seeds)}"


def _shared(rows: Iterable[Seeds]) -> Seeds:
    """Return the seeds that all ranked rows share: those of the rows that have the two seeds that most rows have."""
    enough = [frozenset(row) for row in rows if len(row) >= ENOUGH]
    if not enough:
        return ()
    usual = median_low(map(len, enough))  # which no single row moves
    known = Counter(row for row in enough if 2 * len(row) >= usual)
    common = frozenset.intersection(*known)
    if len(common) < ENOUGH:
        pairs = sorted({pair for row in known for pair in itertools.combinations(sorted(row), 2)})
        common = max((_holders(pair, known) for pair in pairs), key=lambda found: (found[0], len(found[1])))[1]
    return tuple(sorted(common))


def _holders(pair: Seeds, known: Mapping[frozenset[int], int]) -> tuple[int, frozenset[int]]:
    """Count the rows that have both seeds, and return all seeds that these rows share."""
    rows = [row for row in known if row.issuperset(pair)]
    return sum(known[row] for row in rows), frozenset.intersection(*rows)


def best(values: Iterable[float], undefended: float | None = None) -> float | None:
    """Return the smallest of some values in points, or `None` if `fedavg` has a smaller one, so that none is best."""
    found = min(values, default=None)
    outdone = found is not None and undefended is not None and found - undefended > LEAST
    return None if outdone else found


def about(rankings: Mapping[str, Ranking], how: Iterable[str | None]) -> list[str]:
    """Write which seeds count and which methods the intervals use; `rankings` has one for each attack, or just one."""
    kinds = "; ".join(sorted({kind for kind in how if kind})) or "none"
    said: dict[str, list[str]] = {}
    for attack, ranking in rankings.items():
        said.setdefault(str(ranking), []).append(attack)
    if len(said) == 1:
        return [f"{each}." if each.startswith("One seed") else f"{each}; 95% intervals: {kinds}." for each in said]
    return [*(f"Under {listed(attacks)}: {each}." for each, attacks in said.items()), f"95% intervals: {kinds}."]


def unranked(rankings: Mapping[str, Ranking]) -> list[str]:
    """Name the defenses that have some seeds and no rank, once for each reason, and under which attacks."""
    under: dict[tuple[str, str], list[str]] = {}
    for attack, ranking in rankings.items():
        for pair in ranking.unranked():
            under.setdefault(pair, []).append(attack)
    alike: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (name, reason), attacks in under.items():
        alike.setdefault((reason, tuple(attacks)), []).append(name)
    return [
        f"Not ranked{'' if len(attacks) == len(rankings) else f' under {listed(attacks)}'}: {listed(names)}: {reason}."
        for (reason, attacks), names in alike.items()
    ]


def numbered(seeds: Sequence[int]) -> str:
    """Write seeds, with runs of three and more as ranges: `seeds 0 to 2, 5`."""
    runs: list[list[int]] = []
    for seed in seeds:
        if runs and seed == runs[-1][-1] + 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    parts = [f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs]
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(parts)}"


def listed(names: Sequence[str]) -> str:
    """Name up to six, and count the others."""
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
