"""Min-sum at its bound, and the search through a whole stack: where it looks, what it sends, what it leaves alone."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

import agrbench
from agrbench import Cell, Layout
from agrbench.clients.insider import Insider
from agrbench.clients.insider import forge as ask
from agrbench.errors import AgrbenchError, Inapplicable, SpecError
from agrbench.plugins.registry import Registry
from agrbench.randomness import generator
from agrbench.results.record import curves
from agrbench.results.store import Store
from agrbench.simulation.grid import plan
from tests.helpers import oracles, plugins
from tests.helpers import oracles_attacks as slow
from tests.helpers.forging import forge
from tests.helpers.oracles import Array, Shapes
from tests.helpers.updates import EPS, EXACT, FORMS, Form
from tests.helpers.updates import normal32 as normal

REGISTRY = Registry(())
DIRECTIONS = ["std", "sign", "unit"]
MIN_SUM = {"std": "min_sum", "sign": "min_sum(direction='sign')", "unit": "min_sum(direction='unit')"}
Answer = Callable[[Array], Array]


# ---------------------------------------------------------------- min-sum


def own_rounding(honest: Array) -> float:
    """The room for the rounding of a row itself, which is a share of the updates' size and not of their spread."""
    return float(8 * EPS * np.abs(honest).max() * honest.shape[1] ** 0.5)


@pytest.mark.oracle("min_sum")
@pytest.mark.parametrize("direction", DIRECTIONS)
@given(oracles.updates(), st.integers(1, 5))
def test_min_sum_touches_the_largest_sum_of_an_honest_row_and_never_exceeds_it(
    direction: str, honest: Array, malicious: int
) -> None:
    rows = forge(MIN_SUM[direction], honest, malicious)
    assert (rows == rows[0]).all()
    bound, reached = max(slow.sum_to_all(g, honest) for g in honest), slow.sum_to_all(rows[0], honest)
    # The square root, so that a row's rounding adds to it at most as often as there are honest rows.
    rounding = len(honest) * own_rounding(honest)
    assert math.sqrt(reached) <= math.sqrt(bound) * (1 + 1e-9) + rounding
    if oracles.norm(oracles.directions(honest)[direction]) > 0 and rounding < 1e-9 * math.sqrt(bound):
        # gamma is a root of a difference, which keeps half of the digits.
        assert reached >= bound * (1 - 1e-6)


@pytest.mark.trap("min_sum")
@pytest.mark.parametrize("direction", DIRECTIONS)
@given(oracles.updates((2, 12)), FORMS)
def test_min_sum_is_as_far_from_the_mean_as_the_furthest_honest_row(direction: str, honest: Array, form: Form) -> None:
    mean, diameter = honest.mean(axis=0), oracles.diameter(honest)
    p = oracles.directions(honest)[direction]
    assume(diameter > 1e-6 * np.abs(honest).max())  # below, gamma is made of rounding
    row = forge(MIN_SUM[direction], honest, 1, form)[0]
    expected = slow.min_sum(honest, p)
    # A root of a difference, as above, and one rounding to the form.
    room = 1e-7 * diameter + float(np.finfo(form[1]).eps) * np.abs(expected).max()
    assert np.abs(row - expected).max() <= room
    if oracles.norm(p) > 0:
        furthest = max(oracles.distance(mean, g) for g in honest)
        assert oracles.distance(row, mean) == pytest.approx(furthest, abs=room * len(p) ** 0.5)


@pytest.mark.trap("min_sum")
@pytest.mark.parametrize("direction", DIRECTIONS)
@given(oracles.updates())
def test_min_sum_in_float32_is_the_row_of_float64_rounded_once(direction: str, honest: Array) -> None:
    single, double = (forge(MIN_SUM[direction], honest, 1, ("torch", dtype)) for dtype in ("float32", "float64"))
    assert (single == double.astype(np.float32)).all()


@pytest.mark.trap("min_sum")
def test_min_sum_takes_the_largest_sum_of_squares() -> None:
    """To all three rows the squares add up to 9, 9 and 18, and from the mean 1 to 6, which leaves (18 - 6) / 3."""
    for direction in DIRECTIONS:
        row = forge(MIN_SUM[direction], np.array([[0.0], [0.0], [3.0]]), 2)
        # The smallest sum would give 0, and unsquared distances 1; a root and a quotient.
        assert row == pytest.approx(-1.0, rel=1e-14)


@pytest.mark.trap("min_sum")
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("honest", [[[3.0, -1.0]], [[1.0, -2.0]] * 4, [[0.0, 0.0]] * 3, [[0.1, 0.7]] * 3])
@pytest.mark.parametrize("malicious", [0, 1, 7])
def test_min_sum_of_rows_that_are_alike_is_their_mean(
    direction: str, honest: list[list[float]], malicious: int
) -> None:
    rows = forge(MIN_SUM[direction], np.array(honest), malicious)
    # gamma is 0 but for the rounding of a unit vector and of the mean.
    assert rows == pytest.approx(np.array(honest[:1] * malicious).reshape(malicious, 2), rel=1e-15)


@pytest.mark.trap("min_sum")
@pytest.mark.parametrize("direction", ["sign", "unit"])
def test_min_sum_without_a_direction_is_the_mean(direction: str) -> None:
    honest = np.array([[1.0, 2.0], [-1.0, -2.0]])
    assert forge(MIN_SUM[direction], honest, 1).tolist() == [[0.0, 0.0]]


def test_min_sum_refuses_another_direction_with_the_three_it_has() -> None:
    with pytest.raises(SpecError, match=r"'std', 'sign', 'unit'"):
        forge("min_sum(direction='mean')", np.ones((3, 2)), 1)


# ---------------------------------------------------------------- adaptive: where it looks


class Victim:
    """A stack whose step is any function of the row that all the colluders send; it keeps what it was asked."""

    def __init__(self, honest: Array, malicious: int, answer: Answer) -> None:
        self.honest, self.malicious, self.answer, self.mean = honest, malicious, answer, honest.mean(axis=0)
        self.asked: list[tuple[Array, Array]] = []

    def respond(self, rows: Tensor) -> Tensor:
        assert tuple(rows.shape) == (self.malicious, self.honest.shape[1])
        assert (rows == rows[0]).all()
        row = rows[0].double().numpy().copy()
        self.asked.append((row, self.answer(row)))
        return torch.from_numpy(self.asked[-1][1].copy())

    def attacked(self, options: str, shapes: Shapes) -> Array:
        """Let it be attacked; the row that is sent."""
        updates, width = torch.from_numpy(self.honest.copy()), self.honest.shape[1]
        m, n = self.malicious, len(self.honest) + self.malicious
        insider = Insider(
            malicious=m, clients=n, byzantine=m, layout=Layout.read(shapes, width), number=1, memory={},
            rng=generator(0, "attack", 1), honest=lambda: updates, respond=lambda: self.respond,
        )  # fmt: skip
        rows = ask(REGISTRY.attack(f"adaptive({options})"), insider, width).double().numpy()
        assert (updates.numpy() == self.honest).all()
        assert (rows == rows[0]).all()
        return np.asarray(rows[0])

    def met(self, row: Array) -> tuple[Array, Array]:
        """What was asked nearest to a row, and the step it led to."""
        found = min(self.asked, key=lambda pair: oracles.distance(pair[0], row))
        # gamma is a root of a difference, as for min-max, of rows that may lie a thousand times their spread away.
        room = 1e-6 * (oracles.distance(row, self.mean) + oracles.diameter(self.honest)) + 1e-12 * oracles.norm(row)
        assert oracles.distance(found[0], row) <= room
        return found

    def damage(self, row: Array) -> float:
        step = self.met(row)[1]
        return math.nan if np.isnan(step).any() else oracles.distance(step, self.mean)


def rejecting(mean: Array, limit: float) -> Answer:
    """Take a row in whole up to a distance from the mean, and leave it out beyond."""
    return lambda row: row if oracles.distance(row, mean) <= limit else mean


def clipping(mean: Array, limit: float) -> Answer:
    """Take a row in whole up to a distance from the mean, and answer the same to all that are beyond."""
    return lambda row: row if oracles.distance(row, mean) <= limit else mean + limit


def breaking(mean: Array, limit: float) -> Answer:
    return lambda row: row if oracles.distance(row, mean) <= limit else np.full_like(row, math.nan)


def assert_searched(victim: Victim, shapes: Shapes, kernel: int, evaluations: int) -> None:
    sent = victim.attacked(f"evaluations={evaluations}, kernel={kernel}", shapes)
    lines = slow.adaptive_lines(victim.honest, shapes, kernel)
    visits = [v for line in lines for v in slow.adaptive_visits(line, evaluations, victim.damage)]
    assert len(victim.asked) == len(visits) == len(lines) * evaluations
    best = slow.worst(visits)
    if best is None:
        assert np.isfinite(sent).all()
        assert visits or sent == pytest.approx(victim.mean, rel=1e-12)
        return
    asked, step = victim.met(sent)
    assert (asked == sent).all()
    # One square root, of sums in any order.
    assert victim.damage(sent) >= best.damage * (1 - 1e-12)
    first = next(v for v in visits if (victim.met(v.row)[1] == step).all())
    assert (victim.met(first.row)[0] == sent).all()


@pytest.mark.oracle("adaptive")
@pytest.mark.parametrize("kind", [rejecting, clipping, breaking])
@settings(max_examples=40)
@given(oracles.layouts(), st.data(), st.integers(1, 3), st.integers(1, 20))
def test_adaptive_doubles_while_damage_grows_then_contracts_and_sends_the_worst_row_it_met(
    kind: Callable[[Array, float], Answer], shapes: list[tuple[int, ...]], data: st.DataObject, kernel: int, tries: int
) -> None:
    width = oracles.parameters(shapes)
    honest = data.draw(oracles.updates((1, 8), (width, width)), label="honest")
    diameter, mean = oracles.diameter(honest), honest.mean(axis=0)
    assume(diameter == 0 or diameter > 1e-3 * np.abs(honest).max())  # below, gamma is made of rounding
    limit = (diameter or oracles.norm(mean)) * 2 ** data.draw(st.floats(-1, 22), label="limit")
    answer, malicious = kind(mean, limit), data.draw(st.integers(1, 4), label="malicious")
    # Of damage that is no number from the start nothing can be said to grow.
    firsts = [answer(line.start + line.first * line.p) for line in slow.adaptive_lines(honest, shapes, kernel)]
    assume(not np.isnan(firsts).any() and (kind != breaking or limit > 1.001 * (diameter or oracles.norm(mean))))
    assert_searched(Victim(honest, malicious, answer), shapes, kernel, tries)


STACKS = {
    "fedavg": 3, "median": 3, "krum": 2, "amp+krum": 2, "nnm+trimmed_mean": 3, "bucketing+median": 2, "cosden": 3,
    "amp+cosden": 3, "nnm+krum": 2,
}  # fmt: skip


def answers(honest: Array, stack: str, malicious: int, shapes: Shapes, **more: Any) -> Answer:
    """The step of a stack whose bound is the number of malicious rows."""

    def answer(row: Array) -> Array:
        together = np.concatenate([honest, np.tile(row, (malicious, 1))])
        return agrbench.aggregate(together, stack, malicious, shapes, **more)

    return answer


@pytest.mark.trap("adaptive")
@pytest.mark.parametrize("stack", STACKS)
@settings(max_examples=8)
@given(oracles.layouts(), st.data())
def test_adaptive_searches_through_any_stack_on_any_updates(
    stack: str, shapes: list[tuple[int, ...]], data: st.DataObject
) -> None:
    width, malicious = oracles.parameters(shapes), STACKS[stack]
    honest = data.draw(oracles.updates((7, 9), (width, width)), label="honest")
    diameter = oracles.diameter(honest)
    assume(diameter == 0 or diameter > 1e-3 * np.abs(honest).max())  # below, gamma is made of rounding
    assert_searched(Victim(honest, malicious, answers(honest, stack, malicious, shapes)), shapes, 2, 20)


@pytest.mark.trap("adaptive")
def test_adaptive_contracts_from_the_first_gamma_that_was_too_far_and_not_from_the_last_good_one() -> None:
    """All three lines lead from 2 downwards by 1 at first, and the stack throws out whatever is beyond 5."""
    honest, mean = np.array([[1.0], [3.0]]), np.array([2.0])
    path = [1, 2, 4, 8, 6.4, 5.12, 4.096, 3.2768]
    for evaluations, best in [(1, 1), (2, 2), (3, 4), (4, 4), (6, 4), (7, 4.096), (8, 4.096), (20, 4.096)]:
        victim = Victim(honest, 2, rejecting(mean, 5.0))
        sent = victim.attacked(f"evaluations={evaluations}", [(1,)])
        # Roots and powers in float64, as everywhere below.
        assert sent == pytest.approx(mean - best, rel=1e-12)
        gone = sorted(float(2 - row[0]) for row, _ in victim.asked)
        if evaluations <= 8:
            assert gone == pytest.approx(sorted(path[:evaluations] * 3), rel=1e-12)
        assert len(gone) == 3 * evaluations


@pytest.mark.trap("adaptive")
def test_adaptive_stops_doubling_where_damage_is_no_larger_and_sends_the_first_of_equals() -> None:
    victim = Victim(np.array([[1.0], [3.0]]), 1, lambda row: np.array([7.0]))
    assert victim.attacked("evaluations=4", [(1,)]) == pytest.approx([1.0], rel=1e-12)
    assert sorted(float(2 - row[0]) for row, _ in victim.asked) == pytest.approx(
        sorted([1, 2, 1.6, 1.28] * 3), rel=1e-12
    )


@pytest.mark.trap("adaptive")
def test_adaptive_measures_damage_from_the_honest_mean_and_not_from_nothing() -> None:
    """The further the row is out the smaller is the step, though not the damage."""
    victim = Victim(np.array([[1.0], [3.0]]), 1, lambda row: np.array([2.0 / (3.0 - row[0])]))
    assert victim.attacked("evaluations=5", [(1,)]) == pytest.approx([2.0 - 16], rel=1e-12)


@pytest.mark.trap("adaptive")
def test_adaptive_never_sends_a_row_for_a_damage_that_is_no_number() -> None:
    victim = Victim(np.array([[1.0], [3.0]]), 1, breaking(np.array([2.0]), 3.0))
    assert victim.attacked("evaluations=4", [(1,)]) == pytest.approx([2.0 - 2], rel=1e-12)


@pytest.mark.trap("adaptive")
@pytest.mark.parametrize("kernel", [1, 2, 3])
def test_adaptive_goes_down_the_blind_spot_of_the_kernel_it_supposes(kernel: int) -> None:
    shapes, honest = [(4, 4)], normal(5, 16)
    victim = Victim(honest, 1, lambda row: honest.mean(axis=0))
    victim.attacked(f"evaluations=3, kernel={kernel}", shapes)
    views = [oracles.pooled(row, shapes, kernel) for row, _ in victim.asked]
    mean = oracles.pooled_rows(honest, shapes, kernel).mean(axis=0)
    hidden = [row for (row, _), view in zip(victim.asked, views, strict=True) if view == pytest.approx(mean, abs=1e-12)]
    assert len(victim.asked) == (9 if kernel == 1 else 12)
    assert len(hidden) == (0 if kernel == 1 else 3)
    if hidden:
        # The first step leads as far from the mean view as the honest are apart, and the second twice as far.
        target = slow.blind_spot(honest, shapes, kernel, 0.0)
        gone = [oracles.distance(row, target) / oracles.diameter(honest) for row in hidden]
        assert gone == pytest.approx([1, 2, 1.6], rel=1e-9)


# ---------------------------------------------------------------- adaptive: on real stacks, from outside

SHAPES = [(5, 6), (6,), (6, 2), (2,)]
WIDTH = oracles.parameters(SHAPES)


def adapted(honest: Array, stack: str, malicious: int, form: Form = EXACT, options: str = "", **more: Any) -> Array:
    return forge(f"adaptive({options})", honest, malicious, form, layout=SHAPES, defense=stack, **more)


@pytest.mark.trap("adaptive")
@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("seed", [0, 1])
def test_adaptive_sends_the_worst_row_of_the_search_by_the_whole_stack(stack: str, seed: int) -> None:
    """Where stacks bring randomness, the attackers know it."""
    honest, malicious = 0.2 * seed + normal(10, WIDTH, seed), STACKS[stack]
    answer = answers(honest, stack, malicious, SHAPES, seed=seed)
    visits: list[slow.Visit] = []
    for line in slow.adaptive_lines(honest, SHAPES, 2):
        visits += slow.adaptive_visits(line, 20, lambda row: oracles.distance(answer(row), honest.mean(axis=0)))
    best = slow.worst(visits)
    assert best is not None
    rows = adapted(honest, stack, malicious, rng=seed)
    assert (rows == rows[0]).all()
    # gamma is a root of a difference, here of numbers of one size.
    assert oracles.distance(rows[0], best.row) <= 1e-9 * oracles.norm(best.row)
    assert (rows == adapted(honest, stack, malicious, rng=seed)).all()


@pytest.mark.trap("adaptive")
@pytest.mark.parametrize("stack", [*STACKS, "fltrust", "amp+fltrust", "geometric_median", "centered_clipping"])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_adaptive_does_at_least_the_damage_of_min_max_to_the_same_stack(stack: str, direction: str) -> None:
    malicious = STACKS.get(stack, 3)
    honest = 0.2 + normal(10, WIDTH)
    more = {"root": 0.2 + normal(1, WIDTH, 9)[0]} if "fltrust" in stack else {}
    answer = answers(honest, stack, malicious, SHAPES, **more)
    sent = [
        adapted(honest, stack, malicious, **more),
        forge(f"min_max(direction={direction!r})", honest, malicious),
    ]
    ours, theirs = (oracles.distance(answer(rows[0]), honest.mean(axis=0)) for rows in sent)
    # The first row on the line is min-max's, but for its rounding.
    assert ours >= theirs * (1 - 1e-9)


@pytest.mark.trap("adaptive")
@pytest.mark.parametrize("stack", ["amp+krum", "amp+cosden"])
def test_adaptive_is_unbounded_where_an_amplified_stack_cannot_see(stack: str) -> None:
    honest, malicious = 0.2 + normal(10, WIDTH), STACKS[stack]
    answer = answers(honest, stack, malicious, SHAPES)
    sent = [adapted(honest, stack, malicious), *(forge(f"min_max(direction={d!r})", honest, 1) for d in DIRECTIONS)]
    ours, *theirs = (oracles.distance(answer(rows[0]), honest.mean(axis=0)) for rows in sent)
    assert ours > 1000 * max(theirs)
    view, target = oracles.pooled(sent[0][0], SHAPES, 2), oracles.pooled_rows(honest, SHAPES, 2).mean(axis=0)
    # A mean.
    assert view == pytest.approx(target, abs=1e-12)


@pytest.mark.trap("adaptive")
@pytest.mark.parametrize(
    "stage", ["amp(kernel=3)", "amp(shuffle=True)", "amp(fold='released')", "sample", "amp(shuffle=True)+nnm"]
)
def test_adaptive_finds_the_blind_spot_of_whatever_view_shows_some_entries_only(stage: str) -> None:
    """Not that of `amp(kernel=2)`, which these views show, but for larger patches, whose view hides both."""
    honest = (0.2 + normal(10, WIDTH)).astype(np.float32).astype(np.float64)
    stack = f"{stage}+krum"
    answer, mean = answers(honest, stack, 2, SHAPES), honest.mean(axis=0)
    ours, supposed = adapted(honest, stack, 2)[0], slow.blind_spot(honest, SHAPES, 2, 1e5)
    assert oracles.distance(answer(ours), mean) > 1e4
    assert stage == "amp(kernel=3)" or oracles.distance(answer(supposed), mean) < 100


@pytest.mark.trap("adaptive")
@pytest.mark.parametrize("stage", ["amp(by='magnitude')", "mean_pool"])
def test_adaptive_finds_no_blind_spot_where_every_entry_shows_once_it_is_large(stage: str) -> None:
    honest, stack = 0.2 + normal(10, WIDTH), f"{stage}+krum"
    answer = answers(honest, stack, 2, SHAPES)
    assert oracles.distance(answer(adapted(honest, stack, 2)[0]), honest.mean(axis=0)) < 100


@pytest.mark.trap("adaptive")
@pytest.mark.parametrize("stack", ["amp+krum", "nnm+krum"])
def test_adaptive_attacks_the_whole_stack_and_not_its_rule_alone(stack: str) -> None:
    honest = 0.2 + normal(10, WIDTH)
    whole, rule = (adapted(honest, spec, 2) for spec in (stack, "krum"))
    answer, mean = answers(honest, stack, 2, SHAPES), honest.mean(axis=0)
    assert (whole != rule).any()
    assert oracles.distance(answer(whole[0]), mean) > oracles.distance(answer(rule[0]), mean)


@pytest.mark.trap("adaptive")
def test_adaptive_respects_the_servers_bound_where_it_is_not_the_number_of_malicious_clients() -> None:
    honest = 0.2 + normal(10, WIDTH)
    rows = {bound: adapted(honest, "trimmed_mean", 2, byzantine=bound) for bound in (1, 2, 4)}
    # A bound of 1 leaves one of two copies in the mean, however far it is out.
    assert oracles.norm(rows[1][0]) > 1000 * oracles.norm(rows[2][0])
    assert (rows[2] != rows[4]).any()


@pytest.mark.trap("adaptive")
@pytest.mark.parametrize("form", [EXACT, ("torch", "float32")])
def test_adaptive_of_rows_that_are_alike_goes_by_the_size_of_their_mean(form: Form) -> None:
    for alike in ([[1.0, -2.0, 0.5, 3.0]] * 4, [[1.0, -2.0, 0.5, 3.0]], [[0.1, 0.7, -0.3, 0.2]] * 3):
        honest = np.array(alike).astype(np.float32).astype(np.float64)
        for malicious in (1, 2, 6):
            rows = forge("adaptive", honest, malicious, form, layout=[(4,)], defense="fedavg")
            # Nineteen doublings, beside which the mean view is little.
            assert oracles.distance(rows[0], honest[0]) == pytest.approx(2**19 * oracles.norm(honest[0]), rel=1e-4)


@pytest.mark.trap("adaptive")
@pytest.mark.parametrize("alike", [[[0.1, 0.7, -0.3]] * 3, [[-0.5227484414807474, -0.41306354339189344]] * 11])
def test_adaptive_takes_the_rounding_of_a_mean_for_no_distance(alike: list[list[float]]) -> None:
    """Rows that are equal have a mean that is not quite theirs; the first gamma is still that of their size."""
    honest = np.array(alike)
    victim = Victim(honest, 1, lambda row: honest[0])
    victim.attacked("evaluations=1, kernel=1", [(honest.shape[1],)])
    gone = [oracles.distance(row, honest[0]) / oracles.norm(honest[0]) for row, _ in victim.asked]
    # The mean's rounding, and a root's.
    assert gone == pytest.approx([1, 1], rel=1e-12)


@pytest.mark.trap("adaptive")
@pytest.mark.parametrize("form", [EXACT, ("numpy", "float32")])
@pytest.mark.parametrize("honest", [1, 4])
def test_adaptive_sends_the_mean_where_no_line_leads_anywhere(honest: int, form: Form) -> None:
    for malicious in (0, 1, 5):
        rows = forge("adaptive", np.zeros((honest, 3)), malicious, form, layout=[(3,)], defense="fedavg")
        assert (rows == 0).all()
    victim = Victim(np.zeros((honest, 3)), 1, lambda row: row)
    assert victim.attacked("", [(3,)]).tolist() == [0, 0, 0]
    assert not victim.asked


@pytest.mark.trap("adaptive")
def test_adaptive_in_float32_computes_in_float64() -> None:
    """Averaging takes any row, so that every line doubles to its end, and the furthest is sent."""
    honest = normal(10, WIDTH)
    visits: list[slow.Visit] = []
    for line in slow.adaptive_lines(honest, SHAPES, 2):
        visits += slow.adaptive_visits(line, 20, lambda row: oracles.distance(row, honest.mean(axis=0)))
    furthest = max(visits, key=lambda visit: visit.damage).row
    # Half a unit of the last place: the one rounding is the last.
    assert adapted(honest, "fedavg", 3, ("torch", "float32"))[0] == pytest.approx(furthest, rel=0.51 * 2**-23)


@pytest.mark.trap("adaptive")
@pytest.mark.parametrize("stack", ["krum", "amp+cosden"])
@pytest.mark.parametrize("form", [EXACT, ("numpy", "float32"), ("torch", "float32"), ("torch", "float64")])
def test_adaptive_sends_finite_rows_in_the_form_of_the_honest_ones(stack: str, form: Form) -> None:
    for malicious in (0, 1, 3):
        assert np.isfinite(adapted(normal(10, WIDTH), stack, malicious, form)).all()


@pytest.mark.parametrize(("given_too", "keyword"), [({"defense": "krum"}, "layout"), ({"layout": SHAPES}, "defense")])
def test_adaptive_names_what_is_missing_by_the_keyword_to_pass(given_too: dict[str, Any], keyword: str) -> None:
    with pytest.raises(AgrbenchError, match=f"pass {keyword}="):
        agrbench.forge("adaptive", normal(8, WIDTH), 2, **given_too)


@pytest.mark.parametrize("evaluations", [0, -3])
def test_adaptive_without_an_evaluation_is_refused(evaluations: int) -> None:
    with pytest.raises(AgrbenchError, match="evaluations"):
        adapted(normal(8, WIDTH), "krum", 2, options=f"evaluations={evaluations}")


# ---------------------------------------------------------------- adaptive: in a run


@pytest.mark.parametrize("stack", ["centered_clipping", "foolsgold", "bucketing+median", "nnm+fldetector", "flame"])
def test_a_stack_is_not_changed_by_being_asked(stack: str, tmp_path: Path) -> None:
    file = plugins.write(
        tmp_path,
        "ask_often",
        '''
        """Search through the stack, and behave."""
        from agrbench.attacks.adaptive import adaptive
        from agrbench.plugins import Attack


        def forge(insider):
            assert adaptive(insider, evaluations=3).shape == insider.clean.shape
            return insider.clean


        attack = Attack(forge=forge, rehearses=True)
        ''',
    )
    settings: dict[str, Any] = {"clients": 10, "malicious": 2, "rounds": 14, "start": 10}
    asked, calm = (agrbench.run(Cell("digits", stack, attack, **settings), (file,)) for attack in ("ask_often", "none"))
    for name in ("status", "rounds", "accuracy", "loss", "rejected", "empty_steps"):
        assert curves(asked)[name] == curves(calm)[name]


def test_adaptive_rehearses_and_says_so() -> None:
    record = REGISTRY.attack("adaptive").record
    assert record.rehearses
    assert record.poison is record.trigger is None
    assert not any(REGISTRY.attack(name).record.rehearses for name in ("min_max", "min_sum", "badnets"))


def test_defense_that_is_too_slow_to_rehearse_is_refused_with_its_reason_and_skipped_by_the_grid(
    tmp_path: Path,
) -> None:
    reason = REGISTRY.stack("fedinv").defense.record.waives["rehearsed"]
    with pytest.raises(Inapplicable) as refused:
        adapted(normal(8, WIDTH), "fedinv", 2)
    assert reason in str(refused.value)
    cells = [
        Cell("digits", stack, attack, clients=10) for stack in ("fedinv", "krum") for attack in ("adaptive", "lie")
    ]
    planned = plan(cells, REGISTRY, Store(tmp_path))
    assert list(planned.skips) == cells[:1]
    assert reason in planned.skips[cells[0]]
    assert planned.waiting == tuple(cells[1:])
