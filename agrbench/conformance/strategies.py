"""Draw the cases on which laws are tested: small whole numbers, whose rounding is negligible, or extreme floats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from agrbench.conformance.cases import Case, Shapes
from agrbench.errors import Inapplicable
from agrbench.plugins import registry
from agrbench.plugins.stack import Stack, blame

Strategy = st.SearchStrategy[dict[str, Any]]
Cases = st.SearchStrategy[Case]

LINEAR: tuple[Shapes, ...] = (((1,),), ((2,),), ((4,),), ((2, 2),), ((3, 2), (2,)), ((2, 3), (3,), (3, 1), (1,)))
LAYOUTS: tuple[Shapes, ...] = (*LINEAR, ((2, 1, 2, 2), (2,)))
EXTREMES = [0.0, 1.0, -1.0, 1e15, -1e15, 1e-30, -1e-30, 3e-20, -2e-12, 7e-8, 1e-3, -40.0, 1e6, -3e10]
STANDING = (11, 2)  # the smallest for which Bulyan is defined with two malicious rows
SQUARE: Shapes = ((2, 2),)
SIZES = 9  # how many numbers of clients are tried, from the smallest for which the stack is defined
MOST = 65


def legal(stack: Stack) -> list[tuple[int, int]]:
    """List `(clients, bound)` for which a stack is defined, for the smallest numbers of clients that have any."""
    found: list[tuple[int, int]] = []
    for n in range(1, MOST):
        found += [(n, f) for f in range((n + 1) // 2) if is_defined(stack, n, f)]
        if len({n for n, _ in found}) == SIZES:
            break
    return found


def bound(stack: Stack, n: int, f: int) -> tuple[float | None, str]:
    """Return the proven bound on a stack's robustness coefficient, `None` if there is none, and its sources."""
    rule = stack.defense.record
    with blame(stack.defense, "bound"):
        proven = rule.bound(n, f) if rule.bound else None
    proofs = [rule.proof]
    for stage in reversed(stack.stages):
        if proven is not None:
            proven = stage.record.bound(n, f, proven) if stage.record.bound else None
            proofs.append(stage.record.proof)
    return proven, "; ".join(dict.fromkeys(filter(None, proofs)))


def is_defined(stack: Stack, n: int, f: int) -> bool:
    """Return whether a stack is defined for `n` clients and the bound `f`."""
    try:
        stack.check(n, f)
    except Inapplicable:
        return False
    return True


class Draws:
    """Strategies that draw cases of one stack."""

    def __init__(self, spec: str, plugins: tuple[str, ...], pairs: list[tuple[int, int]]) -> None:
        self.spec, self.plugins, self.pairs = spec, plugins, pairs

    @classmethod
    def of(cls, spec: str, plugins: tuple[str, ...], *others: str) -> Draws:
        """Draw numbers of clients and bounds for which the stack and all others are defined.

        Raises:
            Inapplicable: there are none, at least not for few clients.
        """
        stacks = [registry.of(plugins).stack(each) for each in (spec, *others)]
        pairs = [pair for pair in legal(stacks[0]) if all(is_defined(each, *pair) for each in stacks[1:])]
        if not pairs:
            stacks[0].check(MOST, 0)
            raise Inapplicable(f"{' and '.join((spec, *others))}: no number of clients below {MOST} suits")
        return cls(spec, plugins, pairs)

    def smallest(self, sizes: int, least: int = 1) -> Draws:
        """Draw only the `sizes` smallest numbers of clients, from `least` on if there are any."""
        every = sorted({n for n, _ in self.pairs})
        kept = [n for n in every if n >= least][:sizes] or every
        return Draws(self.spec, self.plugins, [(n, f) for n, f in self.pairs if n in kept])

    def _case(self, draw: st.DrawFn, rows: Any, layout: Shapes, f: int, **more: Any) -> Case:
        return Case(self.spec, rows, f, layout, seed=draw(st.integers(0, 3)), plugins=self.plugins, **more)

    def whole(self, largest: int = 20, layouts: Sequence[Shapes] = LAYOUTS, least: int = 1) -> Cases:
        """Draw small whole numbers in float64, for at least `least` clients if the stack is defined for that many."""
        pairs = [(n, f) for n, f in self.pairs if n >= least] or self.pairs

        @st.composite
        def case(draw: st.DrawFn) -> Case:
            n, f = draw(st.sampled_from(pairs))
            layout = draw(st.sampled_from(layouts))
            lines = draw(whole((n + 2, width(layout)), largest))
            return self._case(draw, lines[:n], layout, f, root=lines[n], previous=lines[n + 1])

        return case()

    def agreeing(self) -> Cases:
        """Draw whole numbers such that all clients agree on no coordinate, on the first, or on all."""

        def agree(pair: tuple[Case, int]) -> Case:
            case, agreed = pair
            rows = case.updates.clone()
            rows[:, :agreed] = rows[0, :agreed]
            return case.but(updates=rows)

        return st.tuples(self.whole(layouts=LAYOUTS[1:]), st.sampled_from([0, 1, 99])).map(agree)

    def standing(self) -> tuple[int, int] | None:
        """Choose the numbers for which coefficients are measured: 11 clients, 2 of them malicious, if allowed."""
        pairs = [(n, f) for n, f in self.pairs if f]
        if not pairs:
            return None
        return (
            STANDING
            if is_defined(registry.of(self.plugins).stack(self.spec), *STANDING)
            else max(pairs, key=lambda pair: (pair[1], -pair[0]))
        )

    def proven(self) -> Cases | None:
        """Draw cases for which a coefficient is proven; return `None` if there is no proof."""
        pair = self.standing()
        if pair is None or bound(registry.of(self.plugins).stack(self.spec), *pair)[0] is None:
            return None
        return self.at(*pair, SQUARE)

    def at(self, n: int, f: int, layout: Shapes) -> Cases:
        """Draw whole numbers for `n` clients and the bound `f`."""
        return whole((n, width(layout)), 3).map(lambda rows: Case(self.spec, rows, f, layout, plugins=self.plugins))

    def extreme(self) -> Cases:
        """Draw zeros and entries from 1e-30 to 1e15 in float32 or float64, rows of zeros and equal rows included."""

        @st.composite
        def case(draw: st.DrawFn) -> Case:
            n, f = draw(st.sampled_from(self.pairs))
            layout = draw(st.sampled_from(LAYOUTS))
            lines = draw(arrays(np.float64, (n + 2, width(layout)), elements=st.sampled_from(EXTREMES)))
            rows = lines[:n][np.arange(n) % draw(st.integers(1, n))]
            dtype = draw(st.sampled_from(["float64", "float32"]))
            return self._case(draw, rows, layout, f, root=lines[n], previous=lines[n + 1], dtype=dtype)

        return case()

    def attacked(self) -> Cases | None:
        """Draw honest updates that mostly agree, followed by `f` equal malicious ones far away."""
        pairs = [(n, f) for n, f in self.pairs if f]
        pairs = [(n, f) for n, f in pairs if f > 1 and n > 2 * f] or pairs

        @st.composite
        def case(draw: st.DrawFn) -> Case:
            n, f = draw(st.sampled_from(pairs))
            layout = LINEAR[-1]
            toward = draw(whole((width(layout),), 4)) + 8
            toward = toward * np.where(np.arange(len(toward)) % 2, 1, -1)
            rows = toward + draw(whole((n, len(toward)), 2))
            rows[n - f :] = -draw(st.sampled_from([10, 100, 1000])) * toward
            return self._case(draw, rows, layout, f, root=toward)

        return case() if pairs else None


def width(layout: Shapes) -> int:
    """Count the parameters of a layout."""
    return sum(int(np.prod(shape)) for shape in layout)


def ordered(cases: Cases) -> Strategy:
    """Draw a case with an order of its clients."""
    return cases.flatmap(
        lambda case: st.permutations(range(len(case.updates))).map(lambda order: {"case": case, "order": order})
    )


def alone(cases: Cases) -> Strategy:
    """Draw a case and nothing else."""
    return cases.map(lambda case: {"case": case})


def with_power(cases: Cases) -> Strategy:
    """Draw a case with a power of ten."""
    return st.fixed_dictionaries({"case": cases, "power": st.integers(-12, 12)})


def shifted(cases: Cases) -> Strategy:
    """Draw a case with a vector to move it by."""
    return cases.flatmap(
        lambda case: whole((case.updates.shape[1],), 20).map(lambda shift: {"case": case, "shift": shift.tolist()})
    )


def whole(shape: tuple[int, ...], largest: int) -> st.SearchStrategy[Any]:
    """Draw an array of whole numbers in float64."""
    return arrays(np.float64, shape, elements=st.integers(-largest, largest).map(float), fill=st.nothing())


def with_other(draws: Draws, other: str) -> Strategy:
    """Draw a case for two rules."""
    return draws.whole(20, LAYOUTS[1:], 4).map(lambda case: {"case": case, "other": other})
