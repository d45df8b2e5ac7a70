"""The rules that remember, cluster or invert clients, round after round, against their oracles."""

import copy
import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.cluster import HDBSCAN
from torch import Tensor

import agrbench
from agrbench import Layout, Verdict
from agrbench.errors import AgrbenchError, Inapplicable
from agrbench.plugins.registry import Registry
from agrbench.randomness import generator
from agrbench.server.judge import Judge, Outcome
from agrbench.server.rounds import Server
from tests.helpers import oracles
from tests.helpers import oracles_memory as slow
from tests.helpers.oracles import Array, Shapes
from tests.helpers.updates import EXACT, FORMS, Form, as_given, line, normal, rays

REGISTRY = Registry(())
# The package promises four digits of every distance in float32, and in float64 nine are plenty.
SLACK = {"float32": 1e-4, "float64": 1e-9}
# What a sum of a few dozen products may be off by, in units of the last place, relative to the products.
ULPS = 64


def shares_of(verdict: Verdict) -> Array:
    """Give the weights by row, a 0/1 verdict's as equal shares."""
    weights = verdict.weights
    assert isinstance(weights, Tensor)
    assert weights.ndim == 1
    assert weights.isfinite().all()
    values = weights.double().numpy()
    return values / max(values.sum(), 1) if weights.dtype == torch.bool else values


def weigh(rows: Array, spec: str, f: int = 0, form: Form = EXACT, **more: Any) -> Verdict:
    """Ask for a verdict with everything in one form, and check that nothing of the caller's was changed."""
    given_rows = as_given(rows, form)
    for name in ("model", "previous", "root"):
        if name in more:
            more[name] = as_given(more[name], form)
    before = given_rows.clone() if isinstance(given_rows, Tensor) else given_rows.copy()
    verdict = agrbench.weigh(given_rows, spec, f, **more)
    assert (given_rows == before).all()
    return verdict


def kept_by(rows: Array, spec: str, f: int = 0, form: Form = EXACT, **more: Any) -> list[int]:
    """Give the rows that a 0/1 verdict keeps."""
    weights = weigh(rows, spec, f, form, **more).weights
    assert isinstance(weights, Tensor)
    assert weights.dtype == torch.bool
    return [int(i) for i in weights.nonzero().flatten()]


def step_of(rows: Array, spec: str, f: int = 0, **more: Any) -> Array:
    return np.asarray(agrbench.aggregate(rows, spec, f, **more), dtype=np.float64)


def same(a: object, b: object) -> bool:
    """Compare what a plugin remembers: tensors and plain values, in dicts and lists."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.allclose(a, b, 0, 0, equal_nan=True)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


class Course:
    """A stack over the rounds of a run, each rehearsed before it is played."""

    def __init__(self, spec: str, width: int, layout: Shapes | None = None, dtype: str = "float64") -> None:
        layers = Layout.read([(1, width)] if layout is None else layout, width)
        self.court = Judge(REGISTRY.stack(spec), layers, partial(generator, 0))
        self.dtype, self.number = dtype, 0
        self.previous = np.zeros(width)
        self.excluded: list[int] = []

    def heard(self, rows: Array) -> list[int]:
        return [i for i, row in enumerate(rows) if np.isfinite(row).all() and i not in self.excluded]

    def play(self, rows: Array, f: int = 0, previous: Array | None = None) -> Outcome:
        """Play a round; `previous` stands for the last combined step."""
        self.number += 1
        self.previous = self.previous if previous is None else previous
        updates, last = (torch.from_numpy(values.astype(self.dtype)) for values in (rows, self.previous))
        untouched, server = updates.clone(), Server(previous=lambda: last)
        before = copy.deepcopy(self.court.memories)
        trial = self.court.rehearse().step(updates, f, server, self.number, self.excluded)
        assert same(self.court.memories, before)
        outcome = self.court.step(updates, f, server, self.number, self.excluded)
        assert torch.equal(trial.step, outcome.step)
        assert torch.equal(trial.weights, outcome.weights)
        assert (trial.exclude, trial.empty) == (outcome.exclude, outcome.empty)
        assert torch.equal(updates.nan_to_num(), untouched.nan_to_num())
        heard = self.heard(rows)
        if outcome.empty is None:
            expected = oracles.weighted(outcome.weights.double().numpy()[heard], rows[heard])
            # See ULPS.
            room = ULPS * torch.finfo(updates.dtype).eps * np.abs(rows[heard]).max()
            assert np.abs(outcome.step.double().numpy() - expected).max() <= room
        self.excluded = sorted({*self.excluded, *outcome.exclude})
        self.previous = outcome.step.double().numpy()
        return outcome


# ---------------------------------------------------------------- flame


def assert_admitted(admitted: set[int], distances: Array, dtype: str) -> None:
    """Check that the admitted are the first majority to be connected, at distances that are off by rounding."""
    # Differences of float32 rows keep four digits; cosines in float64 are right to a few units of the last place.
    share, room = 10 * SLACK[dtype], 1e-14
    threshold, _ = slow.majority(distances)
    assert len(admitted) > len(distances) // 2
    assert any(admitted <= part for part in slow.components(distances, threshold * (1 + 3 * share) + 3 * room))
    for part in slow.components(distances, threshold * (1 - 3 * share) - 3 * room):
        assert part <= admitted or not part & admitted


def check_flame(
    rows: Array, seen: Array, model: Array, seen_model: Array, f: int, form: Form, spec: str, **more: Any
) -> None:
    verdict = weigh(rows, spec, f, form, model=model, **more)
    weights, norms = shares_of(verdict), np.array([oracles.norm(row) for row in rows])
    limit = slow.middle(norms)
    # A square root and a sum in the number format of the rows.
    close = ULPS * float(np.finfo(form[1]).eps)
    assert verdict.noise == pytest.approx(0.25 * limit, rel=close)
    if limit == 0:
        assert (weights[norms > 0] == 0).all()
        return
    admitted = {int(i) for i in np.flatnonzero(weights)}
    assert_admitted(admitted, slow.model_distances(seen_model + seen), form[1])
    assert weights == pytest.approx(slow.flame_weights(norms, admitted), rel=close)


@st.composite
def global_models(draw: st.DrawFn, rows: Array) -> Array:
    """No model at all, or one from a thousandth to eight thousand times as large as the updates."""
    direction = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).normal(size=rows.shape[1])
    size = draw(st.sampled_from([0.0, *(2.0**k for k in range(-10, 14))]))
    return np.asarray(size * np.abs(rows).max() * direction, dtype=np.float32).astype(np.float64)


@pytest.mark.oracle("flame")
@given(st.data(), FORMS)
def test_flame_admits_the_first_connected_majority_of_local_models(data: st.DataObject, form: Form) -> None:
    rows = data.draw(oracles.updates((2, 12)), label="rows")
    model = data.draw(global_models(rows), label="model")
    f = data.draw(st.integers(0, (len(rows) - 1) // 2), label="f")
    check_flame(rows, rows, model, model, f, form, "flame(noise=0.25)")


@pytest.mark.trap("flame")
@given(st.data(), FORMS)
def test_amplified_flame_adds_pooled_updates_to_the_pooled_model_and_clips_originals(
    data: st.DataObject, form: Form
) -> None:
    shapes, kernel = data.draw(oracles.layouts(), label="layout"), data.draw(st.integers(1, 3), label="kernel")
    width = oracles.parameters(shapes)
    rows = data.draw(oracles.updates((2, 10), (width, width)), label="rows")
    model = data.draw(global_models(rows), label="model")
    seen, seen_model = oracles.pooled_rows(rows, shapes, kernel), oracles.pooled(model, shapes, kernel)
    check_flame(rows, seen, model, seen_model, 0, form, f"amp(kernel={kernel})+flame(noise=0.25)", layout=shapes)


@pytest.mark.trap("flame")
@pytest.mark.parametrize("seed", range(40))
def test_flame_admits_whom_hdbscan_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 25))
    rows = rng.normal(size=(n, 3)) + 2 * rng.normal(size=(3, 3))[rng.integers(0, 3, size=n)]
    if seed % 4 == 0:
        rows = np.round(rows)  # ties
    model = rng.normal(size=3)
    distances = slow.model_distances(model + rows)
    clustering = HDBSCAN(
        min_cluster_size=n // 2 + 1, min_samples=1, allow_single_cluster=True, metric="precomputed", copy=True
    ).fit(distances)
    theirs = {int(i) for i in np.flatnonzero(clustering.labels_ == 0)}
    assert theirs == slow.majority(distances)[1]
    ours = {int(i) for i in np.flatnonzero(shares_of(weigh(rows, "flame", model=model)))}
    assert_admitted(ours, distances, "float64")
    assert ours == theirs or seed % 4 == 0


@pytest.mark.trap("flame")
@pytest.mark.parametrize("form", [("torch", "float32"), ("numpy", "float64")])
@pytest.mark.parametrize("width", [30, 3000])
def test_flame_tells_updates_apart_that_are_tiny_against_the_model(form: Form, width: int) -> None:
    """Models that differ by 1e-4 of their size have cosines within 1e-8 of 1, which float32 does not know from 1."""
    rng = np.random.default_rng(width)
    model, aim, other = rng.normal(size=(3, width))
    model, aim, other = (vector / oracles.norm(vector) for vector in (model, aim, other))
    jitter = rng.normal(size=(11, width)) / np.sqrt(width)
    rows = 1e-4 * (aim + 0.3 * jitter)
    rows[[0, 3, 4, 8]] = 1e-4 * (other + 0.3 * jitter[[0, 3, 4, 8]])
    rows, model = rows.astype(np.float32).astype(np.float64), model.astype(np.float32).astype(np.float64)
    threshold, majority = slow.majority(slow.model_distances(model + rows))
    assert threshold < 1e-8
    assert majority <= {1, 2, 5, 6, 7, 9, 10}
    weights = shares_of(weigh(rows, "flame", 4, form, model=model))
    assert_admitted({int(i) for i in np.flatnonzero(weights)}, slow.model_distances(model + rows), form[1])
    assert (weights[[0, 3, 4, 8]] == 0).all()


@pytest.mark.trap("flame")
def test_flame_compares_models_not_updates() -> None:
    rows, model = np.array([[1.0, 0], [-1, 0], [0.5, 0], [0, 2], [0, 2]]), np.array([10.0, 0.0])
    assert np.flatnonzero(shares_of(weigh(rows, "flame", 2, model=model))).tolist() == [0, 1, 2]
    updates_alone = slow.majority(slow.model_distances(rows))[1]
    assert updates_alone != {0, 1, 2}


@pytest.mark.trap("flame")
def test_flame_admits_the_least_majority_a_chain_of_neighbours_makes() -> None:
    rows = rays(0, 10, 21, 33, 90)  # steps of 10, 11, 12 and 57 degrees: 11 join three of five
    assert np.flatnonzero(shares_of(weigh(rows, "flame", 2, model=np.zeros(2)))).tolist() == [0, 1, 2]


@pytest.mark.trap("flame")
def test_flame_clips_to_the_median_of_all_norms_not_of_the_admitted() -> None:
    rows = np.array([[2.0, 0], [4, 0], [6, 0], [0, 1], [-1, 0]])  # the median of all is 2, of the admitted 4
    verdict = weigh(rows, "flame(noise=0.5)", 2, model=np.zeros(2))
    # Thirds, and exact square roots.
    assert shares_of(verdict) == pytest.approx([1 / 3, 1 / 6, 1 / 9, 0, 0], rel=1e-12)
    assert verdict.noise == pytest.approx(1.0, rel=1e-12)


@pytest.mark.trap("flame")
def test_flame_averages_the_two_middle_norms_of_an_even_number() -> None:
    rows = line(1, 2, 4, 10)  # S = 3
    # Quarters of factors 1, 1, 3/4 and 3/10.
    assert shares_of(weigh(rows, "flame", 1, model=np.zeros(1))) == pytest.approx([0.25, 0.25, 0.1875, 0.075])


@pytest.mark.trap("flame")
def test_amplified_flame_pools_the_model_apart_from_the_update() -> None:
    model, shapes = np.array([0.0, 10.0, 10.0]), [(2,), (1,)]
    rows = np.array([[9.0, 0, 5], [9, 0, 5], [0, 9, 5], [9, 0, 0], [9, 0, 0]])
    weights = shares_of(weigh(rows, "amp+flame", 2, layout=shapes, model=model))
    assert np.flatnonzero(weights).tolist() == [0, 1, 2]  # all three at (19, 15), the others at (19, 10)
    together = oracles.pooled_rows(model + rows, shapes, 2)  # (10, 15) twice, (19, 15), (10, 10) twice
    assert slow.majority(slow.model_distances(together))[1] == {2, 3, 4}


@pytest.mark.trap("flame")
def test_flame_gives_a_model_of_zero_the_cosine_zero_to_all() -> None:
    model = np.array([3.0, 4.0])
    rows = np.array([-model, model, 2 * model, -2 * model, -3 * model])  # models 0, 2m, 3m, -m, -2m
    assert len(np.flatnonzero(shares_of(weigh(rows, "flame", 2, model=model)))) == 5
    rows = np.array([-model, model, 2 * model, 0 * model, -3 * model])
    assert np.flatnonzero(shares_of(weigh(rows, "flame", 2, model=model))).tolist() == [1, 2, 3]


@pytest.mark.trap("flame")
def test_flame_adds_noise_of_its_share_of_the_median_norm_to_the_step() -> None:
    rows, model = normal(7, 5, 1), normal(1, 5, 2)[0]
    limit = float(np.median(np.linalg.norm(rows, axis=1)))
    quiet, loud = (step_of(rows, f"flame(noise={noise})", 2, model=model) for noise in (0.0, 0.3))
    noise = torch.randn(5, generator=generator(0, "noise", 1), dtype=torch.float64).numpy()
    # A sum of seven products and one more.
    assert loud - quiet == pytest.approx(0.3 * limit * noise, rel=1e-9)
    assert weigh(rows, "flame", 2, model=model).noise == pytest.approx(0.001 * limit, rel=1e-12)
    assert weigh(rows, "flame(noise=0.0)", 2, model=model).noise == 0


@pytest.mark.trap("flame")
@pytest.mark.parametrize("form", [("torch", "float32"), ("numpy", "float64")])
def test_flame_leaves_zero_updates_at_factor_one(form: Form) -> None:
    rows = np.array([[0.0, 0], [0, 0], [0, 0], [1, 0], [0, 5]])
    weights = shares_of(weigh(rows, "flame", 1, form, model=np.array([1.0, 0])))
    assert weights[:3] == pytest.approx(1 / 4, rel=1e-6)  # row 3 points where the model does, and is clipped to 0
    assert weights[3:].tolist() == [0, 0]
    everywhere = weigh(np.zeros((3, 2)), "flame", 1, form, model=np.zeros(2))
    # Nothing to clip: thirds, in float32.
    assert shares_of(everywhere) == pytest.approx(1 / 3, rel=1e-6)
    assert everywhere.noise == 0


# ---------------------------------------------------------------- foolsgold


@st.composite
def sybil_rounds(draw: st.DrawFn, width: int) -> list[Array]:
    """Rounds of updates of up to seven clients along a few directions; now and then a row is not finite."""
    n, length = draw(st.integers(1, 7)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    aims, apart = rng.normal(size=(3, width)), rng.normal(size=(n, width))
    of, own = rng.integers(0, 3, size=n), rng.choice([0.0, 0.1, 1.0, 5.0], size=(n, 1))
    played = []
    for _ in range(length):
        rows = aims[of] + own * apart + draw(st.sampled_from([0.0, 0.3])) * rng.normal(size=(n, width))
        rows = (rows * 2.0 ** draw(st.integers(-3, 3))).astype(np.float32).astype(np.float64)
        if draw(st.integers(0, 3)) == 0:
            rows[rng.integers(n), rng.integers(width)] = rng.choice([np.nan, np.inf])
        played.append(rows)
    return played


@pytest.mark.oracle("foolsgold")
@pytest.mark.parametrize("combine", ["mean", "sum"])
@pytest.mark.parametrize("amplified", [False, True])
@given(st.data(), st.sampled_from(["float32", "float64"]))
def test_foolsgold_weighs_by_cosines_of_histories_round_after_round(
    amplified: bool, combine: str, data: st.DataObject, dtype: str
) -> None:
    shapes = data.draw(oracles.layouts(), label="layout")
    width, kernel = oracles.parameters(shapes), data.draw(st.integers(1, 3), label="kernel")
    rule = f"foolsgold(combine={combine!r})"
    course = Course(f"amp(kernel={kernel})+{rule}" if amplified else rule, width, shapes, dtype)
    fool = slow.FoolsGold()
    for rows in data.draw(sybil_rounds(width), label="rounds"):
        if data.draw(st.integers(0, 4)) == 0:
            course.excluded = sorted({*course.excluded, data.draw(st.integers(0, len(rows) - 1))})
        heard = course.heard(rows)
        outcome = course.play(rows, data.draw(st.integers(0, 9), label="f"))
        if not heard:
            assert outcome.empty is not None
            continue
        view = oracles.pooled_rows(rows[heard], shapes, kernel) if amplified else rows[heard]
        alphas = fool.alphas(heard, view)
        if max(alphas) < 0.01:
            continue  # all are sybils of one another, to rounding, and rescaling would blow that up
        expected = np.zeros(len(rows))
        expected[heard] = fool.weights(alphas, combine)
        # A cosine is off by twice the slack; the logit is at most 4.3 times as steep where it is not clipped.
        room = 40 * SLACK[dtype] / max(alphas)
        assert np.abs(outcome.weights.double().numpy() - expected).max() <= room


@pytest.mark.trap("foolsgold")
def test_foolsgold_silences_sybils_and_hears_the_rest() -> None:
    rows = np.array([[1.0, 0, 0], [2, 0, 0], [0, 1, 0], [0, 0, 1]])
    assert shares_of(weigh(rows, "foolsgold")).tolist() == [0, 0, 0.5, 0.5]


@pytest.mark.trap("foolsgold")
def test_foolsgold_divides_by_the_sum_of_alpha_and_keeps_norms() -> None:
    rows = 100 * np.eye(4)  # neither normalised rows, nor alphas of 1 each, nor a share of a half
    assert step_of(rows, "foolsgold").tolist() == [25.0, 25.0, 25.0, 25.0]


@pytest.mark.trap("foolsgold")
def test_foolsgold_as_a_sum_adds_up_what_it_trusts() -> None:
    rows = np.array([[1.0, 0, 0], [2, 0, 0], [0, 1, 0], [0, 0, 1]])
    assert step_of(rows, "foolsgold(combine='sum')").tolist() == [0, 1, 1]


@pytest.mark.trap("foolsgold")
def test_foolsgold_compares_histories_not_rounds() -> None:
    course, (aim, third) = Course("foolsgold", 3), np.eye(3)[:2]
    away = np.array([0.0, 0.0, 5.0])
    first = course.play(np.array([aim + away, aim - away, third]))
    assert (first.weights > 0).all()
    second = course.play(np.array([aim - away, aim + away, third]))
    assert second.weights.tolist() == [0, 0, 1]


@pytest.mark.trap("foolsgold")
def test_foolsgold_knows_clients_by_id_where_rows_are_left_out() -> None:
    course, rows = Course("foolsgold", 3), np.eye(3)
    course.play(rows)
    lame = rows.copy()
    lame[0] = np.nan
    course.play(lame)
    assert course.play(rows).weights.tolist() == pytest.approx([1 / 3] * 3)
    # Clients 1 and 2 keep their histories where they stand as rows 0 and 1: cosines of 0 to one another still.
    assert course.play(lame).weights.tolist() == [0, 0.5, 0.5]


@pytest.mark.trap("foolsgold")
def test_foolsgold_pardons_whoever_is_less_similar_than_its_likeness() -> None:
    rows = np.array([[1.0, 0, 0], [1, 0, 0], [0.6, 0.8, 0], [0, 0, 1]])
    # v = 1, 1, 0.6, 0. Client 2's cosine 0.6 is pardoned to 0.36: alpha 0.64, logit 1.08, clipped to 1. Not pardoned
    # it would be alpha 0.4, logit 0.09.
    assert shares_of(weigh(rows, "foolsgold")) == pytest.approx([0, 0, 0.5, 0.5], abs=1e-12)
    rows[2] = [0.8, 0.6, 0]
    # Pardoned to 0.64: alpha 0.36, logit ln(0.36 / 0.64) + 0.5 = -0.075, clipped to 0.
    assert shares_of(weigh(rows, "foolsgold")) == pytest.approx([0, 0, 0, 1], abs=1e-12)
    rows[2] = [0.7, np.sqrt(0.51), 0]
    logit = np.log(0.51 / 0.49) + 0.5
    assert shares_of(weigh(rows, "foolsgold")) == pytest.approx([0, 0, logit / (1 + logit), 1 / (1 + logit)], abs=1e-12)


@pytest.mark.trap("foolsgold")
def test_foolsgold_rescales_by_the_largest_alpha() -> None:
    rows = rays(0, 60)  # both have alpha 0.5: rescaled to 1 each, not ln(1) + 0.5 = 0.5 of two in three
    assert shares_of(weigh(rows, "foolsgold")) == pytest.approx([0.5, 0.5], abs=1e-12)
    rows = np.array([[1.0, 0, 0], [0.5, np.sqrt(0.75), 0], [0.5, -np.sqrt(0.27), np.sqrt(0.48)]])
    assert shares_of(weigh(rows, "foolsgold")) == pytest.approx(
        slow.FoolsGold.weights(slow.FoolsGold().alphas(range(3), rows)), abs=1e-12
    )


@pytest.mark.trap("foolsgold")
@pytest.mark.parametrize("form", [("torch", "float32"), ("numpy", "float64")])
@pytest.mark.parametrize("n", [2, 5])
def test_foolsgold_hears_nobody_where_all_are_one(form: Form, n: int) -> None:
    assert shares_of(weigh(np.repeat(normal(1, 7, n), n, axis=0), "foolsgold", 0, form)).tolist() == [0] * n


@pytest.mark.trap("foolsgold")
def test_foolsgold_hears_a_client_alone_and_clients_that_send_nothing() -> None:
    assert shares_of(weigh(np.array([[3.0, 1.0]]), "foolsgold")).tolist() == [1]
    assert shares_of(weigh(np.zeros((3, 2)), "foolsgold")) == pytest.approx(1 / 3)
    assert shares_of(weigh(np.array([[3.0, 0], [-1, 0]]), "foolsgold")).tolist() == [0.5, 0.5]


# ---------------------------------------------------------------- fldetector


@pytest.mark.oracle("fldetector")
@pytest.mark.parametrize("amplified", [False, True])
@given(st.data(), st.sampled_from(["run", "round"]))
def test_fldetector_drops_whom_the_hessian_does_not_predict(amplified: bool, data: st.DataObject, exclude: str) -> None:
    shapes, width = [(8, 8), (8,)], 72
    n, window = data.draw(st.integers(3, 9), label="n"), data.draw(st.integers(1, 3), label="window")
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), label="seed"))
    spec = f"fldetector(window={window}, exclude='{exclude}')"
    course = Course(f"amp+{spec}" if amplified else spec, width, shapes)
    detector = slow.FLDetector(window)
    levels = rng.choice([1.0, 5.0], size=n, p=[0.7, 0.3])[:, None]
    for number in range(1, window + 6):
        rows = levels * rng.normal(size=(n, width)) * 2.0 ** rng.integers(-2, 3)
        if rng.integers(4) == 0:
            rows[rng.integers(n)] = np.nan
        heard = course.heard(rows)
        if not heard:
            return
        last = rng.normal(size=width) * (number > 1) * rng.choice([0.5, 3.0])
        once_is_enough = bool(course.excluded)
        outcome = course.play(rows, 1, last)
        seen = oracles.pooled_rows(np.vstack([rows[heard], last]), shapes, 2) if amplified else None
        view, step = (rows[heard], last) if seen is None else (seen[:-1], seen[-1])
        dropped = detector.dropped(heard, view, step)
        dropped = set() if once_is_enough else dropped
        heard_of = {int(i) for i in outcome.weights.nonzero().flatten()}
        assert set(outcome.exclude) == (set(heard) - heard_of if exclude == "run" else set())
        if dropped is not None:
            assert heard_of == set(heard) - dropped
            assert outcome.weights[sorted(heard_of)].numpy() == pytest.approx(1 / len(heard_of))


def learning(n: int, width: int, liars: Sequence[int], seed: int = 0) -> Callable[[Array], Array]:
    """Clients that descend a common bowl from the model given, but for those who send noise."""
    rng = np.random.default_rng(seed)
    bowl = np.diag(rng.uniform(0.05, 0.3, size=width))
    aims = rng.normal(size=width) + 0.3 * rng.normal(size=(n, width))

    def updates(model: Array) -> Array:
        rows = (aims - model) @ bowl + 1e-3 * rng.normal(size=(n, width))
        rows[list(liars)] = rng.normal(size=(len(liars), width))
        return np.asarray(rows)

    return updates


@pytest.mark.trap("fldetector")
def test_fldetector_hears_all_for_two_rounds_and_a_window_and_then_bans_for_good() -> None:
    liars, course, model = [1, 6, 7], Course("fldetector", 8), np.zeros(8)
    updates, detector = learning(10, 8, liars), slow.FLDetector()
    for number in range(1, 18):
        rows = updates(model)
        heard = course.heard(rows)
        dropped = detector.dropped(heard, rows[heard], course.previous)
        outcome = course.play(rows, 3)
        assert outcome.exclude == (tuple(liars) if number == 12 else ()), number
        assert dropped is None or number != 12 or dropped == set(liars)
        assert [client for client in range(10) if outcome.weights[client] == 0] == (liars if number >= 12 else [])
        model = model + course.previous


@pytest.mark.trap("fldetector")
def test_fldetector_of_one_round_drops_anew_each_round_and_bans_nobody() -> None:
    liars, course, model = [0, 4], Course("fldetector(window=3, exclude='round')", 6), np.zeros(6)
    updates = learning(9, 6, liars, 1)
    for number in range(1, 12):
        outcome = course.play(updates(model), 2)
        assert outcome.exclude == ()
        assert [client for client in range(9) if outcome.weights[client] == 0] == (liars if number >= 5 else [])
        model = model + course.previous


def still(*rows: Sequence[float]) -> Array:
    return np.array(rows, dtype=np.float64)


@pytest.mark.trap("fldetector")
def test_fldetector_predicts_by_last_update_and_hessian_times_the_step() -> None:
    """The steps (1, 0), (3, 0) teach the Hessian 2 along the first axis: it predicts a change of 6 after the second."""
    course = Course("fldetector(window=1)", 2)
    course.play(np.zeros((6, 2)))
    course.play(np.zeros((6, 2)), previous=np.array([1.0, 0]))
    moved = still([6, 0.01], [6, -0.01], [6.01, 0], [5.99, 0], [0, 0], [0.01, 0])
    # Without a Hessian the first four would be off by 6, and the last two not at all.
    assert course.play(moved, 1, np.array([3.0, 0])).exclude == (4, 5)


@pytest.mark.trap("fldetector")
@pytest.mark.parametrize("window", [1, 2, 3, 4])
def test_fldetector_measures_errors_from_where_all_pairs_of_its_window_put_a_client(window: int) -> None:
    """Around its prediction each client lies in a direction of its own: a little off, honest and liars would mix."""
    for seed in range(6):
        rng, course = np.random.default_rng(seed), Course(f"fldetector(window={window})", 7)
        steps, rows = [rng.normal(size=7) for _ in range(window + 1)], rng.normal(size=(12, 7))
        for step in (np.zeros(7), *steps[:-1]):
            assert course.play(rows, previous=step).exclude == ()  # so far all are off by the same
        change = slow.bfgs([(a, b - a) for a, b in itertools.pairwise(steps)]) @ steps[-1]
        assert np.isfinite(change).all()
        away = rng.normal(size=(12, 7))
        away *= 0.3 * oracles.norm(change) / np.linalg.norm(away, axis=1, keepdims=True)
        away[[2, 5, 6]] *= 1.1
        assert course.play(rows + change + away, previous=steps[-1]).exclude == (2, 5, 6)


@pytest.mark.trap("fldetector")
def test_fldetector_pairs_a_step_with_the_change_that_follows_it() -> None:
    """Of the steps p = 1, 2, 6, 12 the pairs are (1, 1), (2, 4), (6, 6): the last says that the Hessian is 1."""
    course = Course("fldetector(window=3)", 1)
    for place, step in enumerate((0, 1, 2, 6)):
        course.play(np.zeros((5, 1)), previous=np.array([float(step)]))
        assert course.number == place + 1
    # Errors so far: 1 * 2 for all, then 2 * 6 for all, equal shares; now the prediction is 1 * 12.
    outcome = course.play(line(12, 12.01, 11.99, 12, 4), 1, np.array([12.0]))
    assert outcome.exclude == (4,)


@pytest.mark.trap("fldetector")
def test_fldetector_predicts_no_change_where_no_step_was_made() -> None:
    course = Course("fldetector(window=1)", 2)
    for _ in range(2):
        course.play(np.ones((5, 2)), previous=np.zeros(2))
    outcome = course.play(still([1, 1.01], [1.01, 1], [1, 0.99], [9, 1], [0.99, 1]), 1, np.array([1.0, 0.0]))
    assert outcome.exclude == (3,)


@pytest.mark.trap("fldetector")
def test_fldetector_averages_shares_of_error_not_errors() -> None:
    """A loud round in which client 0 is a little worse weighs no more than two quiet ones in which client 5 is."""
    course = Course("fldetector(window=3)", 1)
    for _ in range(2):
        course.play(np.zeros((6, 1)), previous=np.zeros(1))
    at, size = np.zeros((6, 1)), (1.0, 1000.0, 1.0)
    errors = [[1, 1.01, 0.99, 1, 1, 9], [2, 1.01, 0.99, 1, 1, 1], [1, 1.01, 0.99, 1, 1, 9]]
    for scale, error in zip(size, errors, strict=True):
        at = at + scale * np.array(error)[:, None]
        outcome = course.play(at, 1, np.zeros(1))
    assert outcome.exclude == (5,)


@pytest.mark.trap("fldetector")
def test_fldetector_forgets_scores_older_than_its_window() -> None:
    course = Course("fldetector(window=2, exclude='round')", 1)
    for _ in range(2):
        course.play(np.zeros((5, 1)), previous=np.zeros(1))
    at, dropped = np.zeros((5, 1)), []
    for error in ([1, 1, 1.01, 9, 1], [1, 1.01, 1, 9, 1], [1, 1.01, 1, 1, 1], [1.01, 1, 1, 1, 9], [1, 1.01, 1, 1, 9]):
        at = at + np.array(error)[:, None]
        outcome = course.play(at, 1, np.zeros(1))
        dropped.append([client for client in range(5) if outcome.weights[client] == 0])
    assert dropped[0] == []
    assert dropped[1] == [3]
    assert dropped[4] == [4]


@pytest.mark.trap("fldetector")
def test_fldetector_does_not_judge_a_client_that_was_never_scored() -> None:
    """Somebody who kept silent has no score, which is not a low one: low would get all others banned."""
    course = Course("fldetector(window=3)", 200)
    for number in range(1, 7):
        rows = 1 + 0.1 * normal(7, 200, number)
        if number < 6:
            rows[2] = np.nan
        outcome = course.play(rows, 1)
        assert outcome.exclude == ()
    assert (outcome.weights > 0).all()


@pytest.mark.trap("fldetector")
def test_fldetector_averages_the_last_rounds_in_which_a_client_was_scored() -> None:
    """Client 3 was far off in the last round that it was heard in before; a round's silence does not outlast that."""
    course = Course("fldetector(window=2, exclude='round')", 1)
    for _ in range(2):
        course.play(np.zeros((5, 1)), previous=np.zeros(1))
    at = np.zeros((5, 1))
    for errors in ([1, 1, 1.01, 1, 1], [1, 1.01, 1, 90, 1], [1, 1, 1, np.nan, 1.01], [1.01, 1, 1, 1, 1]):
        here = at + np.array(errors)[:, None]
        at = np.where(np.isfinite(here), here, at)
        outcome = course.play(here, 1, np.zeros(1))
    assert [client for client in range(5) if outcome.weights[client] == 0] == [3]


@pytest.mark.trap("fldetector")
@pytest.mark.parametrize("n", [1, 2, 5])
def test_fldetector_hears_all_where_all_score_alike(n: int) -> None:
    course = Course("fldetector(window=2)", 3)
    for number in range(1, 8):
        outcome = course.play(np.full((n, 3), float(number % 3)))
        assert outcome.weights.tolist() == pytest.approx([1 / n] * n)
        assert outcome.exclude == ()


@pytest.mark.trap("fldetector")
def test_fldetector_takes_two_clients_that_score_differently() -> None:
    course = Course("fldetector(window=1)", 2)
    for number in range(1, 40):
        outcome = course.play(normal(2, 2, number))
        # Two groups of one have no spread, nor have those of two uniform numbers: neither gap is a number.
        assert (outcome.empty, outcome.exclude) == (None, ())


# ---------------------------------------------------------------- lomar


def assert_lomar(kept: Sequence[int], view: Array, f: int, dtype: str, neighbours: int | None = None) -> None:
    """Check that no row that was kept is surely farther from its neighbours' density than one that was dropped."""
    assert len(kept) == len(view) - f
    bounds = slow.lomar_factors(view, neighbours, SLACK[dtype])
    dropped = [high for i, (_, high) in enumerate(bounds) if i not in kept]
    # Sums of exponents round by a unit of the last place of the largest.
    room = 1e-12 * max(1.0, *(abs(end) for pair in bounds for end in pair if abs(end) < 1e200))
    assert not dropped or max(bounds[i][0] for i in kept) <= min(dropped) + room


@pytest.mark.oracle("lomar")
@given(st.data(), FORMS)
def test_lomar_keeps_the_smallest_factors(data: st.DataObject, form: Form) -> None:
    rows = data.draw(oracles.updates((2, 12)), label="rows")
    f = data.draw(st.integers(0, (len(rows) - 1) // 2), label="f")
    neighbours = data.draw(st.none() | st.integers(1, len(rows) - 1), label="neighbours")
    spec = "lomar" if neighbours is None else f"lomar(neighbours={neighbours})"
    assert_lomar(kept_by(rows, spec, f, form), rows, f, form[1], neighbours)


@pytest.mark.trap("lomar")
@given(st.data(), FORMS)
def test_amplified_lomar_sees_pooled_updates_and_averages_originals(data: st.DataObject, form: Form) -> None:
    shapes, kernel = data.draw(oracles.layouts(), label="layout"), data.draw(st.integers(1, 3), label="kernel")
    width = oracles.parameters(shapes)
    rows = data.draw(oracles.updates((2, 12), (width, width)), label="rows")
    f = data.draw(st.integers(0, (len(rows) - 1) // 2), label="f")
    spec = f"amp(kernel={kernel})+lomar"
    kept = kept_by(rows, spec, f, form, layout=shapes)
    assert_lomar(kept, oracles.pooled_rows(rows, shapes, kernel), f, form[1])
    step = np.asarray(agrbench.aggregate(as_given(rows, form), spec, f, shapes), dtype=np.float64)
    # See ULPS.
    room = ULPS * float(np.finfo(form[1]).eps) * np.abs(rows).max()
    assert np.abs(step - rows[kept].mean(axis=0)).max() <= room


@pytest.mark.oracle("lomar")
@given(oracles.updates((3, 12), ties=False), st.integers(0, 5))
def test_lomar_is_its_oracle_where_nothing_ties(rows: Array, f: int) -> None:
    assume(2 * f < len(rows))
    ordered = sorted(low for low, _ in slow.lomar_factors(rows))
    edge = len(rows) - f
    # The logarithms are sums of a few dozen terms, right to a share of the largest.
    assume(f == 0 or ordered[edge] - ordered[edge - 1] > 1e-7 * max(1.0, abs(ordered[-1])))
    assert kept_by(rows, "lomar", f) == slow.lomar_kept(rows, f)


@pytest.mark.trap("lomar")
@pytest.mark.parametrize("form", [("torch", "float32"), ("numpy", "float64")])
def test_lomar_does_not_underflow_at_a_hundred_thousand_dimensions(form: Form) -> None:
    rows = normal(7, 100_000).astype(np.float32).astype(np.float64)
    rows[0] *= 1000
    rows[1] *= 100
    # Not in logarithms both densities are 0 and both factors infinite, and the earlier row would be kept.
    assert kept_by(rows, "lomar", 1, form) == [1, 2, 3, 4, 5, 6]
    assert kept_by(rows, "lomar", 2, form) == [2, 3, 4, 5, 6]
    assert_lomar(kept_by(rows, "lomar", 3, form), rows, 3, form[1])


@pytest.mark.trap("lomar")
def test_lomar_compares_a_density_with_that_around_it() -> None:
    rows = line(0, 0.1, 0.2, 0.3, 2, 100, 105, 110)  # row 4 is off its neighbours; the last three are only sparse
    assert kept_by(rows, "lomar(neighbours=2)", 1) == [0, 1, 2, 3, 5, 6, 7]
    sparse = [sorted(abs(a - b) for b in rows[:, 0])[2] for a in rows[:, 0]]
    assert int(np.argmax(sparse)) in (5, 6, 7)


@pytest.mark.trap("lomar")
def test_lomar_counts_half_of_the_clients_as_neighbours() -> None:
    rows = normal(9, 2, 5)
    picks = {k: kept_by(rows, f"lomar(neighbours={k})", 3) for k in range(1, 9)}
    assert kept_by(rows, "lomar", 3) == picks[4]
    with pytest.raises(Inapplicable, match="neighbours < n"):
        kept_by(rows, "lomar(neighbours=9)", 3)
    assert len({tuple(pick) for pick in picks.values()}) > 1


@pytest.mark.trap("lomar")
@pytest.mark.parametrize("form", [("torch", "float32"), ("numpy", "float64")])
def test_lomar_of_equal_rows_and_of_most_equal_rows_has_no_kernel_but_an_answer(form: Form) -> None:
    assert kept_by(np.ones((5, 3)), "lomar", 2, form) == [0, 1, 2]
    assert kept_by(np.zeros((2, 3)), "lomar", 0, form) == [0, 1]
    rows = np.ones((6, 3))
    rows[1], rows[3] = 2, 7
    assert kept_by(rows, "lomar", 2, form) == [0, 2, 4, 5]
    assert kept_by(line(0, 5), "lomar", 0, form) == [0, 1]


@pytest.mark.trap("lomar")
def test_lomar_takes_the_earlier_of_rows_that_are_equally_near() -> None:
    compared = 0
    for seed in range(6):
        rows = np.random.default_rng(seed).integers(0, 4, size=(60, 2)).astype(np.float64)
        rows[0] += 30
        factors = [low for low, _ in slow.lomar_factors(rows, 7)]
        for f in range(1, 30):
            ordered = sorted(factors)
            if ordered[60 - f] - ordered[59 - f] > 1e-9:  # the rule's own sums round alike
                compared += 1
                assert kept_by(rows, "lomar(neighbours=7)", f) == slow.lomar_kept(rows, f, 7)
    assert compared > 50


@pytest.mark.trap("lomar")
def test_lomar_takes_the_median_of_distances_not_of_their_squares() -> None:
    rows = line(24, 3, 26, 17, 10, 25)  # distances to the second neighbour: 1, 14, 2, 7, 7, 1: their median is 4.5
    assert kept_by(rows, "lomar(neighbours=2)", 1) == [0, 1, 2, 4, 5]  # the median of the squares would drop row 1
    assert slow.lomar_kept(rows, 1, 2) == [0, 1, 2, 4, 5]


@pytest.mark.trap("lomar")
def test_lomar_ranks_pairs_apart_by_row_where_most_rows_are_equal() -> None:
    """The kernel has no width, so the pair's densities are both the floor, and each is as dense as its neighbour."""
    rows = np.ones((7, 2))
    rows[0], rows[1] = 10, 11
    assert kept_by(rows, "lomar(neighbours=1)", 2) == [0, 1, 2, 3, 4]


@pytest.mark.trap("lomar")
@pytest.mark.parametrize("rule", ["lomar", "lomar(neighbours=2)"])
def test_lomar_judges_the_rows_that_remain(rule: str) -> None:
    rows = normal(8, 4, 2)
    rest = np.delete(rows, 3, axis=0)
    rows[3] = np.nan
    assert (step_of(rows, rule, 3) == step_of(rest, rule, 2)).all()


# ---------------------------------------------------------------- fedinv


class Softmax:
    """A linear softmax model of 2 features and 4 classes, 12 parameters: the weights by row, then the biases."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.weights, self.bias = 0.5 * rng.normal(size=(2, 4)), 0.5 * rng.normal(size=4)
        self.asked: list[tuple[int, ...]] = []

    def __call__(self, features: Tensor, labels: Tensor) -> Tensor:
        self.asked.append(tuple(features.shape))
        assert labels.shape == (*features.shape[:2], 4)
        scores = features @ torch.from_numpy(self.weights).to(features) + torch.from_numpy(self.bias).to(features)
        off = (torch.softmax(scores, dim=2) - labels) / features.shape[1]
        return torch.cat([(features.transpose(1, 2) @ off).flatten(1), off.sum(1)], dim=1)

    def given(self) -> Any:
        return agrbench.Gradients(shape=(2,), classes=4, of=self)

    def update(self, features: Array, labels: Any) -> Array:
        """What one full-batch step of rate 0.1 on this data teaches."""
        hot = torch.eye(4, dtype=torch.float64)[list(labels)]
        return np.asarray(-0.1 * self(torch.from_numpy(features)[None], hot[None])[0].numpy())


def clients_of(model: Softmax, n: int, odd: Sequence[int], seed: int) -> Array:
    """Updates of clients with like data, but for the odd ones: theirs is mirrored."""
    rng = np.random.default_rng(seed)
    centres = 2 * rng.normal(size=(4, 2))
    rows = []
    for client in range(n):
        labels = rng.integers(0, 4, size=12)
        features = centres[labels] + 0.3 * rng.normal(size=(12, 2))
        rows.append(model.update(-features, labels) if client in odd else model.update(features, labels))
    return np.array(rows)


def assert_fedinv(kept: Sequence[int], scores: Sequence[float], count: int, dtype: str) -> None:
    assert len(kept) == count
    dropped = [score for i, score in enumerate(scores) if i not in kept]
    # Twenty steps of Adam amplify the rounding of float32 about a thousandfold; float64 has digits to spare.
    room = {"float32": 1e-3, "float64": 1e-8}[dtype] * max(scores)
    assert not dropped or max(scores[i] for i in kept) <= min(dropped) + room


@pytest.mark.oracle("fedinv")
@pytest.mark.parametrize(
    ("spec", "more"),
    [
        ("fedinv", {}),
        ("fedinv(rows=3, steps=7)", {"rows": 3, "steps": 7}),
        ("fedinv(rows=2, rate=0.03)", {"rows": 2, "rate": 0.03}),
        ("fedinv(rows=1, steps=1)", {"rows": 1, "steps": 1}),
        ("fedinv(rows=2, rate=3.0)", {"rows": 2, "rate": 3.0}),  # so fast that rows change places
    ],
)
def test_fedinv_inverts_each_update_and_keeps_those_of_near_data(spec: str, more: dict[str, Any]) -> None:
    for seed in range(3):
        model = Softmax(seed)
        rows = (clients_of(model, 6, [seed], seed) * 2.0 ** (5 * seed)).astype(np.float32).astype(np.float64)
        rng = generator(0, "defense", 1, 0)
        distances = slow.fedinv_distances(rows, model.weights, model.bias, rng, **more)
        for f, dtype in itertools.product(range(3), ("float32", "float64")):
            kept = kept_by(rows, spec, f, ("numpy", dtype), gradients=model.given())
            assert_fedinv(kept, slow.fedinv_scores(distances, f), 6 - f, dtype)


@pytest.mark.trap("fedinv")
def test_fedinv_drops_the_client_whose_update_is_the_gradient_of_very_different_data() -> None:
    for seed in range(8):
        model, odd = Softmax(seed), seed % 7
        rows = clients_of(model, 7, [odd], seed)
        others = [client for client in range(7) if client != odd]
        assert kept_by(rows, "fedinv", 1, gradients=model.given()) == others
        # A mean of six.
        expected = rows[others].mean(axis=0)
        assert step_of(rows, "fedinv", 1, gradients=model.given()) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.trap("fedinv")
def test_fedinv_hears_a_run_through_the_servers_gradients_and_draws_anew_each_round() -> None:
    model = Softmax(1)
    rows = clients_of(model, 6, [2], 1)
    layers = Layout.read([(2, 4), (4,)], 12)
    court = Judge(REGISTRY.stack("fedinv"), layers, partial(generator, 5))
    for number in (1, 2, 3):
        server = Server(gradients=model.given)
        trial = court.rehearse().step(torch.from_numpy(rows), 2, server, number)
        outcome = court.step(torch.from_numpy(rows), 2, server, number)
        rng = generator(5, "defense", number, 0)
        scores = slow.fedinv_scores(slow.fedinv_distances(rows, model.weights, model.bias, rng), 2)
        assert_fedinv([int(i) for i in outcome.weights.nonzero().flatten()], scores, 4, "float64")
        assert torch.equal(trial.step, outcome.step)


def test_fedinv_asks_for_the_gradients_of_as_many_rows_as_it_is_told() -> None:
    model = Softmax(0)
    rows = clients_of(model, 4, [], 0)
    model.asked.clear()
    kept_by(rows, "fedinv(rows=5, steps=3)", 1, gradients=model.given())
    assert {shape[1:] for shape in model.asked} == {(5, 2)}
    assert sum(shape[0] for shape in model.asked) == 3 * 4


@pytest.mark.trap("fedinv")
def test_fedinv_matches_the_direction_of_an_update_and_not_its_size() -> None:
    model = Softmax(2)
    rows = clients_of(model, 5, [3], 2)
    sizes = 2.0 ** np.array([[-20], [0], [3], [15], [20]])
    for f in (0, 1, 2):
        assert kept_by(sizes * rows, "fedinv", f, gradients=model.given()) == kept_by(
            rows, "fedinv", f, gradients=model.given()
        )


@pytest.mark.trap("fedinv")
def test_fedinv_of_equal_and_of_zero_updates_keeps_the_first() -> None:
    model = Softmax(0)
    rows = np.repeat(clients_of(model, 1, [], 0), 5, axis=0)
    assert kept_by(rows, "fedinv", 2, gradients=model.given()) == [0, 1, 2]
    assert kept_by(np.zeros((3, 12)), "fedinv", 1, gradients=model.given()) == [0, 1]
    assert kept_by(rows[:1], "fedinv", 0, gradients=model.given()) == [0]
    assert kept_by(rows[:2], "fedinv", 0, gradients=model.given()) == [0, 1]


@pytest.mark.trap("fedinv")
def test_fedinv_leaves_torchs_own_randomness_and_gradient_mode_alone() -> None:
    model, before = Softmax(0), torch.get_rng_state()
    rows = clients_of(model, 4, [], 0)
    with torch.no_grad():
        kept = kept_by(rows, "fedinv", 1, gradients=model.given())
        assert not torch.is_grad_enabled()
    assert kept == kept_by(rows, "fedinv", 1, gradients=model.given())
    assert torch.equal(torch.get_rng_state(), before)


# ---------------------------------------------------------------- what each rule is defined for

LARGEST_BOUND: dict[str, Callable[[int], int]] = {
    "flame": lambda n: (n - 1) // 2 if n > 1 else -1,
    "lomar": lambda n: (n - 1) // 2 if n > 1 else -1,
    "fldetector": lambda n: (n - 1) // 2,
    "fedinv": lambda n: (n - 1) // 2,
}


@pytest.mark.parametrize("rule", LARGEST_BOUND)
@pytest.mark.parametrize("n", range(1, 8))
def test_rule_works_up_to_the_largest_legal_bound_and_not_one_further(rule: str, n: int) -> None:
    rows, largest = normal(n, 12, n), LARGEST_BOUND[rule](n)
    more: dict[str, Any] = {"model": rows[0]} if rule == "flame" else {}
    if rule == "fedinv":
        more["gradients"] = Softmax(0).given()
    if largest >= 0:
        assert np.isfinite(step_of(rows, rule, largest, **more)).all()
    for function in (agrbench.aggregate, agrbench.weigh):
        with pytest.raises(Inapplicable, match=f"{rule} requires .*n={n}, f={largest + 1}"):
            function(rows, rule, largest + 1, **more)


@pytest.mark.trap("foolsgold")
def test_foolsgold_takes_any_bound() -> None:
    assert step_of(np.eye(2), "foolsgold", 50).tolist() == [0.5, 0.5]


@pytest.mark.parametrize(("rule", "keyword"), [("flame", "model="), ("fedinv", "gradients=")])
def test_missing_server_data_is_named_by_the_keyword_to_pass(rule: str, keyword: str) -> None:
    with pytest.raises(AgrbenchError, match=keyword):
        step_of(np.ones((3, 12)), rule)


def test_fedinv_has_no_amplified_form() -> None:
    with pytest.raises(Inapplicable, match="fedinv"):
        step_of(np.ones((3, 12)), "amp+fedinv", layout=[(2, 4), (4,)], gradients=Softmax(0).given())


@pytest.mark.parametrize("rule", ["foolsgold", "fldetector"])
def test_rule_that_knows_clients_refuses_rows_that_are_no_clients(rule: str) -> None:
    with pytest.raises(Inapplicable, match=f"{rule}(.|\n)*bucketing|bucketing(.|\n)*{rule}"):
        step_of(normal(6, 4), f"bucketing+{rule}", 1)


@pytest.mark.parametrize("rule", ["foolsgold", "fldetector"])
def test_rule_that_knows_clients_takes_rows_that_are_mixed_one_for_one(rule: str) -> None:
    assert np.isfinite(step_of(normal(6, 4), f"nnm+{rule}", 1)).all()


@pytest.mark.parametrize(
    "spec",
    [
        "fldetector(window=0)",
        "fldetector(exclude='never')",
        "lomar(neighbours=0)",
        "fedinv(rows=0)",
        "flame(noise=-1.0)",
    ],
)
def test_argument_out_of_its_range_is_refused(spec: str) -> None:
    with pytest.raises(AgrbenchError, match=spec.split("(")[0]):
        step_of(normal(5, 12), spec, 1, model=np.ones(12), gradients=Softmax(0).given())


@pytest.mark.parametrize("rule", ["flame(noise=0.0)", "lomar", "fldetector", "foolsgold"])
def test_amplifier_of_kernel_one_changes_nothing_on_linear_layers(rule: str) -> None:
    rows, model = normal(7, 12, 4), normal(1, 12, 5)[0]
    plain, amplified = (
        step_of(rows, prefix + rule, 2, layout=[(3, 3), (3,)], model=model) for prefix in ("", "amp(kernel=1)+")
    )
    # The view has the same values in the same order, so even the rounding is the same.
    assert (plain == amplified).all()


@pytest.mark.trap("fldetector")
def test_fldetector_excludes_once_and_then_leaves_honest_clients_alone() -> None:
    """Judged round after round, honest clients would go one by one: two clusters are seen in one now and then."""
    rng = np.random.default_rng(0)
    course = Course("fldetector(window=3)", 40)
    bans = []
    for _ in range(60):
        rows = np.ones(40) + 0.1 * rng.normal(size=(12, 40))
        rows[:3] = 3 * rng.normal(size=(3, 40))
        outcome = course.play(rows, 3)
        bans += [set(outcome.exclude)] if outcome.exclude else []
    assert bans == [{0, 1, 2}]


@pytest.mark.trap("foolsgold")
@pytest.mark.parametrize("n", [2, 5, 20])
def test_foolsgold_of_equal_rows_is_zero_however_their_cosines_round(n: int) -> None:
    for seed in range(30):
        rows = torch.from_numpy(np.repeat(normal(1, 300, seed), n, axis=0)).float()
        assert not agrbench.aggregate(rows, "foolsgold").any()


@pytest.mark.trap("foolsgold")
def test_foolsgold_tells_rows_apart_that_nearly_point_the_same_way() -> None:
    """One minus a cosine of 1 - 1e-8 has no digits left in float32, and follows from distances, which have."""
    rows = normal(1, 1000, 0) + 1e-4 * normal(20, 1000, 1)
    single = agrbench.weigh(rows.astype(np.float32), "foolsgold").weights
    # In float64 all are about equally far apart.
    assert isinstance(single, Tensor)
    assert single.double().numpy() == pytest.approx(agrbench.weigh(rows, "foolsgold").weights, rel=1e-2)
    assert float(single.sum()) == pytest.approx(1)
