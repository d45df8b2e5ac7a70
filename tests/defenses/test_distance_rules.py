"""Krum's kin, subset rules, spectral filters and moving centres against their oracles, and their published mistakes."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from torch import Tensor

import agrbench
from agrbench import Layout, Verdict
from agrbench.errors import AgrbenchError, Inapplicable
from agrbench.plugins.registry import Registry
from agrbench.randomness import generator
from agrbench.server.judge import Judge
from agrbench.server.rounds import Server
from tests.helpers import oracles
from tests.helpers import oracles_distance as slow
from tests.helpers.judging import (
    SLACK,
    ULPS,
    draw_layered,
)
from tests.helpers.oracles import Array, Shapes
from tests.helpers.updates import EXACT, FORMS, Form, as_given, line


def judged(
    rows: Array, spec: str, f: int = 0, form: Form = EXACT, layout: Shapes | None = None, **more: Any
) -> tuple[Verdict, Array]:
    """Give the verdict and the step in float64, having checked that they come in the form of the input."""
    server = {name: as_given(value, form) if isinstance(value, np.ndarray) else value for name, value in more.items()}
    step: Any = agrbench.aggregate(as_given(rows, form), spec, f, layout, **server)
    assert isinstance(step, Tensor if form[0] == "torch" else np.ndarray)
    assert str(step.dtype).removeprefix("torch.") == form[1]
    assert step.shape == (rows.shape[1],)
    return agrbench.weigh(as_given(rows, form), spec, f, layout, **server), np.asarray(step, dtype=np.float64)


def step_of(rows: Array, spec: str, f: int = 0, **more: Any) -> Array:
    return judged(rows, spec, f, **more)[1]


def kept_of(verdict: Verdict) -> list[int]:
    """Give the rows that a 0/1 verdict keeps."""
    assert isinstance(verdict.weights, Tensor)
    assert verdict.weights.dtype == torch.bool
    return [int(i) for i in verdict.weights.nonzero().flatten()]


def chosen_by(rows: Array, spec: str, f: int = 0, **more: Any) -> list[int]:
    return kept_of(judged(rows, spec, f, **more)[0])


def marks_of(verdict: Verdict, view: Array, form: Form) -> Array:
    """Ask a verdict by columns about the whole view: `(rows, columns)` of yes or no."""
    assert callable(verdict.weights)
    marks = verdict.weights(torch.from_numpy(view.astype(form[1])))
    assert marks.dtype == torch.bool
    return marks.numpy()


def numbers_of(verdict: Verdict) -> Array:
    assert isinstance(verdict.weights, Tensor)
    assert verdict.weights.is_floating_point()
    return verdict.weights.double().numpy()


def assert_lowest(kept: Sequence[int], scores: Sequence[float], count: int, slack: float) -> None:
    """Check that `kept` are `count` rows of the lowest scores, where each score may be off by a share of itself."""
    assert len(kept) == count
    dropped = [score for i, score in enumerate(scores) if i not in kept]
    assert not dropped or max(scores[i] for i in kept) * (1 - slack) <= min(dropped) * (1 + slack)


# ---------------------------------------------------------------- what is acceptable as an answer


@dataclass(frozen=True)
class Seen:
    """What a rule judges, in float64: the view, and the server's vectors through the same column stages."""

    view: Array
    f: int
    root: Array
    previous: Array
    form: Form

    @property
    def n(self) -> int:
        return len(self.view)

    @property
    def slack(self) -> float:
        return SLACK[self.form[1]]


def lowest_krum(verdict: Verdict, seen: Seen, neighbours: str = "paper", power: int = 2, count: int = 1) -> None:
    scores = slow.krum_scores(seen.view, seen.f, neighbours, power)
    # A distance is off by its slack, and its power by as many.
    assert_lowest(kept_of(verdict), scores, count or seen.n - seen.f, power * seen.slack)


def bulyan(verdict: Verdict, seen: Seen) -> None:
    marks, count = marks_of(verdict, seen.view, seen.form), seen.n - 4 * seen.f
    assert (marks.sum(axis=0) == count).all()
    # A score is a sum of squares of distances, each off by twice the slack.
    for selected in slow.bulyan_selections(seen.view, seen.f, 4 * seen.slack):
        if not set(np.flatnonzero(marks.any(axis=1))) <= set(selected):
            continue
        values, kept = seen.view[selected], marks[selected]
        away = np.abs(values - oracles.median(values))
        # The median and the difference to it are each rounded once or twice.
        room = 4 * np.finfo(seen.form[1]).eps * np.abs(values).max(axis=0)
        furthest = np.where(kept, away, 0).max(axis=0)
        if (furthest <= np.where(kept, np.inf, away).min(axis=0) + room).all():
            return
    raise AssertionError(marks)


def smallest_diameter(verdict: Verdict, seen: Seen) -> None:
    kept, table, expected = kept_of(verdict), oracles.distances(seen.view), slow.mda(seen.view, seen.f)
    best, room = slow.diameter(table, expected), 1 + 2 * seen.slack
    assert len(kept) == len(expected)
    assert slow.diameter(table, kept) <= best * room
    near = [d for i, j in itertools.combinations(range(seen.n), 2) if best / room <= (d := table[i, j]) <= best * room]
    # Where one pair alone is about as far apart, the subsets of that diameter are clear, and so is the first of them.
    if len(near) <= 1 or best == 0:
        assert kept == expected


def spread_slack(seen: Seen) -> float:
    # Distances that are off by a share put the covariance of k rows off by at most k of its trace, itself at most k
    # top eigenvalues.
    return seen.slack * seen.n**2


def smallest_spread(verdict: Verdict, seen: Seen) -> None:
    kept, room = kept_of(verdict), spread_slack(seen)
    values = {subset: slow.spread(seen.view, subset) for subset in slow.subsets(seen.n, seen.f)}
    best = min(values.values())
    assert values[tuple(kept)] <= best * (1 + room)
    if sum(value <= best * (1 + room) for value in values.values()) == 1:
        assert kept == slow.smea(seen.view, seen.f)


def greedily_spread(verdict: Verdict, seen: Seen) -> None:
    assert frozenset(kept_of(verdict)) in slow.smea_greedy_ends(seen.view, seen.f, spread_slack(seen))


def top_eigenvalue(view: Array, weights: Array) -> float:
    centred = view - view[0] - weights @ (view - view[0])
    return float(np.linalg.svd(np.sqrt(weights)[:, None] * centred, compute_uv=False)[0] ** 2)


def caf(verdict: Verdict, seen: Seen) -> None:
    weights = numbers_of(verdict)
    assert (weights >= 0).all()
    # A sum of at most 12 rounded shares.
    assert weights.sum() == pytest.approx(1, abs=1e-6)
    uniform = oracles.fedavg(seen.view)
    weights = weights / weights.sum()
    assert top_eigenvalue(seen.view, weights) <= top_eigenvalue(seen.view, uniform) * (1 + spread_slack(seen))
    expected, clear = slow.caf(seen.view, seen.f)
    # An eigenvector is off by what the matrix is off, over the gap to the next one; every step builds on the last.
    room = 10 * seen.slack / clear if clear > 0 else math.inf
    if room < 0.1:
        assert weights == pytest.approx(expected, abs=room)


def smallest_projections(verdict: Verdict, seen: Seen, removed: float = 1.0) -> None:
    kept, (along, clear) = kept_of(verdict), slow.projections(seen.view)
    assert len(kept) == seen.n - math.floor(removed * seen.f)
    # As for caf: what an eigenvector that is off does to a projection goes with the length of the row.
    room = 10 * seen.slack / clear if clear > 0 else math.inf
    if room < 0.1:
        lengths = [oracles.norm(row) for row in seen.view - seen.view.mean(axis=0)]
        for i, j in itertools.product(kept, set(range(seen.n)) - set(kept)):
            assert abs(along[i]) <= abs(along[j]) + room * (lengths[i] + lengths[j])


def weighed(verdict: Verdict) -> Array:
    """Check that the weights are shares, and make them add up to 1."""
    weights = numbers_of(verdict)
    assert (weights >= 0).all()
    # A sum of at most 12 rounded shares.
    assert weights.sum() == pytest.approx(1, abs=1e-6)
    return np.asarray(weights / weights.sum())


def least_distances(verdict: Verdict, seen: Seen) -> None:
    moved = seen.view - seen.view[0]
    # A unit vector is off by twice what a distance is off.
    assert slow.excess(moved, weighed(verdict) @ moved) <= max(1e-8, 20 * seen.slack)


def rfa(verdict: Verdict, seen: Seen, steps: int) -> None:
    ours, theirs = weighed(verdict), slow.rfa(seen.view, steps)
    moved = seen.view - seen.view[0]
    away = [oracles.distance(row, theirs @ moved) for row in moved]
    # Both stop within 1e-6 of a step; distances in coefficients are roots of differences, so half of their digits
    # remain where most rows coincide.
    room = max(1e-5, 10 * seen.slack) * slow.halfway(away) + max(1e-6, seen.slack / 10) * max(away)
    assert oracles.distance(ours @ moved, theirs @ moved) <= room


def rfa_from_zero(verdict: Verdict, seen: Seen, steps: int, nu: float) -> None:
    ours, theirs = weighed(verdict), slow.rfa_from_zero(seen.view, steps, nu)
    size = max(map(oracles.norm, seen.view))
    # As for RFA, a further step measures roots of differences, of which half of the digits remain.
    assert oracles.distance(ours @ seen.view, theirs @ seen.view) <= max(1e-6, 10 * seen.slack) * size


def clipped(verdict: Verdict, seen: Seen, tau: float | str = "median", steps: int = 1) -> None:
    weights = numbers_of(verdict)
    expected, share, passed = slow.clipped_towards(seen.view, seen.previous, tau, steps)
    # Every factor is a quotient of two distances; a radius of zero distances has no digits, so only where rows and
    # centre are apart are the weights themselves compared.
    if steps == 1:
        assert weights == pytest.approx(expected, abs=4 * seen.slack)
        assert verdict.previous == pytest.approx(share, abs=4 * seen.slack)
    reached = weights @ seen.view + verdict.previous * seen.previous
    reach = max(oracles.distance(row, seen.previous) for row in seen.view)
    size = max(oracles.norm(row) for row in [*seen.view, seen.previous])
    # As for the geometric median, a further step measures roots of differences.
    room = (4 * seen.slack if steps == 1 else max(1e-6, seen.slack / 10)) * reach
    # The weights may come in the form of the updates, and then sum to 1 to rounding only.
    assert oracles.distance(reached, passed[-1]) <= room + ULPS * np.finfo(seen.form[1]).eps * size


def nearest_to_the_root(verdict: Verdict, seen: Seen) -> None:
    scores = [oracles.distance(row, seen.root) for row in seen.view]
    assert_lowest(kept_of(verdict), scores, seen.n - seen.f, seen.slack)


def half(n: int) -> int:
    return (n - 1) // 2


def krum_bound(n: int) -> int:
    return (n - 3) // 2


Check = Callable[[Verdict, Seen], None]
RULES: dict[str, tuple[Callable[[int], int], Check]] = {
    "krum": (krum_bound, lowest_krum),
    "krum(power=1)": (krum_bound, partial(lowest_krum, power=1)),
    "krum(power=4)": (krum_bound, partial(lowest_krum, power=4)),
    "krum(neighbours='byzfl')": (krum_bound, partial(lowest_krum, neighbours="byzfl")),
    "multi_krum": (krum_bound, partial(lowest_krum, count=0)),
    "multi_krum(m=3)": (krum_bound, partial(lowest_krum, count=3)),
    "multi_krum(neighbours='byzfl',power=4)": (krum_bound, partial(lowest_krum, neighbours="byzfl", power=4, count=0)),
    "bulyan": (lambda n: (n - 3) // 4, bulyan),
    "mda": (half, smallest_diameter),
    "smea": (half, smallest_spread),
    "smea(search='greedy')": (half, greedily_spread),
    "caf": (half, caf),
    "dnc": (half, smallest_projections),
    "dnc(removed=1.5)": (half, partial(smallest_projections, removed=1.5)),
    "dnc(coordinates=100,iterations=3)": (half, smallest_projections),
    "geometric_median": (half, least_distances),
    "geometric_median(steps=1)": (half, partial(rfa, steps=1)),
    "geometric_median(steps=3)": (half, partial(rfa, steps=3)),
    "geometric_median(steps=8)": (half, partial(rfa, steps=8)),
    "geometric_median(steps=3,nu=0.1)": (half, partial(rfa_from_zero, steps=3, nu=0.1)),
    "geometric_median(steps=8,nu=0.1)": (half, partial(rfa_from_zero, steps=8, nu=0.1)),
    "centered_clipping": (half, clipped),
    "centered_clipping(tau=0.5)": (half, partial(clipped, tau=0.5)),
    "centered_clipping(steps=3)": (half, partial(clipped, steps=3)),
    "centered_clipping(tau=10,steps=2)": (half, partial(clipped, tau=10, steps=2)),
    "monna": (half, nearest_to_the_root),
}


def fewest(spec: str) -> int:
    return next(n for n in itertools.count(1) if RULES[spec][0](n) >= 0)


@st.composite
def vectors(draw: st.DrawFn, rows: Array) -> Array:
    """What a server may have of its own: nothing, one of the rows, the same turned round, or something else."""
    kind = draw(st.sampled_from(["zero", "row", "opposed", "near", "other"]))
    row = rows[draw(st.integers(0, len(rows) - 1))]
    noise = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).normal(size=len(row)) * np.abs(rows).max()
    made = {"zero": 0 * row, "row": row, "opposed": -row, "near": row + 1e-3 * noise, "other": noise}[kind]
    return np.asarray(made, dtype=np.float32).astype(np.float64)


def agrees(
    data: st.DataObject, spec: str, rows: Array, form: Form, shapes: Shapes | None = None, kernel: int = 1
) -> None:
    """Check a rule's verdict on what it saw, and its step on the originals."""
    largest, check = RULES[spec]
    f = data.draw(st.integers(0, largest(len(rows))), label="f")
    root, previous = (data.draw(vectors(rows), label=name) for name in ("root", "previous"))
    stack, view, seen_root, seen_previous = spec, rows, root, previous
    if shapes is not None:
        stack, view = f"amp(kernel={kernel})+{spec}", oracles.pooled_rows(rows, shapes, kernel)
        seen_root, seen_previous = (oracles.pooled(vector, shapes, kernel) for vector in (root, previous))
    verdict, step = judged(rows, stack, f, form, shapes, root=root, previous=previous)
    check(verdict, Seen(view, f, seen_root, seen_previous, form))
    assert (verdict.noise, list(verdict.exclude)) == (0, [])
    if callable(verdict.weights) and not isinstance(verdict.weights, Tensor):
        marks = marks_of(verdict, view, form)
        weights = marks / marks.sum(axis=0)
        weights = weights if shapes is None else oracles.spread(weights, shapes, kernel)
    else:
        by_row = verdict.weights.double().numpy()
        by_row = oracles.shares(kept_of(verdict), len(rows)) if verdict.weights.dtype == torch.bool else by_row
        weights = np.repeat(by_row[:, None], rows.shape[1], axis=1)
    terms = np.vstack([weights * rows, verdict.previous * previous])
    # See ULPS; what rounds is each product, so the bound is relative to their sizes and not to their sum.
    assert (np.abs(step - terms.sum(axis=0)) <= ULPS * np.finfo(form[1]).eps * np.abs(terms).sum(axis=0)).all()


# ---------------------------------------------------------------- base and amplified forms


@pytest.mark.oracle(*RULES)
@pytest.mark.parametrize("spec", RULES)
@given(st.data(), FORMS)
def test_rule_decides_as_its_oracle_and_combines_the_originals(spec: str, data: st.DataObject, form: Form) -> None:
    agrees(data, spec, data.draw(oracles.updates((fewest(spec), 12)), label="rows"), form)


@pytest.mark.parametrize("spec", RULES)
@given(st.data(), FORMS)
def test_amplified_rule_judges_pooled_updates_and_combines_the_originals(
    spec: str, data: st.DataObject, form: Form
) -> None:
    rows, shapes, kernel = draw_layered(data, least=fewest(spec))
    agrees(data, spec, rows, form, shapes, kernel)


@st.composite
def lattices(draw: st.DrawFn, least: int) -> Array:
    """Small whole numbers times a power of two: sums of their squares are exact in float32, so ties are ties."""
    n, d = draw(st.integers(least, 11)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = rng.integers(-3, 4, size=(n, d)).astype(np.float64)
    if draw(st.booleans()):
        rows = rows[rng.integers(0, n, size=n)]
    return rows * 2.0 ** draw(st.integers(-40, 40))


def first_lowest(view: Array, f: int, count: int = 1, **more: Any) -> list[int]:
    return oracles.lowest(slow.krum_scores(view, f, **more), count or len(view) - f)


EXACTLY: dict[str, Callable[[Array, int], list[int]]] = {
    "krum": first_lowest,
    "krum(power=4)": partial(first_lowest, power=4),
    "krum(neighbours='byzfl')": partial(first_lowest, neighbours="byzfl"),
    "multi_krum": partial(first_lowest, count=0),
    "multi_krum(m=2,neighbours='byzfl')": partial(first_lowest, count=2, neighbours="byzfl"),
    "mda": slow.mda,
    "smea": slow.smea,
    "smea(search='greedy')": slow.smea_greedy,
}


@pytest.mark.trap(*EXACTLY)
@pytest.mark.parametrize("spec", EXACTLY)
@given(st.data(), FORMS)
def test_ties_of_whole_numbers_are_broken_as_the_definition_says(spec: str, data: st.DataObject, form: Form) -> None:
    rows = data.draw(lattices(3), label="rows")
    f = data.draw(st.integers(0, krum_bound(len(rows)) if "krum" in spec else half(len(rows))), label="f")
    assert chosen_by(rows, spec, f, form=form) == EXACTLY[spec](rows, f)


@pytest.mark.trap("bulyan")
@given(st.data(), FORMS)
def test_bulyan_breaks_ties_by_the_median_of_the_remaining_rows(data: st.DataObject, form: Form) -> None:
    rows = data.draw(lattices(3), label="rows")
    f = data.draw(st.integers(0, (len(rows) - 3) // 4), label="f")
    assert (marks_of(judged(rows, "bulyan", f, form)[0], rows, form) == slow.bulyan(rows, f)).all()


@pytest.mark.trap("monna")
@given(lattices(1), FORMS, st.data())
def test_monna_keeps_the_first_of_rows_equally_near(rows: Array, form: Form, data: st.DataObject) -> None:
    root, f = rows[data.draw(st.integers(0, len(rows) - 1))], data.draw(st.integers(0, half(len(rows))))
    assert oracles.shares(chosen_by(rows, "monna", f, form=form, root=root), len(rows)) == pytest.approx(
        slow.monna(rows, root, f)
    )


# ---------------------------------------------------------------- what each rule is defined for


@pytest.mark.parametrize("spec", [spec for spec in RULES if spec not in ("multi_krum(m=3)",)])
@pytest.mark.parametrize("n", range(1, 13))
def test_rule_works_up_to_the_largest_legal_bound_and_not_one_further(spec: str, n: int) -> None:
    rows = np.random.default_rng(n).normal(size=(n, 3))
    largest = RULES[spec][0](n)
    if largest >= 0:
        assert np.isfinite(step_of(rows, spec, largest, root=rows[0])).all()
    for function in (agrbench.aggregate, agrbench.weigh):
        with pytest.raises(Inapplicable, match=f"requires .*n={n}, f={max(largest, -1) + 1}"):
            function(rows, spec, max(largest, -1) + 1, root=rows[0])


@pytest.mark.trap("multi_krum")
def test_multi_krum_averages_at_most_all_rows() -> None:
    rows = np.random.default_rng(0).normal(size=(6, 3))
    assert chosen_by(rows, "multi_krum(m=6)", 1) == list(range(6))
    for m in (0, 7):
        with pytest.raises(AgrbenchError):
            step_of(rows, f"multi_krum(m={m})", 1)


@pytest.mark.trap("dnc")
def test_dnc_must_leave_a_row() -> None:
    rows = np.random.default_rng(0).normal(size=(7, 3))
    assert len(chosen_by(rows, "dnc(removed=2)", 3)) == 1
    with pytest.raises(Inapplicable, match="n=7, f=3"):
        step_of(rows, "dnc(removed=3)", 3)


def test_exact_smea_refuses_more_subsets_than_it_can_list_and_greedy_smea_does_not() -> None:
    rows = np.random.default_rng(0).normal(size=(20, 3))
    assert math.comb(20, 9) > 100_000 > math.comb(19, 6)
    with pytest.raises(Inapplicable, match="n=20, f=9"):
        step_of(rows, "smea", 9)
    assert len(chosen_by(rows, "smea(search='greedy')", 9)) == 11
    assert len(chosen_by(rows[:19], "smea", 6)) == 13


@pytest.mark.parametrize(
    "spec",
    [
        "krum(power=3)",
        "krum(neighbours='most')",
        "multi_krum(power=0)",
        "smea(search='most')",
        "centered_clipping(tau=0)",
        "centered_clipping(tau=-1.0)",
        "centered_clipping(tau='mean')",
        "centered_clipping(steps=0)",
        "geometric_median(steps=0)",
        "geometric_median(steps=3,nu=0.0)",
        "geometric_median(nu=0.1)",
        "dnc(coordinates=0)",
        "dnc(iterations=0)",
        "dnc(removed=-1)",
    ],
)
def test_hyperparameter_that_means_nothing_is_refused(spec: str) -> None:
    with pytest.raises(AgrbenchError):
        step_of(np.random.default_rng(0).normal(size=(7, 3)), spec, 1)


def test_monna_asks_for_the_servers_own_update() -> None:
    with pytest.raises(AgrbenchError, match="root="):
        step_of(np.ones((3, 2)), "monna")


# ---------------------------------------------------------------- few rows, equal rows, no rows worth anything


@pytest.mark.parametrize("spec", RULES)
@pytest.mark.parametrize("value", [0.0, 1.0, -3.0])
@pytest.mark.parametrize("n", range(1, 8))
def test_equal_rows_are_the_step(spec: str, value: float, n: int) -> None:
    if n < fewest(spec):
        return
    rows = np.full((n, 4), value)
    step = step_of(rows, spec, RULES[spec][0](n), root=np.ones(4), previous=rows[0])
    # Shares such as 1/3 round.
    assert step == pytest.approx(rows[0], rel=1e-12)


FIRST = ["multi_krum", "mda", "smea", "dnc", "dnc(iterations=2)", "monna"]


@pytest.mark.parametrize("spec", [*FIRST, "krum", "smea(search='greedy')"])
@pytest.mark.parametrize("value", [0.0, 0.1])
def test_equal_rows_tie_and_the_first_are_kept_but_where_the_first_are_dropped(spec: str, value: float) -> None:
    expected = {"krum": [0], "smea(search='greedy')": [2, 3, 4, 5, 6]}.get(spec, [0, 1, 2, 3, 4])
    assert chosen_by(np.full((7, 3), value), spec, 2, root=np.ones(3)) == expected


@pytest.mark.parametrize("spec", ["mda", "smea", "smea(search='greedy')", "caf", "dnc", "geometric_median", "monna"])
def test_one_or_two_rows_without_a_bound_are_averaged(spec: str) -> None:
    for rows in (np.array([[3.0, -1.0]]), np.array([[3.0, -1.0], [-5.0, 2.0]])):
        # Halves of two rows; the geometric median of two rows is any point between, and Weiszfeld stays at the mean.
        assert step_of(rows, spec, root=rows[0]) == pytest.approx(rows.mean(axis=0), rel=1e-12)


@pytest.mark.parametrize(
    "spec", ["mda", "smea", "smea(search='greedy')", "caf", "dnc", "monna", "multi_krum", "bulyan"]
)
def test_bound_of_zero_is_the_mean(spec: str) -> None:
    rows = np.random.default_rng(2).normal(size=(6, 3))
    # Sixths round.
    assert step_of(rows, spec, 0, root=rows[1]) == pytest.approx(rows.mean(axis=0), rel=1e-12)


@pytest.mark.parametrize(
    "spec",
    [spec for spec in RULES if "tau=10" not in spec and "nu=" not in spec and spec != "geometric_median(steps=1)"],
)
@pytest.mark.parametrize("amplified", ["", "amp+"])
def test_no_rule_silently_does_nothing(spec: str, amplified: str) -> None:
    """One of nine rows is far off in the other direction; the mean of all is off by more than 100."""
    rows = 1 + np.random.default_rng(0).uniform(-0.1, 0.1, size=(9, 4))
    rows[4] = -1000
    step = step_of(rows, amplified + spec, 1, layout=[(2, 2)], root=np.ones(4), previous=np.ones(4))
    # A step of fixed length may be taken towards the far row, and then one of a ninth of it at most.
    assert (np.abs(step - 1) < 0.3).all()


@pytest.mark.parametrize("spec", RULES)
def test_rule_judges_and_combines_the_rows_that_a_stage_mixed(spec: str) -> None:
    rows, f = np.random.default_rng(6).normal(size=(11, 6)), 2
    server = {"root": rows[0], "previous": rows[1] / 2}
    expected = step_of(oracles.nnm(rows, f) @ rows, spec, f, **server)
    # Mixed rows are sums of nine, and distances of sums; the iterations lose a few digits more.
    assert step_of(rows, f"nnm+{spec}", f, **server) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("spec", RULES)
@pytest.mark.parametrize("amplified", ["", "amp+"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nothing_that_the_caller_passed_is_changed(spec: str, amplified: str, dtype: str) -> None:
    rng = np.random.default_rng(0)
    arrays: list[Any] = [rng.normal(size=shape).astype(dtype) for shape in [(7, 6), (6,), (6,)]]
    before = [array.tobytes() for array in arrays]
    for rows, root, previous in (arrays, [torch.from_numpy(array) for array in arrays]):
        agrbench.aggregate(rows, amplified + spec, 1, [(2, 3)], root=root, previous=previous)
        agrbench.weigh(rows, amplified + spec, 1, [(2, 3)], root=root, previous=previous)
    assert [array.tobytes() for array in arrays] == before


@pytest.mark.parametrize("spec", RULES)
def test_same_rows_give_the_same_step_whatever_the_seed(spec: str) -> None:
    """A power iteration from a random vector, or ties broken by chance, would show."""
    rows = np.random.default_rng(5).normal(size=(9, 6))
    rows[5:7] = rows[2]
    steps = [step_of(rows, spec, 1, root=rows[0], seed=seed) for seed in (0, 0, 1, 2)]
    # The columns of dnc come in another order from another seed; for one seed the step is the same bit by bit.
    assert (steps[0] == steps[1]).all()
    assert all(step == pytest.approx(steps[0], rel=1e-9) for step in steps)


# ---------------------------------------------------------------- Krum and its kin


@pytest.mark.trap("krum")
def test_krum_of_byzfl_sums_over_one_neighbour_more() -> None:
    rows = line(0, 1, 2, 4, 5)  # f = 1: two neighbours give 5, 2, 5, 5, 10; three give 21, 11, 9, 14, 26
    assert chosen_by(rows, "krum", 1) == chosen_by(rows, "krum(neighbours='paper',power=2)", 1) == [1]
    assert chosen_by(rows, "krum(neighbours='byzfl')", 1) == [2]


@pytest.mark.trap("krum")
def test_krum_powers_are_one_two_and_four() -> None:
    rows = line(0, 1, 2, 3, 7, 8, 9)  # f = 1, four neighbours: 9 at place 2, 30 at place 3
    assert chosen_by(rows, "krum(power=1)", 1) == [2]
    assert chosen_by(rows, "krum", 1) == [3]
    rows = line(0, 1, 2, 4, 7, 8, 10)  # 34 at place 2 and 38 at place 3; of fourth powers 658 and 434
    assert chosen_by(rows, "krum", 1) == [2]
    assert chosen_by(rows, "krum(power=4)", 1) == [3]


@pytest.mark.trap("multi_krum")
def test_multi_krum_does_not_count_itself_and_takes_n_minus_f_minus_2_others() -> None:
    rows = line(0, 1, 4, 5, 8, 9, 11)  # f = 1, four others: 106, 75, 42, 42, 35, 46, 98
    assert chosen_by(rows, "multi_krum", 1) == [1, 2, 3, 4, 5, 6]
    counting_itself = [sum(sorted((a - b) ** 2 for b in rows[:, 0])[:4]) for a in rows[:, 0]]
    assert oracles.lowest(counting_itself, 6) == [0, 1, 2, 3, 4, 5]
    assert chosen_by(rows, "multi_krum(neighbours='byzfl')", 1) == [0, 1, 2, 3, 4, 5]


@pytest.mark.trap("multi_krum")
def test_multi_krum_scores_once_and_does_not_score_what_remains_again() -> None:
    rows = line(2, 3, 4, 5, 6, 8, 10)  # f = 1: 30, 15, 10, 15, 18, 33, 81
    assert chosen_by(rows, "multi_krum(m=3)", 1) == [1, 2, 3]
    table, remaining, again = oracles.distances(rows), list(range(7)), []
    for _ in range(3):
        again.append(slow.least(slow.remaining_scores(table, remaining, 1))[0])
        remaining.remove(again[-1])
    assert sorted(again) == [1, 2, 4]


@pytest.mark.trap("multi_krum")
def test_multi_krum_of_one_is_krum_and_of_all_is_the_mean() -> None:
    rows = np.random.default_rng(1).normal(size=(9, 4))
    assert (step_of(rows, "multi_krum(m=1)", 3) == step_of(rows, "krum", 3)).all()
    # Ninths round.
    assert step_of(rows, "multi_krum(m=9)", 3) == pytest.approx(rows.mean(axis=0), rel=1e-12)


def assert_bulyan(rows: Array, f: int, selected: list[int], wrong: list[int]) -> None:
    """Check the values that are averaged, and that another selection would have averaged others."""
    count = len(rows) - 4 * f
    marks = marks_of(judged(rows, "bulyan", f)[0], rows, EXACT)
    assert (marks == slow.nearest_to_the_median(rows, selected, count)).all()
    averaged = (np.where(marks, rows, 0).sum(axis=0)) / count
    other = slow.nearest_to_the_median(rows, wrong, count)
    assert np.abs((np.where(other, rows, 0).sum(axis=0)) / count - averaged).max() > 0.3


def one_by_one(rows: Array, pick: Callable[[list[int]], int], f: int = 1) -> list[int]:
    remaining, selected = list(range(len(rows))), []
    for _ in range(len(rows) - 2 * f):
        selected.append(pick(remaining))
        remaining.remove(selected[-1])
    return sorted(selected)


@pytest.mark.trap("bulyan")
def test_bulyan_scores_again_after_each_removal() -> None:
    rows = line(0, 5, 6, 8, 10, 11, 12)
    once = oracles.lowest(slow.krum_scores(rows, 1), 5)
    assert once == [2, 3, 4, 5, 6]
    assert_bulyan(rows, 1, [1, 2, 3, 4, 5], once)


@pytest.mark.trap("bulyan")
def test_bulyan_indexes_all_rows_not_those_that_remain() -> None:
    rows = line(2, 6, 7, 4, 1, 11, 0)
    table, places = oracles.distances(rows), []

    def pick(remaining: list[int]) -> int:
        places.append(remaining.index(slow.bulyan_pick(rows, table, remaining, 1)))
        return remaining[places[-1]]

    assert one_by_one(rows, pick) == [0, 1, 2, 3, 4]
    assert places == [0, 2, 1, 1, 0]
    assert step_of(rows, "bulyan", 1) == pytest.approx(4.0, rel=1e-12)  # a mean of three
    shrunk = sorted(float(rows[place, 0]) for place in places)  # 2, 2, 6, 6, 7
    assert np.mean(sorted(shrunk, key=lambda x: abs(x - 6))[:3]) == pytest.approx(19 / 3)


@pytest.mark.trap("bulyan")
def test_bulyan_breaks_ties_by_the_median_and_not_by_the_first_row() -> None:
    rows = line(0, 1, 4, 6, 8, 9, 11)
    table = oracles.distances(rows)
    first = one_by_one(rows, lambda remaining: slow.least(slow.remaining_scores(table, remaining, 1))[0])
    assert first == [0, 1, 2, 4, 5]
    assert_bulyan(rows, 1, [1, 2, 3, 4, 5], first)


@pytest.mark.trap("bulyan")
def test_bulyan_takes_the_median_of_the_remaining_rows_not_of_all() -> None:
    rows = line(0, 1, 2, 3, 4, 6, 13)
    table, middle = oracles.distances(rows), oracles.median(rows)

    def pick(remaining: list[int]) -> int:
        tied = slow.least(slow.remaining_scores(table, remaining, 1))
        return slow.least({i: oracles.distance(rows[i], middle) for i in tied})[0]

    assert one_by_one(rows, pick) == [0, 1, 2, 3, 4]
    assert_bulyan(rows, 1, [1, 2, 3, 4, 5], [0, 1, 2, 3, 4])


@pytest.mark.trap("bulyan")
@pytest.mark.parametrize(
    ("neighbours", "rows", "right", "wrong"),
    [
        # As many neighbours as at first.
        (lambda r: 4, [[2, 3], [5, 4], [0, 0], [7, 6], [7, 4], [7, 2], [4, 7]], [0, 1, 3, 4, 5], [0, 1, 4, 5, 6]),
        # None at the end, where everybody ties.
        (lambda r: r - 3, [[4, 8], [2, 6], [1, 2], [8, 3], [4, 2], [1, 3], [5, 4]], [1, 3, 4, 5, 6], [1, 2, 4, 5, 6]),
    ],
)
def test_bulyan_counts_as_many_neighbours_as_the_remaining_rows_allow_and_one_at_least(
    neighbours: Callable[[int], int], rows: list[list[float]], right: list[int], wrong: list[int]
) -> None:
    places = np.array(rows, dtype=np.float64)
    table = oracles.distances(places)

    def pick(remaining: list[int]) -> int:
        scores = {i: sum(sorted(table[i, j] ** 2 for j in remaining if j != i)[: neighbours(len(remaining))])
                  for i in remaining}  # fmt: skip
        middle = oracles.median(places[remaining])
        return slow.least({i: oracles.distance(places[i], middle) for i in slow.least(scores)})[0]

    assert one_by_one(places, pick) == wrong
    assert_bulyan(places, 1, right, wrong)


@pytest.mark.trap("bulyan")
def test_bulyan_trims_what_it_selected() -> None:
    rows = np.array([[0.0, 0], [1, 1], [2, 2], [3, 3], [40, 4], [5, 50], [900, 900]])
    marks = marks_of(judged(rows, "bulyan", 1)[0], rows, EXACT)
    assert (marks.sum(axis=0) == 3).all()
    selected = slow.bulyan_selected(rows, 1)
    assert np.abs(step_of(rows, "bulyan", 1) - rows[selected].mean(axis=0)).max() > 0.5


# ---------------------------------------------------------------- subsets


@pytest.mark.oracle("mda")
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.sampled_from(["normal", "whole", "clustered"]))
def test_mda_of_twelve_is_the_best_of_all_subsets(seed: int, f: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 4, size=(12, 3)).astype(np.float64) if kind == "whole" else rng.normal(size=(12, 3))
    if kind == "clustered":
        rows[rng.permutation(12)[:5]] += 4
    assert chosen_by(rows, "mda", f) == slow.mda(rows, f) == slow.mda_of_many(rows, f)


def crowd(kind: str, rng: np.random.Generator) -> Array:
    """Fifty rows: anywhere, in three clusters, or whole numbers of which many repeat."""
    if kind == "duplicated":
        return rng.integers(0, 6, size=(20, 3)).astype(np.float64)[rng.integers(0, 20, size=50)]
    rows = rng.normal(size=(50, 8))
    return rows + 6 * rng.integers(0, 3, size=(50, 1)) if kind == "clustered" else rows


@pytest.mark.trap("mda")
@pytest.mark.parametrize("kind", ["random", "clustered", "duplicated"])
@pytest.mark.parametrize("seed", range(4))
def test_mda_of_fifty_cannot_be_improved_by_a_swap_nor_at_all(kind: str, seed: int) -> None:
    rows = crowd(kind, np.random.default_rng(seed))
    kept = chosen_by(rows, "mda", 15)
    assert len(kept) == 35
    table = oracles.distances(rows)
    reach = table[np.ix_(kept, kept)].max()
    for out, into in itertools.product(kept, set(range(50)) - set(kept)):
        swapped = [i for i in kept if i != out] + [into]
        assert table[np.ix_(swapped, swapped)].max() >= reach
    assert kept == slow.mda_of_many(rows, 15)


@pytest.mark.trap("mda")
def test_mda_takes_the_first_of_subsets_of_equal_diameter() -> None:
    assert chosen_by(line(9, 0, 1, 3, 4), "mda", 2) == [1, 2, 3]  # 0, 1, 3 before 1, 3, 4
    # A diameter of 4 leaves a choice of the rows inside.
    assert chosen_by(line(0, 4, 2, 1, 3, 90, 91), "mda", 3) == [0, 2, 3, 4]
    assert chosen_by(line(0, 4, 0, 4, 0), "mda", 2) == [0, 2, 4]


def first_by(score: Callable[[list[int]], float], n: int, f: int) -> list[int]:
    scores = [round(score(list(subset)), 9) for subset in slow.subsets(n, f)]
    return list(slow.subsets(n, f)[int(np.argmin(scores))])


@pytest.mark.trap("mda")
def test_mda_measures_the_longest_distance_not_their_sum() -> None:
    rows = line(1, 8, 11, 12, 17, 19)
    assert chosen_by(rows, "mda", 2) == [2, 3, 4, 5]  # 11 to 19; 8 to 17 is longer
    table = oracles.distances(rows)
    assert first_by(lambda each: float(table[np.ix_(each, each)].sum()), 6, 2) == [1, 2, 3, 4]


@pytest.mark.trap("smea")
def test_smea_centres_each_subset_on_its_own_mean() -> None:
    rows = np.array([[2.0, 0], [1, 7], [3, 6], [4, 7], [7, 2], [4, 1]])
    assert chosen_by(rows, "smea", 2) == [0, 2, 4, 5]
    centred = rows - rows.mean(axis=0)
    assert first_by(lambda each: float(np.linalg.norm(centred[each], 2)), 6, 2) == [2, 3, 4, 5]


@pytest.mark.trap("smea")
def test_smea_takes_the_top_eigenvalue_not_the_trace() -> None:
    rows = np.array([[2.0, 2], [6, 5], [4, 1], [3, 4], [7, 3], [0, 7]])
    assert chosen_by(rows, "smea", 2) == [1, 2, 3, 4]
    assert first_by(lambda each: float(rows[each].var(axis=0).sum()), 6, 2) == [0, 1, 2, 3]


@pytest.mark.trap("smea")
def test_smea_searches_all_subsets_unless_told_to_be_greedy() -> None:
    rows = np.array([[2.0, 1], [5, 4], [3, 0], [3, 6], [7, 7], [5, 4]])
    assert chosen_by(rows, "smea", 2) == chosen_by(rows, "smea(search='exact')", 2) == [1, 3, 4, 5]
    assert chosen_by(rows, "smea(search='greedy')", 2) == [0, 1, 3, 5]


@pytest.mark.trap("smea")
def test_smea_knows_that_equal_rows_have_no_spread_whatever_their_mean_rounds_to() -> None:
    rows = np.array([[1.0, 2.0], [0.1, 0.7], [0.3, 0.1], [0.1, 0.7], [0.3, 0.1], [0.1, 0.7], [0.3, 0.1]])
    assert chosen_by(rows, "smea(search='greedy')", 3) in ([1, 2, 3, 5], [2, 4, 5, 6], [1, 3, 5, 6])
    rows = np.array([[5.0, 2.0], [0.1, 0.7], [0.3, 0.1], [0.1, 0.7], [0.3, 0.1], [0.1, 0.7], [0.1, 0.7]])
    assert chosen_by(rows, "smea", 3) == [1, 3, 5, 6]


# ---------------------------------------------------------------- spectral filters


def filtered(rows: Array, f: int, dead_rows_count: bool = False, give_the_last: bool = False) -> Array:
    """The same filter with one of two mistakes: rows without weight set the scale, or the best is not remembered."""
    n, c, best, kept = len(rows), np.ones(len(rows)), math.inf, np.zeros(len(rows))
    while c.sum() > n - 2 * f:
        mean = c @ rows / c.sum()
        _, singular, right = np.linalg.svd(np.sqrt(c / c.sum())[:, None] * (rows - mean))
        if singular[0] ** 2 < best or give_the_last:
            best, kept = singular[0] ** 2, c / c.sum()
        tau = ((rows - mean) @ right[0]) ** 2
        c = c * np.clip(1 - tau / (tau if dead_rows_count else tau[c > 0]).max(), 0, 1)
    return kept


@pytest.mark.trap("caf")
@pytest.mark.parametrize(
    ("mistake", "places"),
    [
        ({"dead_rows_count": True}, [[4, 8], [7, 6], [4, 6], [1, 0], [7, 6], [4, 3]]),
        ({"give_the_last": True}, [[8, 6], [4, 1], [1, 8], [1, 1], [2, 3], [0, 7]]),
    ],
)
def test_caf_scales_by_rows_that_have_weight_and_returns_the_best_iterate(
    mistake: dict[str, bool], places: list[list[float]]
) -> None:
    rows = np.array(places, dtype=np.float64)
    ours = numbers_of(judged(rows, "caf", 2)[0])
    # Two eigenvectors well apart: nearly all digits of float64 remain.
    assert ours == pytest.approx(filtered(rows, 2), abs=1e-9)
    assert np.abs(filtered(rows, 2, **mistake) - ours).max() > 0.1


@pytest.mark.trap("caf")
@pytest.mark.parametrize("form", [("torch", "float32"), EXACT])
@pytest.mark.parametrize(
    ("places", "expected"),
    [
        # Rows 2 and 4 tie for the longest projection. Were anything left of either, its next projection, 10.8, would
        # set the scale, and not row 3's, 3.9, which leaves row 3 nothing.
        ([[1, -2], [1, -2], [-4, -2], [0, 1], [1, 3], [-1, -1]], [0.3038, 0.3038, 0, 0, 0, 0.3924]),
        # All four corners tie: of a weight of 5 there is left 1, which is n - 2f, so the mean is the answer.
        ([[1, 4], [1, 4], [-3, -4], [5, -4], [-1, 0]], [0.2, 0.2, 0.2, 0.2, 0.2]),
    ],
)
def test_caf_leaves_nothing_to_rows_that_tie_for_the_longest_projection(
    form: Form, places: list[list[float]], expected: list[float]
) -> None:
    weights = numbers_of(judged(np.array(places, dtype=np.float64), "caf", 2, form)[0])
    assert weights == pytest.approx(expected, abs=1e-4)  # as many digits as are written here


@pytest.mark.trap("caf")
def test_caf_does_not_depend_on_the_order_of_rows_of_which_some_are_equal() -> None:
    """As colluding clients may well send."""
    for seed in range(60, 100):
        rng = np.random.default_rng(seed)
        rows = rng.normal(size=(20, 8))
        rows[14:] = rows[:14].mean(axis=0) - rng.choice([0.5, 1, 2, 3]) * rows[:14].std(axis=0, ddof=1)
        order = rng.permutation(20)
        ours, others = (numbers_of(judged(each, "caf", 6)[0]) for each in (rows, rows[order]))
        # Nearly all digits of float64 remain; nothing here is close to a tie but the equal rows.
        assert others == pytest.approx(ours[order], abs=1e-6), seed


@pytest.mark.trap("caf")
def test_caf_gives_weights_between_none_and_all() -> None:
    rows = np.vstack([np.random.default_rng(0).normal(size=(8, 3)), [[50.0, 0, 0], [0, 60.0, 0]]])
    weights = numbers_of(judged(rows, "caf", 3)[0])
    assert (weights[8:] == 0).all()
    assert len(np.unique(weights[:8].round(6))) > 2


@pytest.mark.trap("dnc")
def test_dnc_projects_on_the_first_row_of_vh_and_squares() -> None:
    rows = np.array([[8.0, 7, 5], [6, 7, 8], [5, 4, 5], [8, 4, 8], [0, 2, 5], [6, 8, 4]])
    assert chosen_by(rows, "dnc", 2) == slow.dnc(rows, 2) == [1, 2, 3, 5]
    centred = rows - rows.mean(axis=0)
    right = np.linalg.svd(centred)[2]
    assert oracles.lowest((centred @ right[:, 0]) ** 2, 4) == [0, 1, 2, 5]  # a column of Vh
    assert oracles.lowest(centred @ right[0], 4) != [1, 2, 3, 5] != oracles.lowest(-centred @ right[0], 4)
    assert oracles.lowest((rows @ right[0]) ** 2, 4) == [1, 2, 3, 4]  # not centred


@pytest.mark.trap("dnc")
@pytest.mark.parametrize(("removed", "f", "left"), [(1.0, 3, 7), (1.5, 3, 6), (0.5, 3, 9), (0.5, 1, 10), (0.0, 3, 10)])
def test_dnc_drops_a_multiple_of_the_bound_rounded_down(removed: float, f: int, left: int) -> None:
    rows = np.random.default_rng(3).normal(size=(10, 5))
    kept = chosen_by(rows, f"dnc(removed={removed})", f)
    assert (len(kept), kept) == (left, slow.dnc(rows, f, removed))


def one_suspect_a_column(d: int) -> Array:
    """Column `j` alone is conspicuous in row `j`, so which row is dropped tells which column was looked at."""
    return np.random.default_rng(0).uniform(-0.1, 0.1, size=(d, d)) + 5 * np.eye(d)


def dropped_by(spec: str, rows: Array, seed: int) -> set[int]:
    return set(range(len(rows))) - set(chosen_by(rows, spec, 1, seed=seed))


@pytest.mark.trap("dnc")
def test_dnc_looks_at_random_columns_anew_in_every_iteration() -> None:
    rows = one_suspect_a_column(9)
    looked = [dropped_by("dnc(coordinates=1)", rows, seed) for seed in range(60)]
    assert all(len(each) == 1 for each in looked)
    assert set().union(*looked) == set(range(9))
    twice = [dropped_by("dnc(coordinates=1,iterations=2)", rows, seed) for seed in range(30)]
    # What any iteration drops is dropped: two rows but where both looked at the same column, one time in nine.
    assert {len(each) for each in twice} == {1, 2}
    assert sum(len(each) == 2 for each in twice) > 15


@pytest.mark.trap("dnc")
def test_dnc_that_dropped_everybody_keeps_what_its_last_iteration_kept() -> None:
    rows = one_suspect_a_column(5)
    assert {len(dropped_by("dnc(coordinates=1,iterations=60)", rows, seed)) for seed in range(4)} == {1}


@pytest.mark.trap("dnc")
def test_dnc_draws_columns_without_replacement() -> None:
    """With one column left out of three, two suspects that are conspicuous together stay visible in each pair."""
    rows = np.random.default_rng(1).uniform(-0.1, 0.1, size=(7, 3))
    rows[[2, 5, 6]] += 5 * np.eye(3)
    pairs = [slow.dnc(rows[:, list(pair)], 2) for pair in itertools.combinations(range(3), 2)]
    found = [chosen_by(rows, "dnc(coordinates=2)", 2, seed=seed) for seed in range(40)]
    assert all(kept in pairs for kept in found)
    assert all(kept in found for kept in pairs)


@pytest.mark.trap("dnc")
def test_dnc_of_all_columns_or_more_leaves_nothing_to_chance() -> None:
    rows = np.random.default_rng(4).normal(size=(9, 6))
    for spec in ("dnc", "dnc(coordinates=6)", "dnc(coordinates=7,iterations=4)"):
        assert {tuple(chosen_by(rows, spec, 3, seed=seed)) for seed in range(5)} == {tuple(slow.dnc(rows, 3))}


# ---------------------------------------------------------------- moving centres


@pytest.mark.trap("geometric_median")
def test_geometric_median_starts_from_the_mean_and_not_from_zero() -> None:
    rows = line(10, 11, 12, 51)  # the mean is 21
    pulls = 1 / np.array([11.0, 10.0, 9.0, 30.0])
    weights = numbers_of(judged(rows, "geometric_median(steps=1)", 1)[0])
    assert weights == pytest.approx(pulls / pulls.sum(), rel=1e-9)
    from_zero = 1 / rows[:, 0]
    assert np.abs(from_zero / from_zero.sum() - weights).max() > 0.03


@pytest.mark.trap("geometric_median")
def test_geometric_median_with_a_radius_starts_from_zero_and_counts_smaller_distances_as_the_radius() -> None:
    rows = line(0.25, 2, 4)
    weights = numbers_of(judged(rows, "geometric_median(steps=1,nu=0.5)", 1)[0])
    assert weights == pytest.approx(np.array([2, 0.5, 0.25]) / 2.75, rel=1e-12)


@pytest.mark.trap("geometric_median")
@pytest.mark.parametrize("exponent", [-40, -20, 0, 20, 40])
def test_geometric_median_smooths_relative_to_the_distances(exponent: int) -> None:
    """The middle row lies on the mean, where its distance is replaced by a millionth of the median one."""
    rows = line(-2, -1, 0, 1, 2) * 2.0**exponent
    weights = numbers_of(judged(rows, "geometric_median(steps=1)", 2)[0])
    expected = np.array([0.5, 1, 1e6, 1, 0.5])
    assert weights == pytest.approx(expected / expected.sum(), rel=1e-6)


def forged(n: int, d: int, share: float, scale: float = 1.0) -> Array:
    """Normal rows, of which this share are replaced by one row, `scale` times away."""
    rng = np.random.default_rng(n)
    rows = rng.normal(size=(n, d))
    rows[: round(share * n)] = scale * (3 + rng.normal(size=d))
    return rows


def far(n: int, d: int, count: int, scale: float) -> Array:
    """Normal rows, of which some are `scale` times as long."""
    rows = np.random.default_rng(n).normal(size=(n, d))
    rows[:count] *= scale
    return rows


HARD = {
    "44% forged": forged(50, 20, 0.44),
    "48% forged": forged(50, 20, 0.48),
    "49% forged": forged(100, 3, 0.49),
    "49% forged in more dimensions": forged(50, 40, 0.49),
    "49% forged, a million times as far": forged(100, 3, 0.49, 1e6),
    "one far": far(9, 40, 1, 1e6),
    "four of nine far": far(9, 40, 4, 1e6),
    "shifted": 1e4 + far(9, 4, 0, 1.0),
    "small": 1e-20 * far(9, 4, 1, 100.0),
    "nearly a line": np.outer(np.arange(9.0), np.ones(4)) + 1e-3 * far(9, 4, 0, 1.0),
    "two groups": np.concatenate([far(7, 4, 0, 1.0) * 1e-3, 1 + far(8, 4, 0, 1.0) * 1e-3]),
    "beside a row": np.array([[0.0, 0], [0, 0], [1, 0], [0, 1], [-1, 1e-3], [1, 1e-3]]),
}


@pytest.mark.trap("geometric_median")
@pytest.mark.parametrize("rows", HARD.values(), ids=HARD)
def test_geometric_median_has_the_least_sum_of_distances(rows: Array) -> None:
    """At 49% forged, 100 of Weiszfeld's steps from the mean end a tenth of the median distance away."""
    moved = rows - rows[-1]
    point = weighed(judged(rows, "geometric_median", 1)[0]) @ moved
    # The gradient is at most 1e-9, and the certificate twice its length; distances add their rounding.
    assert slow.excess(moved, point) <= 1e-8
    assert slow.total_distance(moved, point) <= lowest_found(moved) * (1 + 1e-12)


def lowest_found(rows: Array) -> float:
    """The least sum of distances that a search without derivatives finds from the best row."""
    best = min(rows, key=lambda row: slow.total_distance(rows, row))
    total = slow.total_distance(rows, best)

    def relative(at: Array) -> float:
        return slow.total_distance(rows, at * total) / total

    return total * float(minimize(relative, best / total, method="Powell").fun)


@pytest.mark.trap("geometric_median")
@pytest.mark.parametrize("rows", HARD.values(), ids=HARD)
def test_geometric_median_of_single_precision_is_off_by_its_distances(rows: Array) -> None:
    single = rows.astype(np.float32).astype(np.float64)
    weights = weighed(judged(single, "geometric_median", 1, ("torch", "float32"))[0])
    moved = single - single[-1]
    assert slow.excess(moved, weights @ moved) <= 20 * SLACK["float32"]


@pytest.mark.trap("geometric_median")
def test_three_and_eight_steps_stop_before_the_pulls_balance() -> None:
    rows = np.random.default_rng(0).normal(size=(9, 4))
    rows[0] *= 100
    shares = [1 / 9] * 9
    # A gradient of 1e-9 ends the search, and the last mean shortens it further.
    assert slow.unbalanced(rows, step_of(rows, "geometric_median", 4), shares) < 1e-9
    assert slow.unbalanced(rows, step_of(rows, "geometric_median(steps=3)", 4), shares) > 1e-3
    assert slow.unbalanced(rows, step_of(rows, "geometric_median(steps=8)", 4), shares) > 1e-5


@pytest.mark.trap("geometric_median")
def test_geometric_median_does_not_depend_on_the_bound() -> None:
    rows = np.random.default_rng(0).normal(size=(9, 4))
    assert (step_of(rows, "geometric_median", 4) == step_of(rows, "geometric_median", 0)).all()


@pytest.mark.trap("geometric_median")
@pytest.mark.parametrize(
    ("rows", "at"),
    [
        (line(7, 7, 7, 7, -90, 1000), 0),
        (line(0, 0, 0, 5), 0),
        (line(3, 3, 3, 3, 3), 0),
        (line(5, -1, 2, 900, 0), 2),
        # Four corners of a square and its centre.
        (np.array([[1.0, 1], [1, -1], [0, 0], [-1, 1], [-1, -1]]), 2),
        # The pulls of three rows at right angles add up to 1.73, less than the two rows in the corner.
        (np.array([[1.0, 0, 0], [0, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 1]]), 1),
    ],
)
@pytest.mark.parametrize("form", [("numpy", "float64"), ("torch", "float32")])
def test_geometric_median_may_be_one_of_the_rows(rows: Array, at: int, form: Form) -> None:
    weights = numbers_of(judged(rows, "geometric_median", 1, form)[0])
    assert weights[(rows != rows[at]).any(axis=1)].tolist() == [0.0] * int((rows != rows[at]).any(axis=1).sum())
    assert weights.sum() == pytest.approx(1, rel=1e-6)  # a few rounded shares


@pytest.mark.trap("geometric_median")
def test_geometric_median_of_an_even_number_on_a_line_is_between_the_middle_two() -> None:
    along = np.array([3.0, -4, 12])
    for places, middle in (([0, 1, 2, 10], 1.5), ([5, -3], 1.0), ([0, 1, 1, 2, 2, 7], 1.5)):
        rows = np.outer(places, along)
        assert step_of(rows, "geometric_median", 0) == pytest.approx(middle * along, rel=1e-12)
    assert step_of(np.outer([0, 1, 1, 1, 2, 3, 4, 5], along), "geometric_median", 0) == pytest.approx(1.25 * along)


@pytest.mark.trap("centered_clipping")
def test_centered_clipping_clips_to_the_mean_of_the_two_middle_distances() -> None:
    rows = line(1, 2, 3, 100)  # from 0, by a radius of 2.5: 1 + 2 + 2.5 + 2.5; the lower middle would give 1.75
    assert step_of(rows, "centered_clipping", 1) == pytest.approx(2.0, rel=1e-9)


@pytest.mark.trap("centered_clipping")
def test_centered_clipping_measures_its_radius_again_at_every_step() -> None:
    rows = line(1, 2, 3, 100)  # at 2 the distances are 1, 0, 1, 98; by the first radius it would reach 2.625
    assert step_of(rows, "centered_clipping(steps=2)", 1) == pytest.approx(2.25, rel=1e-9)


@pytest.mark.trap("centered_clipping")
def test_centered_clipping_starts_from_the_last_step() -> None:
    rows = line(9, 10, 12, 100)  # from 10: 1, 0, 2, 90, and a radius of 1.5
    verdict, step = judged(rows, "centered_clipping", 1, previous=np.array([10.0]))
    factors = np.array([1, 1, 0.75, 1.5 / 90])
    assert numbers_of(verdict) == pytest.approx(factors / 4, rel=1e-9)
    assert verdict.previous == pytest.approx(1 - factors.mean(), rel=1e-9)
    assert step == pytest.approx(10.5, rel=1e-9)
    assert np.abs(step_of(rows, "centered_clipping", 1) - step) > 0.2


@pytest.mark.trap("centered_clipping")
def test_centered_clipping_is_not_the_mean_unless_the_radius_is_large() -> None:
    rows = line(1, 2, 3, 100)
    assert step_of(rows, "centered_clipping(tau=10)", 1) == pytest.approx(4.0, rel=1e-9)  # 1 + 2 + 3 + 10
    assert step_of(rows, "centered_clipping(tau=1000)", 1) == pytest.approx(rows.mean(), rel=1e-9)
    assert step_of(rows, "centered_clipping", 1) < 3


@pytest.mark.trap("centered_clipping")
def test_centered_clipping_lets_a_row_at_the_centre_stay_there() -> None:
    verdict, step = judged(line(0, 0, 0, 5), "centered_clipping", 1)
    assert numbers_of(verdict).tolist() == [0.25, 0.25, 0.25, 0]
    assert (verdict.previous, step.tolist()) == (0.25, [0.0])
    assert step_of(line(0, 0, 0, 5), "centered_clipping(tau=1)", 1) == pytest.approx(0.25, rel=1e-9)


@pytest.mark.trap("centered_clipping")
def test_amplified_centered_clipping_measures_from_the_last_step_as_seen() -> None:
    rows, previous = np.array([[4.0, 1], [5, 0], [2, -7], [1, 1]]), np.array([3.0, -4])
    # Seen: 4, 5, 2, 1 from 3, so the radius is 1.5 and the factors are 1, 3/4, 1, 3/4.
    verdict, step = judged(rows, "amp+centered_clipping", 1, layout=[(2,)], previous=previous)
    assert numbers_of(verdict) == pytest.approx(np.array([1, 0.75, 1, 0.75]) / 4, rel=1e-9)
    assert step == pytest.approx([3.0, -1.8125], rel=1e-9)


def judge(spec: str, shapes: Shapes) -> Judge:
    layers = Layout.read(shapes, oracles.parameters(shapes))
    return Judge(Registry(()).stack(spec), layers, partial(generator, 0))


@pytest.mark.trap("centered_clipping")
@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("tau", ["'median'", "2.0"])
@pytest.mark.parametrize("amplified", [False, True])
def test_centered_clipping_moves_on_from_round_to_round(steps: int, tau: str, amplified: bool) -> None:
    shapes, rng = [(3, 4), (4,)], np.random.default_rng(steps)
    court = judge(f"{'amp+' if amplified else ''}centered_clipping(tau={tau},steps={steps})", shapes)
    last, expected = torch.zeros(16, dtype=torch.float64), np.zeros(16)
    for number in range(1, 6):
        rows = 3 + rng.normal(size=(7, 16))
        rows[6] = -40
        view = oracles.pooled_rows(rows, shapes, 2) if amplified else rows
        seen = oracles.pooled(expected, shapes, 2) if amplified else expected
        radius: float | str = "median" if tau == "'median'" else float(tau)
        weights, share, _ = slow.clipped_towards(view, seen, radius, steps)
        expected = weights @ rows + share * expected
        last = court.step(torch.from_numpy(rows), 1, Server(previous=last.clone), number).step
        # Every round builds on the one before; none of them loses more than a few digits.
        assert last.numpy() == pytest.approx(expected, abs=1e-8)


@pytest.mark.trap("geometric_median")
@pytest.mark.parametrize("spec", ["geometric_median", "amp+geometric_median", "geometric_median(steps=3)"])
def test_geometric_median_begins_every_round_anew(spec: str) -> None:
    shapes, rng = [(3, 4), (4,)], np.random.default_rng(7)
    court, last = judge(spec, shapes), torch.zeros(16, dtype=torch.float64)
    for number in range(1, 5):
        rows = torch.from_numpy(rng.normal(size=(7, 16)))
        alone = judge(spec, shapes).step(rows, 2, Server(previous=lambda: torch.zeros(16)), number).step
        last = court.step(rows, 2, Server(previous=last.clone), number).step
        assert torch.equal(last, alone)


@pytest.mark.trap("monna")
def test_monna_measures_from_the_servers_own_update_and_not_among_the_rows() -> None:
    rows = line(0, 1, 2, 50, 51)
    assert chosen_by(rows, "monna", 2, root=np.array([49.0])) == [2, 3, 4]
    assert chosen_by(rows, "monna", 2, root=np.array([-1.0])) == [0, 1, 2]


@pytest.mark.trap("monna")
def test_amplified_monna_sees_the_servers_own_update_pooled() -> None:
    rows = np.array([[5.0, -9], [0, 5], [1, 1], [-7, -8], [4, 4]])
    # Seen: 5, 5, 1, -7, 4 from 5; unseen, row 2 is nearer to (5, 5) than row 0.
    assert chosen_by(rows, "amp+monna", 2, layout=[(2,)], root=np.array([5.0, 5])) == [0, 1, 4]
    assert chosen_by(rows, "monna", 2, root=np.array([5.0, 5])) == [1, 2, 4]
