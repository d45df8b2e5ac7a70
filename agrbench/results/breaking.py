"""The breaking point: the smallest malicious share at which the worst attack costs ten points (docs/metrics.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from agrbench.cells import UNATTACKED, UNDEFENDED, Cell
from agrbench.errors import AgrbenchError, Inapplicable
from agrbench.plugins.registry import Registry
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
        """Say whether that is too much."""
        return self.loss.mean >= POINTS - LEAST


@dataclass
class Search:
    """The bisection of one defense over the number of malicious clients, which the server knows.

    `cell` is its run unattacked; `limit` is the largest number for which it is defined, at most half of the clients,
    and `limited_by` says why; `left_out` names attacks that never meet it, and why; `levels` is what was measured.
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
        """Begin, with nothing measured.

        Raises:
            Inapplicable: the defense is not even defined where nobody is malicious.
        """
        stack, half = registry.stack(cell.defense), cell.clients // 2
        stack.check(cell.clients, 0)
        limit, limited_by = half, "half of the clients"
        for malicious in range(1, half + 1):
            try:
                stack.check(cell.clients, malicious)
            except Inapplicable as reason:
                limit, limited_by = malicious - 1, str(reason)
                break
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
        """Give the smallest number measured that breaks it, if any."""
        return min((count for count, level in self.levels.items() if level.breaks), default=None)

    @property
    def held(self) -> int | None:
        """Give the largest number measured, below the smallest that breaks it, that does not."""
        below = self.limit + 1 if self.broken is None else self.broken
        return max((count for count in self.levels if count < below), default=None)

    @property
    def next(self) -> int | None:
        """Give the number to measure next, halfway between what holds and what breaks, `None` where none is left."""
        low = -1 if self.held is None else self.held
        high = self.limit + 1 if self.broken is None else self.broken
        return (low + high) // 2 if high - low > 1 else None

    @property
    def decisive(self) -> Level | None:
        """Give what was measured where it breaks, or else at the last number that it holds."""
        count = self.held if self.broken is None else self.broken
        return None if count is None else self.levels[count]

    def cells(self, malicious: int) -> Iterator[Cell]:
        """List the runs that tell whether so many malicious clients break it, and those they are compared with."""
        for seed in range(self.seeds):
            cell = replace(self.cell, malicious=malicious, seed=seed)
            yield replace(cell, defense=UNDEFENDED)
            for attack in self._under(malicious):
                yield replace(cell, attack=attack)

    def measure(self, malicious: int, read: Callable[[Cell], Record | None]) -> bool:
        """Read the records of so many malicious clients; say whether all are there."""
        records = [record for cell in self.cells(malicious) if (record := read(cell)) is not None]
        for group in metrics.groups(records):
            losses = {attack: metrics.loss(group, self.cell.defense, attack) for attack in self._under(malicious)}
            worst = metrics.worst(losses, range(self.seeds))
            if worst is not None:
                self.levels[malicious] = Level(worst[0], worst[1].points)
        return malicious in self.levels

    def _under(self, malicious: int) -> tuple[str, ...]:
        return self.attacks if malicious else (UNATTACKED,)


def searches(
    cell: Cell, defenses: Sequence[str], attacks: Sequence[str], seeds: int, registry: Registry
) -> list[Search]:
    """Begin a search for each defense, the undefended baseline first; `cell` holds the dataset and the settings.

    Raises:
        AgrbenchError: there is no attack, it would start too late or meets a defense never, or a defense is not even
            defined where nobody is malicious.
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
