"""Robustness coefficients: search for how far some clients can move a step, and compare with proven bounds.

A rule is (f, kappa)-robust (Allouah et al., AISTATS 2023) if for any `n - f` of the rows, called honest,
`|step - their mean|^2 <= kappa mean_i |g_i - their mean|^2`. A value found by search is a lower bound of kappa.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations, pairwise

import torch
from hypothesis import currently_in_test_context, target
from torch import Tensor

from agrbench.clients.perturbations import hides, unseen_by
from agrbench.conformance.cases import Case, Violation
from agrbench.conformance.search import search
from agrbench.conformance.strategies import SQUARE, Draws, alone, bound
from agrbench.errors import PluginError
from agrbench.plugins import registry
from agrbench.server.ranks import middle

STRENGTHS = (1.0, 1e2, 1e4, 1e6)
GROWTH = 1e3  # of a coefficient when the strength grows a hundredfold; an unlimited one grows by 1e4
LONGER = 3  # factor on the number of examples: a coefficient is maximized, not just sampled
LIMITLESS = "it grows with the square of how far they lie"
ROUNDING = 1e-9  # of the largest entry: a step this close to a mean counts as equal
SPREAD = torch.tensor([[3, -1, 2, 0], [-2, 4, 0, 1], [1, 2, -3, -1], [0, -2, 1, 3], [2, 0, -1, -4], [-1, 1, 4, 2],
                       [-3, -4, 1, 0], [4, 3, -2, 1], [-4, -3, -2, -2]], dtype=torch.float64)  # fmt: skip


@dataclass(frozen=True)
class Measure:
    """The largest coefficient found for a stack, and its case; `how` says how it grows without limit, if it does."""

    stack: str
    clients: int
    byzantine: int
    found: float
    case: Case
    honest: tuple[int, ...] | None
    bound: float | None
    proof: str
    how: str


def coefficient(case: Case, honest: Sequence[int] | None = None) -> float:
    """Return `|step - mean|^2 / mean_i |g_i - mean|^2` of these honest rows, by default the most of any `n - f`."""
    n, f, step = len(case.updates), case.byzantine, case.step().double()
    chosen = [list(honest)] if honest is not None else [list(rows) for rows in combinations(range(n), n - f)]
    sets = case.updates.double()[torch.tensor(chosen)]
    means = sets.mean(1)
    spread = (sets - means[:, None]).square().sum(2).mean(1)
    off = (step - means).square().sum(1)
    off = torch.where(off <= (ROUNDING * case.scale) ** 2, 0.0, off)
    return float(torch.where(off > 0, off / spread, 0.0).max())


def bounded(case: Case) -> None:
    """Stay within the proven robustness coefficient, whichever n - f clients are honest."""
    proven, proof = bound(registry.of(case.plugins).stack(case.stack), len(case.updates), case.byzantine)
    found = coefficient(case)
    _climb(found)
    if proven is not None and found > proven * (1 + 1e-6):
        raise Violation(f"the coefficient is {found:.6g}, and {proof} proves at most {proven:.6g}")


def measure(spec: str, plugins: tuple[str, ...], examples: int) -> Measure | None:
    """Maximize the coefficient by search.

    Return `None` if no client may be malicious, or if the rule judges none of the cases: its certificate says so.
    """
    draws = Draws.of(spec, plugins)
    pair = draws.standing()
    if pair is None:
        return None
    n, f = pair
    found: list[tuple[float, Case]] = []

    def drive(case: Case) -> None:
        trusting = case.trusts()
        seen = case.but(root=case.updates[: n - f].mean(0)) if trusting else case
        value = coefficient(seen, range(n - f) if trusting else None)
        found.append((value, seen))
        _climb(value)

    search(drive, alone(draws.at(n, f, SQUARE)), LONGER * examples)
    if not found:
        return None
    value, case = max(found, key=lambda pair: pair[0])
    proven, proof = bound(registry.of(plugins).stack(spec), n, f)
    honest = tuple(range(n - f)) if case.trusts() else None
    with suppress(PluginError):  # a rule that fails to judge such rows has no coefficient there
        for how, cases in _growing(spec, plugins, n, f).items():
            values = [coefficient(each, range(f, n)) for each in cases]
            if all(later > GROWTH * earlier > 0 for earlier, later in pairwise(values[1:])):
                return Measure(spec, n, f, values[-1], cases[-1], tuple(range(f, n)), proven, proof, how)
    how = "" if math.isfinite(value) else "where the honest agree, the step lies elsewhere"
    return Measure(spec, n, f, value, case, honest, proven, proof, how)


def _climb(value: float) -> None:
    """Ask Hypothesis, if it is drawing, for a larger coefficient."""
    if currently_in_test_context():
        target(math.log(min(max(value, 1e-30), 1e30)))


def _growing(spec: str, plugins: tuple[str, ...], n: int, f: int) -> dict[str, list[Case]]:
    """Make cases of growing strength whose malicious rows are far from the honest or in the view's blind spot."""
    honest = SPREAD.repeat(-(-(n - f) // len(SPREAD)), 1)[: n - f]
    made = {
        f"with rows far away {LIMITLESS}": [
            _attack(spec, plugins, -s * torch.ones(4), honest + s, f) for s in STRENGTHS
        ]
    }
    see = _attack(spec, plugins, honest[0], honest, f).judge().pool
    for name, place in {"mean": lambda rows: rows.mean(0), "median": middle}.items():
        seen, elsewhere = _blind(see, honest, place)
        if hides(see, seen, elsewhere):
            cases = [_attack(spec, plugins, seen - s * elsewhere, honest, f) for s in STRENGTHS]
            made[f"with rows below what the view shows, at the {name} of the honest views, {LIMITLESS}"] = cases
    return made


def _blind(see: Callable[[Tensor], Tensor], honest: Tensor, place: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Return a row at a place among the honest views, and the entries that can be lowered unseen."""
    seen, elsewhere = unseen_by(see, honest)
    shown = see(torch.arange(1.0, 5.0, dtype=honest.dtype)[None])[0].long() - 1
    low = seen.minimum(honest.amin()).index_copy(0, shown, place(see(honest)))
    return low, elsewhere


def _attack(spec: str, plugins: tuple[str, ...], row: Tensor, honest: Tensor, f: int) -> Case:
    rows = torch.cat([row.to(honest).expand(f, -1), honest])
    case = Case(spec, rows, f, SQUARE, root=honest.mean(0), plugins=plugins)
    return case if case.trusts() else case.but(root=())
