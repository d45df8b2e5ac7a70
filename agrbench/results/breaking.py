"""The search for the smallest malicious share at which the worst attack costs ten points (docs/metrics.md)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from agrbench.cells import UNATTACKED, UNDEFENDED, Cell
from agrbench.errors import AgrbenchError, Inapplicable
from agrbench.plugins.registry import Registry
from agrbench.plugins.stack import Stack
from agrbench.results import metrics
from agrbench.results.record import Record
from agrbench.results.statistics import LEAST, Sample

POINTS = 10.0


@dataclass(frozen=True)
class Level:
    """What the worst attack costs at one number of malicious clients, in points of accuracy."""

    attack: str
    loss: Sample

    @property
    def breaks(self) -> bool:
        """Return whether the attack breaks the defense."""
        return self.loss.mean >= POINTS - LEAST


@dataclass
class Search:
    """The bisection of one defense over the number of malicious clients, which the server knows.

    If only some clients take part in a round, the server's bound for a round follows from that number (`Cell.assumed`).
    `cell` is its unattacked run. `limit` is the largest number for which the defense is defined, at most half of the
    clients, and `limited_by` is the reason. `left_out` maps attacks that cannot be run against it to the reason.
    `levels` holds what was measured, by number of malicious clients.
    """

    cell: Cell
    attacks: tuple[str, ...]
    seeds: int
    limit: int
    limited_by: str
    left_out: Mapping[str, str]
    levels: dict[int, Level] = field(default_factory=dict)

    @classmethod
    def of(cls, cell: Cell, attacks: Sequence[str], seeds: int, registry: Registry) -> Search:
        """Start a search with nothing measured.

        Raises:
            Inapplicable: the defense is not defined even without malicious clients.
        """
        stack = registry.stack(cell.defense)
        limit, limited_by = _limit(cell, stack)
        left_out: dict[str, str] = {}
        for attack in attacks:
            try:
                stack.meet(registry.attack(attack))
            except Inapplicable as reason:
                left_out[attack] = str(reason)
        usable = tuple(attack for attack in attacks if attack not in left_out)
        if not usable:
            raise AgrbenchError(f"{'; '.join(left_out.values())}; write -a ipm or others besides")
        return cls(cell, usable, seeds, limit, limited_by, left_out)

    @property
    def broken(self) -> int | None:
        """Return the smallest measured number that breaks the defense, if any."""
        return min((count for count, level in self.levels.items() if level.breaks), default=None)

    @property
    def held(self) -> int | None:
        """Return the largest measured number below `broken`, which the defense withstands, if any."""
        below = self.limit + 1 if self.broken is None else self.broken
        return max((count for count in self.levels if count < below), default=None)

    @property
    def next(self) -> int | None:
        """Return the number to measure next, halfway between `held` and `broken`; `None` if none is left."""
        low = -1 if self.held is None else self.held
        high = self.limit + 1 if self.broken is None else self.broken
        return (low + high) // 2 if high - low > 1 else None

    @property
    def decisive(self) -> Level | None:
        """Return what was measured where the defense breaks, or else at the last number that it withstands."""
        count = self.held if self.broken is None else self.broken
        return None if count is None else self.levels[count]

    def cells(self, malicious: int) -> Iterator[Cell]:
        """List the runs that decide whether `malicious` clients break the defense, and those they are compared with."""
        for seed in range(self.seeds):
            cell = replace(self.cell, malicious=malicious, seed=seed)
            yield replace(cell, defense=UNDEFENDED)
            for attack in self._under(malicious):
                yield replace(cell, attack=attack)

    def measure(self, malicious: int, read: Callable[[Cell], Record | None]) -> bool:
        """Read the records of runs with `malicious` clients; return whether all of them are there."""
        records = [record for cell in self.cells(malicious) if (record := read(cell)) is not None]
        for group in metrics.groups(records):
            losses = {attack: metrics.loss(group, self.cell.defense, attack) for attack in self._under(malicious)}
            worst = metrics.worst(losses, range(self.seeds))
            if worst is not None:
                self.levels[malicious] = Level(worst[0], worst[1].points)
        return malicious in self.levels

    def _under(self, malicious: int) -> tuple[str, ...]:
        return self.attacks if malicious else (UNATTACKED,)


def _limit(cell: Cell, stack: Stack) -> tuple[int, str]:
    """Return the largest number of malicious clients, up to half, for which a stack is defined, and what limits it."""
    stack.check(cell.participants, 0)
    counts, half = range(cell.clients), cell.clients // 2

    def assumed(malicious: int) -> int:
        return replace(cell, malicious=malicious).assumed

    for bound in range(1, assumed(half) + 1):
        try:
            stack.check(cell.participants, bound)
        except Inapplicable as reason:
            return bisect_left(counts, bound, key=assumed) - 1, str(reason)
    return half, "half of the clients"


def searches(
    cell: Cell, defenses: Sequence[str], attacks: Sequence[str], seeds: int, registry: Registry
) -> list[Search]:
    """Start a search for each defense, the undefended baseline first; `cell` holds the dataset and the settings.

    Raises:
        AgrbenchError: there is no attack, it would start too late or cannot be run against a defense, or a defense is
            not defined even without malicious clients.
    """
    attacks = [attack for attack in attacks if attack != UNATTACKED]
    if not attacks:
        raise AgrbenchError("no attack is named; write -a adaptive or others, or none at all for those of `worst`")
    if cell.first > cell.rounds:
        raise AgrbenchError(
            f"the attack would start in round {cell.first} and there are {cell.rounds}; write --start 10"
        )
    cells = [replace(cell, defense=each, attack=UNATTACKED, malicious=0) for each in (UNDEFENDED, *defenses)]
    return [
        Search.of(each, attacks, seeds, registry) for each in dict.fromkeys(registry.canonical_cell(c) for c in cells)
    ]
