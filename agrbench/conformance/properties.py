"""The properties of each kind of plugin: a name, a function that raises if it is violated, and inputs to try."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from agrbench.conformance import attacks, coefficients, columns, datasets, laws, replays, strategies
from agrbench.conformance.strategies import Cases, Draws, Strategy

FEW = 4  # clients: of three, the nearest two always tie


@dataclass(frozen=True)
class Property:
    """One property: `check(**inputs)` raises if it is violated, and the first line of its docstring states it.

    `inputs(draws)` returns the inputs to try, or `None` if it does not apply; `share` of the examples are tried.
    """

    name: str
    check: Callable[..., None]
    inputs: Callable[[Any], Strategy | None]
    share: float = 1.0

    @property
    def says(self) -> str:
        """Return the property's statement."""
        return (self.check.__doc__ or "").partition("\n")[0].rstrip(".")

    @property
    def call(self) -> str:
        """Return the function's name as a reader imports it."""
        module = self.check.__module__.rpartition(".")[2]
        return f"{module}.{self.check.__name__}"


def _table(*properties: Property) -> Mapping[str, Property]:
    return {each.name: each for each in properties}


def _alone(of: Callable[[Draws], Cases | None]) -> Callable[[Draws], Strategy | None]:
    def inputs(draws: Draws) -> Strategy | None:
        cases = of(draws)
        return None if cases is None else strategies.alone(cases)

    return inputs


def _clear(draws: Draws) -> Cases:
    """Draw cases that contain no inevitable tie, such as the nearest two of three rows, or cosines on a line."""
    return draws.whole(20, strategies.LAYOUTS[1:], FEW)


def _tied(draws: Draws) -> Cases:
    """Draw cases with many ties, small enough for nudges to reach all outcomes: few clients, two columns, no zeros.

    A row of zeros has no direction, but every nudge of it has one.
    """
    cases = draws.smallest(FEW, FEW).whole(2, strategies.LAYOUTS[1:2], FEW)
    return cases.map(lambda case: case.but(updates=case.updates + 3))


COMMON = (
    Property("shape", laws.shape, _alone(Draws.whole)),
    Property("finite", laws.finite, _alone(Draws.extreme)),
    Property("length", laws.length, _alone(Draws.whole)),
    Property("untouched", laws.untouched, _alone(Draws.whole)),
    Property("determinism", laws.determinism, _alone(Draws.extreme)),
    Property("permutation", laws.permutation, lambda draws: strategies.ordered(_clear(draws))),
    Property("ties", laws.ties, lambda draws: strategies.ordered(_tied(draws))),
    Property("scaling", laws.scaling, lambda draws: strategies.with_power(_clear(draws))),
    Property("translation", laws.translation, lambda draws: strategies.shifted(_clear(draws))),
    Property("unanimity", laws.unanimity, _alone(Draws.whole)),
    Property("hull", laws.hull, _alone(Draws.agreeing)),
    Property("memory", laws.memory, _alone(Draws.whole), share=0.3),
)
DEFENSE = _table(
    *COMMON,
    Property("amplified", laws.amplified, _alone(lambda draws: draws.whole(layouts=strategies.LINEAR))),
    Property("resists", laws.resists, _alone(Draws.attacked)),
    Property("bounded", coefficients.bounded, _alone(Draws.proven)),
)
ROWS = _table(*COMMON, Property("heard", laws.heard, _alone(Draws.whole)))
COLUMNS = _table(
    Property("shape", columns.shape, _alone(Draws.whole)),
    Property("finite", columns.finite, _alone(Draws.extreme)),
    Property("untouched", columns.untouched, _alone(Draws.whole)),
    Property("determinism", columns.determinism, _alone(Draws.extreme)),
    Property("rowwise", columns.rowwise, _alone(Draws.whole)),
    Property("scaling", columns.scaling, lambda draws: strategies.with_power(draws.whole())),
    Property("covers", columns.covers, _alone(Draws.whole)),
    Property("restored", columns.restored, _alone(Draws.whole)),
)
ATTACK = _table(
    Property("shape", attacks.shape, lambda scenes: scenes.whole()),
    Property("finite", attacks.finite, lambda scenes: scenes.whole()),
    Property("untouched", attacks.untouched, lambda scenes: scenes.whole()),
    Property("determinism", attacks.determinism, lambda scenes: scenes.whole()),
    Property("within", attacks.within, lambda scenes: scenes.whole() if scenes.record.within else None),
    Property("moves", attacks.moves, lambda scenes: scenes.apart()),
    Property("claims", attacks.claims, lambda scenes: scenes.whole() if scenes.record.claim else None, 0.3),
    Property("poisons", attacks.poisons, lambda scenes: scenes.whole() if scenes.record.poison else None, 0.3),
    Property("triggers", attacks.triggers, lambda scenes: scenes.whole() if scenes.record.trigger else None, 0.3),
)
DATASET = _table(
    *(
        Property(name, check, lambda loads: loads)
        for name, check in {
            "offline": datasets.offline, "shape": datasets.shape, "finite": datasets.finite, "labels": datasets.labels,
            "disjoint": datasets.disjoint, "determinism": datasets.determinism, "trains": datasets.trains,
            "steady": datasets.steady, "frozen": datasets.frozen, "private": datasets.private,
        }.items()
    )
)  # fmt: skip
REPLAYED = _table(
    *(
        Property(check.__name__, check, lambda replay: st.just({"replay": replay}))
        for check in (replays.repeated, replays.unwatched, replays.followed, replays.lawful)
    )
)
"""Properties of a plugin in a real grid, of attacks only the first two: their input is a replay."""
ELSEWHERE = ("regrouped", "rehearsed")
"""What may be waived although it is no property: the planning of a grid reads it."""
