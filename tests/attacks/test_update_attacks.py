"""The attacks that forge updates, each against its oracle and the constraint that makes it what it is."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn

import agrbench
from agrbench import Layout
from agrbench.clients.insider import Insider
from agrbench.clients.insider import forge as ask
from agrbench.errors import AgrbenchError
from agrbench.plugins.registry import Registry
from agrbench.randomness import generator
from tests.helpers import oracles
from tests.helpers import oracles_attacks as slow
from tests.helpers.forging import forge
from tests.helpers.oracles import Array
from tests.helpers.updates import EPS, EXACT, FORMS, Form, as_given, line
from tests.helpers.updates import normal32 as normal

REGISTRY = Registry(())
RANDOM = ["gaussian", "fang_trimmed_mean", "fang_trimmed_mean(space='updates')"]
FIXED = ["sign_flip", "size_inflation", "zero", "ipm", "lie", "fang_krum", "blind_spot"]
ALL = [*FIXED, *RANDOM, "mimic", "mimic(warmup=0)"]


def rounding(size: Any, rows: Array, form: Form) -> Array:
    """Give the room for sums of a few dozen terms of some `size` in float64, and for one rounding to the form."""
    return np.asarray(64 * EPS * np.asarray(size) + float(np.finfo(form[1]).eps) * np.abs(rows))


def assert_near(rows: Array, expected: Array, size: Any, form: Form) -> None:
    # Rounding, see above, and nothing else.
    assert (np.abs(rows - expected) <= rounding(size, expected, form)).all()


def drawn(kind: str, *shape: int, seed: int = 0, number: int = 1) -> Array:
    """What an attack draws first in a round."""
    values: Tensor = getattr(torch, kind)(*shape, generator=generator(seed, "attack", number), dtype=torch.float64)
    return values.numpy()


def everything(malicious: int, d: int) -> dict[str, Any]:
    """Whatever some attack may ask for."""
    return {"clean": normal(malicious, d, 7), "model": normal(1, d, 8)[0], "layout": [(d - 1, 1), (1,)]}


# ---------------------------------------------------------------- all of them


@pytest.mark.trap("zero", "sign_flip")
@pytest.mark.parametrize("spec", ALL)
def test_attack_on_updates_poisons_no_data_and_has_no_trigger(spec: str) -> None:
    record = REGISTRY.attack(spec).record
    assert record.poison is None
    assert record.trigger is None


@pytest.mark.parametrize("spec", ALL)
@pytest.mark.parametrize("honest", [1, 2, 5])
def test_forged_rows_are_finite_for_no_one_and_as_many_attackers_as_honest_clients(spec: str, honest: int) -> None:
    assert forge(spec, normal(honest, 4), 0).shape == (0, 4)
    for malicious in (1, honest):
        for form in (EXACT, ("torch", "float32")):
            rows = forge(spec, normal(honest, 4), malicious, form, **everything(malicious, 4))
            assert np.isfinite(rows).all()


@pytest.mark.trap(*ALL)
@pytest.mark.parametrize("spec", ALL)
@given(oracles.updates(width=(2, 40)))
def test_float32_rows_are_those_of_float64_rounded_once(spec: str, honest: Array) -> None:
    more = everything(1, honest.shape[1])
    single, double = (forge(spec, honest, 1, ("torch", dtype), **more) for dtype in ("float32", "float64"))
    assert (single == double.astype(np.float32)).all()


@pytest.mark.parametrize("spec", ALL)
def test_rows_depend_on_the_seed_only_where_something_is_drawn(spec: str) -> None:
    honest, more = normal(6, 5), everything(3, 5)
    first, again, other = (forge(spec, honest, 3, rng=seed, **more) for seed in (4, 4, 5))
    assert (first == again).all()
    if spec in RANDOM:
        assert (first != other).all()
    elif spec in FIXED:
        assert (first == other).all()


@pytest.mark.parametrize("spec", ["zero", "ipm", "lie", "fang_krum", "blind_spot", "mimic(warmup=0)"])
def test_colluders_without_own_data_or_draws_send_one_row(spec: str) -> None:
    rows = forge(spec, normal(6, 5), 3, **everything(3, 5))
    assert (rows == rows[0]).all()


@pytest.mark.trap("gaussian", "fang_trimmed_mean")
@pytest.mark.parametrize("spec", RANDOM)
def test_every_attacker_draws_for_itself(spec: str) -> None:
    rows = forge(spec, normal(6, 50), 4, **everything(4, 50))
    assert all(len(set(column)) == 4 for column in rows.T)


@pytest.mark.parametrize(
    ("spec", "keyword"),
    [("sign_flip", "clean"), ("mimic", "clean"), ("fang_trimmed_mean", "model"), ("blind_spot", "layout")],
)
def test_missing_input_is_named_by_the_keyword_to_pass(spec: str, keyword: str) -> None:
    with pytest.raises(AgrbenchError, match=f"pass {keyword}="):
        forge(spec, normal(3, 4), 2)


@pytest.mark.parametrize(
    ("spec", "named"),
    [("fang_trimmed_mean(space='weights')", "'models'.*'updates'"), ("blind_spot(strength=-0.1)", "strength")],
)
def test_settings_that_mean_nothing_are_refused(spec: str, named: str) -> None:
    with pytest.raises(AgrbenchError, match=named):
        forge(spec, normal(3, 4), 2, **everything(2, 4))


# ---------------------------------------------------------------- sign_flip, zero, gaussian


SIMPLE: dict[str, Callable[[Array, Array], Array]] = {
    "sign_flip": lambda clean, draws: -clean,
    "sign_flip(strength=0.3)": lambda clean, draws: -0.3 * clean,
    "size_inflation": lambda clean, draws: -clean,
    "size_inflation(scale=0.3,factor=50)": lambda clean, draws: -0.3 * clean,
    "zero": lambda clean, draws: 0 * clean,
    "gaussian": lambda clean, draws: 200 * draws,
    "gaussian(deviation=7.5)": lambda clean, draws: 7.5 * draws,
}


@pytest.mark.oracle(*SIMPLE)
@pytest.mark.parametrize("spec", SIMPLE)
@given(oracles.updates(), FORMS)
def test_rows_are_own_clean_updates_negated_or_nothing_or_scaled_draws(spec: str, clean: Array, form: Form) -> None:
    malicious, width = clean.shape
    rows = forge(spec, normal(3, width), malicious, form, clean=clean, rng=width)
    assert (rows == SIMPLE[spec](clean, drawn("randn", malicious, width, seed=width)).astype(form[1])).all()


# ---------------------------------------------------------------- ipm


@pytest.mark.oracle("ipm")
@given(oracles.updates(), st.sampled_from([0.1, 0.5, 1.0, 100.0]), FORMS)
def test_ipm_is_antiparallel_to_the_honest_mean_in_the_ratio_epsilon(honest: Array, epsilon: float, form: Form) -> None:
    row = forge(f"ipm(epsilon={epsilon})", honest, 1, form)[0]
    assert_near(row, slow.ipm(honest, epsilon), epsilon * np.abs(honest).max(axis=0), form)
    mean = honest.mean(axis=0)
    if oracles.norm(mean) > 1e-6 * np.abs(honest).max():
        # One rounding to float32 of each coordinate, and below 1e-6 the mean itself is made of rounding.
        assert oracles.cosine(row, mean) == pytest.approx(-1, rel=1e-6)
        assert oracles.norm(row) == pytest.approx(epsilon * oracles.norm(mean), rel=1e-6)


@pytest.mark.trap("ipm")
def test_ipm_halves_the_mean_of_updates_and_never_looks_at_the_weights() -> None:
    honest = np.array([[1.0, 4.0], [3.0, -8.0]])
    for model in (np.zeros(2), np.array([100.0, -100.0])):
        assert forge("ipm", honest, 2, model=model).tolist() == [[-1.0, 1.0], [-1.0, 1.0]]


# ---------------------------------------------------------------- lie


@pytest.mark.oracle("lie")
@given(oracles.updates(), st.data(), FORMS)
def test_lie_stays_within_z_deviations_of_the_honest_mean(honest: Array, data: st.DataObject, form: Form) -> None:
    malicious = data.draw(st.integers(1, len(honest)), label="malicious")
    given_z = data.draw(st.none() | st.sampled_from([-1.5, 0.0, 0.3, 2.0]), label="z")
    n = len(honest) + malicious
    z = slow.normal_quantile(slow.lie_share(n, malicious)) if given_z is None else given_z
    row = forge("lie" if given_z is None else f"lie(z={given_z})", honest, malicious, form)[0]
    assert np.isfinite(row).all()
    reach = abs(z) if np.isfinite(z) else 0.0  # infinite beside one honest client, who does not deviate
    size = (1 + reach) * np.abs(honest).max(axis=0)
    assert_near(row, slow.lie(honest, z), size, form)
    # Rounding, see above.
    assert (np.abs(row - honest.mean(axis=0)) <= reach * oracles.deviation(honest) + rounding(size, size, form)).all()


@pytest.mark.trap("lie")
@pytest.mark.parametrize(("n", "malicious", "z"), [(50, 15, 0.484), (50, 10, 0.253), (50, 25, 1.751), (3, 1, 0.0)])
def test_lie_takes_the_quantile_of_the_share_and_not_the_share_of_the_share(n: int, malicious: int, z: float) -> None:
    share = slow.lie_share(n, malicious)
    # Three published decimals.
    assert slow.normal_quantile(share) == pytest.approx(z, abs=5e-4)
    assert slow.normal_share(slow.normal_quantile(share)) == pytest.approx(share, abs=1e-12)
    honest = normal(n - malicious, 4)
    sent = (honest.mean(axis=0) - forge("lie", honest, malicious)[0]) / oracles.deviation(honest)
    assert sent == pytest.approx(z, abs=5e-4)
    assert abs(slow.normal_share(share) - z) > 0.1  # Phi in place of its inverse, such as 0.726 for 0.253


@pytest.mark.trap("lie")
def test_lie_divides_the_variance_by_one_less_than_the_honest_and_goes_below_the_mean() -> None:
    # One square root and one product.
    assert forge("lie(z=1.0)", np.array([[0.0], [2.0]]), 1)[0, 0] == pytest.approx(1 - 2**0.5, rel=1e-14)


@pytest.mark.trap("lie")
@pytest.mark.parametrize(("honest", "malicious"), [(1, 2), (4, 5), (4, 20)])
def test_lie_needs_a_supporter_to_make_a_majority(honest: int, malicious: int) -> None:
    with pytest.raises(AgrbenchError, match="needs fewer") as error:
        forge("lie", normal(honest, 3), malicious)
    assert str(malicious) in str(error.value)
    assert str(honest + malicious) in str(error.value) or str(honest) in str(error.value)


# ---------------------------------------------------------------- fang_krum


@pytest.mark.oracle("fang_krum")
@given(oracles.updates(), st.integers(1, 8), FORMS)
def test_fang_krum_halves_lambda_from_its_bound_until_krum_picks_it(honest: Array, malicious: int, form: Form) -> None:
    row = forge("fang_krum", honest, malicious, form)[0]
    sign, tries = np.sign(honest.mean(axis=0)), slow.fang_tries(honest, malicious)
    if not sign.any():
        assert not row.any()
        return
    size = np.abs(row).max()
    # Sums of square roots in float64, or one rounding to float32.
    close = max(1e-9, float(np.finfo(form[1]).eps))
    assert row == pytest.approx(-size * sign, rel=close)
    assert size <= tries[0].size * (1 + close)
    halvings = round(np.log2(tries[0].size / size))
    assert size == pytest.approx(tries[0].size / 2**halvings, rel=close)
    last = tries[halvings]
    # Squared distances keep nine digits, and those of rows that nearly coincide thirteen of the rows' own squares.
    room = 1e-13 * max(oracles.norm(g) ** 2 for g in honest)
    assert last.forged <= last.honest * (1 + 1e-9) + room or last.size < 1e-5
    for earlier in tries[:halvings]:
        assert earlier.forged >= earlier.honest * (1 - 1e-9) - room
        assert earlier.size >= 1e-5


@pytest.mark.peer("fang_krum", of="public copies of the authors' code, restated")
@given(oracles.updates(), st.integers(1, 4), FORMS)
def test_fang_krum_of_all_goes_against_the_mean_of_all_clean_updates(honest: Array, malicious: int, form: Form) -> None:
    clean = -3 * honest.mean(axis=0) + normal(malicious, honest.shape[1])
    clean = clean.astype(np.float32).astype(np.float64)
    rows = forge("fang_krum(direction='all')", honest, malicious, form, clean=clean)
    assume(honest.any())  # the bound is a length of honest rows
    total = np.array([math.fsum(column) for column in np.concatenate([honest, clean]).T])
    scale = np.abs(np.concatenate([honest, clean])).sum(axis=0)
    clear = np.abs(total) > 1e-12 * scale
    assert (np.sign(rows)[:, clear] == -np.sign(total)[clear]).all()
    assert (np.abs(rows[:, clear]) == np.abs(rows).max()).all()


@pytest.mark.trap("krum")
@pytest.mark.parametrize(("honest", "malicious"), [(35, 15), (12, 4), (8, 1), (5, 2)])
def test_krum_picks_what_fang_krum_sends(honest: int, malicious: int) -> None:
    updates = 0.3 + normal(honest, 6)
    together = np.concatenate([updates, forge("fang_krum", updates, malicious)])
    weights = agrbench.weigh(together, "krum", malicious).weights
    assert isinstance(weights, Tensor)
    lambda_ended = np.abs(together[-1]).max() < 1e-5
    assert int(weights.nonzero()[0]) >= honest or lambda_ended
    assert malicious == 1 or not lambda_ended


@pytest.mark.trap("fang_krum")
def test_fang_krum_divides_by_all_clients_less_twice_the_malicious_and_one() -> None:
    honest, m = 0.3 + normal(12, 5), 4
    size = np.abs(forge("fang_krum", honest, m)[0]).max()
    root, n = 5**0.5, 16
    norms = max(map(oracles.norm, honest)) / root
    sums = (slow.fang_bound(honest, m) - norms) * root * (n - 2 * m - 1)

    def halvings(denominator: float) -> float:
        return float(np.log2((sums / denominator + norms) / size))

    # A whole number of halvings, but for the rounding of sums.
    assert halvings((n - 2 * m - 1) * root) == pytest.approx(round(halvings((n - 2 * m - 1) * root)), abs=1e-9)
    for wrong in ((n - m - 2) * root, (n - 2 * m) * root, (n - m - 1) * root, n - 2 * m - 1, root):
        assert abs(halvings(wrong) - round(halvings(wrong))) > 1e-3


@pytest.mark.trap("fang_krum")
def test_fang_krum_loses_ties_to_the_honest() -> None:
    """Of two rows each is as far from the other, so that Krum stays with the first however small lambda is."""
    row = forge("fang_krum", np.array([[3.0, -1.0, 0.0]]), 1)[0]
    assert np.sign(row).tolist() == [-1, 1, 0]
    assert 5e-6 <= np.abs(row).max() < 1e-5


@pytest.mark.trap("fang_krum")
@pytest.mark.parametrize("malicious", [2, 3, 30])
def test_fang_krum_sends_the_bound_itself_where_colluders_are_their_own_neighbours(malicious: int) -> None:
    honest = np.array([[3.0, 4.0], [3.0, 2.0]])
    # The distance 2 and the norm 5, both by the square root of two coordinates.
    assert forge("fang_krum", honest, malicious) == pytest.approx(-(2 + 5) / 2**0.5, rel=1e-12)


# ---------------------------------------------------------------- fang_trimmed_mean


@pytest.mark.oracle("fang_trimmed_mean")
@pytest.mark.parametrize("space", ["models", "updates"])
@given(oracles.updates(), st.data(), st.integers(1, 5), st.sampled_from([1.0, 2.0, 10.0]), FORMS)
def test_fang_trimmed_mean_draws_beyond_all_honest_values_against_their_mean(
    space: str, honest: Array, data: st.DataObject, malicious: int, b: float, form: Form
) -> None:
    width, seed = honest.shape[1], data.draw(st.integers(0, 9), label="seed")
    model = data.draw(oracles.updates((1, 1), (width, width)), label="model")[0]
    base = model if space == "models" else np.zeros(width)
    more = {"model": model} if space == "models" else {}
    options = f"b={b}" if space == "models" else f"b={b}, space='updates'"  # models are the default
    rows = forge(f"fang_trimmed_mean({options})", honest, malicious, form, rng=seed, **more)
    low, high = np.array(slow.fang_intervals(honest, base, b)).T
    assert (low <= high).all()
    size = np.maximum(np.abs(low), np.abs(high)) + np.abs(base)
    values = low + drawn("rand", malicious, width, seed=seed) * (high - low)
    assert_near(rows, values - base, size, form)
    # Rounding, see above.
    room = rounding(size, rows, form)
    assert (rows + base >= low - room).all()
    assert (rows + base <= high + room).all()
    falling = honest.mean(axis=0) < 0
    assert np.where(falling, rows >= honest.max(axis=0) - room, rows <= honest.min(axis=0) + room).all()


@pytest.mark.trap("fang_trimmed_mean")
def test_fang_trimmed_mean_draws_between_the_extreme_and_its_double_or_half() -> None:
    """Both directions, extremes of both signs, and a mean of zero, which counts as going up."""
    honest = np.array([[-3.0, -3, 1, 1, 1, 0], [-1.0, 2, 3, -0.5, -1, 0]])
    rows = forge("fang_trimmed_mean(space='updates')", honest, 2000)
    ends = [(-1, -0.5), (2, 4), (0.5, 1), (-1, -0.5), (-2, -1), (0, 0)]
    for column, (low, high) in zip(rows.T, ends, strict=True):
        assert low <= column.min() <= column.max() <= high
        # 2000 draws leave no hundredth at either end empty but once in a hundred million times.
        assert column.min() - low <= 0.01 * (high - low)
        assert high - column.max() <= 0.01 * (high - low)


# ---------------------------------------------------------------- mimic


class Colluders:
    """An attack over the rounds of a run, with one memory; every round's updates lie in the same buffer."""

    def __init__(self, spec: str, seed: int = 0, first: int = 1) -> None:
        self.attack, self.seed, self.first, self.number = REGISTRY.attack(spec), seed, first, first
        self.memory: dict[str, Any] = {}
        self.buffer = torch.empty(0)

    def play(self, honest: Array, clean: Array, form: Form = EXACT) -> Array:
        if self.number == self.first:
            self.buffer = torch.empty(honest.shape, dtype=getattr(torch, form[1]))
        updates, own = self.buffer.copy_(torch.from_numpy(honest)), torch.from_numpy(clean.astype(form[1]))
        untouched, m = updates.clone(), len(clean)
        insider = Insider(
            malicious=m, clients=len(honest) + m, byzantine=m, layout=None, number=self.number, memory=self.memory,
            rng=generator(self.seed, "attack", self.number), honest=lambda: updates, clean=lambda: own,
        )  # fmt: skip
        rows = ask(self.attack, insider, honest.shape[1]).double().numpy().copy()
        assert torch.equal(updates, untouched)
        assert (own.numpy() == clean).all()
        self.number += 1
        return rows


def copied(spec: str, rounds: Sequence[Array], warmup: int, form: Form = EXACT, **more: int) -> set[int]:
    """Play the rounds, check that warm-up is honest, and give the clients of whom all else may be copies."""
    colluders, width = Colluders(spec, **more), rounds[0].shape[1]
    candidates = set(range(len(rounds[0])))
    for number, honest in enumerate(rounds):
        clean = normal(2, width, 100 + number)
        rows = colluders.play(honest, clean, form)
        if number < warmup:
            assert (rows == clean).all()
        else:
            candidates = {i for i in candidates if (rows == honest[i]).all()}
    return candidates


@pytest.mark.oracle("mimic")
@given(oracles.updates(width=(4, 40)), st.integers(0, 3), st.integers(0, 99), st.integers(1, 5), FORMS)
def test_mimic_copies_the_client_furthest_along_the_direction_it_learned(
    wide: Array, warmup: int, seed: int, first: int, form: Form
) -> None:
    rounds = np.split(wide[:, : wide.shape[1] // 4 * 4], 4, axis=1)
    learned = rounds[: max(warmup, 1)]
    found = slow.top_direction(learned, drawn("randn", rounds[0].shape[1], seed=seed, number=first))
    assume(found.clarity > 1e-6)  # below, rounding points elsewhere
    scores = slow.mimic_scores(learned, found.vector)
    # Rounding in float64, that little clarity may raise a million times.
    room = 1e-9 * max(oracles.norm(np.sum([g[i] for g in learned], axis=0)) for i in range(len(wide)))
    victims = copied(f"mimic(warmup={warmup})", rounds, warmup, form, seed=seed, first=first)
    assert any(scores[i] >= max(scores) - room for i in victims)


@pytest.mark.trap("mimic")
@given(oracles.updates(width=(4, 40)), st.integers(1, 3), st.integers(0, 99), FORMS)
def test_released_mimic_copies_the_client_furthest_along_at_once_and_keeps_the_last(
    wide: Array, warmup: int, seed: int, form: Form
) -> None:
    rounds = np.split(wide[:, : wide.shape[1] // 4 * 4], 4, axis=1)
    start = drawn("randn", rounds[0].shape[1], seed=seed)
    found = [slow.top_direction(rounds[: k + 1], start, released=True) for k in range(warmup)]
    assume(all(each.clarity > 1e-6 for each in found))  # below, rounding points elsewhere
    colluders = Colluders(f"mimic(warmup={warmup},version='released')", seed)
    for k, honest in enumerate(rounds):
        [sent, _] = colluders.play(honest, normal(2, honest.shape[1], k), form)
        watched, z = rounds[min(k, warmup - 1)], found[min(k, warmup - 1)].vector
        along = [float(row @ z) for row in watched]
        room = 1e-9 * max(map(oracles.norm, watched))  # as for the exact one
        assert any((sent == row).all() and score >= max(along) - room for row, score in zip(honest, along, strict=True))


@pytest.mark.trap("mimic")
@pytest.mark.parametrize("seed", range(5))
def test_mimic_centres_updates_on_their_mean_over_all_rounds(seed: int) -> None:
    """All clients move along the second axis from one round to the next, which each round's own mean would hide.

    Round 0 leaves the direction (1, 1). In round 1 the mean so far is (0, 5), so the drift turns it to the second axis,
    along which the sums are 10, 10 and 10.5. Along (1, 1) client 0 would stand out, by 12 to 10.5.
    """
    rounds = [np.array([[1.0, 1], [-1, -1], [0, 0]]), np.array([[1.0, 9], [-1, 11], [0, 10.5]]), normal(3, 2, 1)]
    assert copied("mimic(warmup=2)", rounds, 2, seed=seed) == {2}


@pytest.mark.trap("mimic")
@pytest.mark.parametrize("seed", range(8))
def test_released_mimic_is_signed_and_looks_at_the_last_round_alone(seed: int) -> None:
    first, second = line(1, 2, -9) * np.array([1.0, 0]), line(4, 3, -9) * np.array([1.0, 0])
    later = normal(3, 2, 1)
    colluders, clean = Colluders("mimic(warmup=2,version='released')", seed), normal(1, 2, 2)
    sent = [colluders.play(honest, clean)[0].tolist() for honest in (first, second, later)]
    forward = drawn("randn", 2, seed=seed)[0] > 0
    expected = [first[1], second[0], later[0]] if forward else [first[2], second[2], later[2]]
    assert sent == [row.tolist() for row in expected]
    assert copied("mimic(warmup=2)", [first, second, later], 2, seed=seed) == {2}  # 18 against 5, whatever the sign


@pytest.mark.trap("mimic")
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("victim", [0, 3, 9])
def test_mimic_finds_the_clear_direction_of_the_largest_variance(seed: int, victim: int) -> None:
    """The clients differ most along the first axis, though the longest update by far is along the second."""
    size, d = 10, 30
    steady = 0.05 * normal(size, d, seed)
    steady[:, 0] += np.array([2.0, -2.0] * 5)
    steady[victim, 0] *= 1.3
    steady[(victim + 1) % size, :2] = 0, 4
    steady[:, 2] += 3.0  # what all have in common is no variance
    rounds = [(steady + 0.05 * normal(size, d, 50 + t)).astype(np.float32).astype(np.float64) for t in range(13)]
    assert copied("mimic", rounds, 10, seed=seed) == {victim}
    moved = [np.roll(honest, 1, axis=0) for honest in rounds]
    assert copied("mimic", moved, 10, seed=seed) == {(victim + 1) % size}
    direction = slow.top_direction(rounds[:10], drawn("randn", d, seed=seed)).vector
    # Ten steps, each of which more than halves what is not along the axis.
    assert abs(direction[0]) > 0.95


@pytest.mark.trap("mimic")
@pytest.mark.parametrize(("size", "width"), [(2, 3), (5, 7), (9, 33), (13, 1000)])
@pytest.mark.parametrize("first", [0, 1])
def test_mimic_copies_the_first_of_clients_that_were_alike(size: int, width: int, first: int) -> None:
    alike = [np.repeat(normal(1, width, t), size, axis=0) for t in range(3)]
    for honest in alike:
        honest[:first] = 0
    assert copied("mimic(warmup=3)", [*alike, normal(size, width, 9)], 3) == {first}


@pytest.mark.trap("mimic")
def test_mimic_hardly_turns_for_a_round_of_little_variance() -> None:
    large, small, later = np.array([[2.0, 0], [-1, 0], [-1, 0]]), np.zeros((3, 2)), normal(3, 2)
    small[1] = 1e-9, 1e-3  # a step from scratch would turn to the second axis, where client 1 alone has moved
    assert copied("mimic(warmup=2)", [large, small, later], 2) == {0}


@pytest.mark.trap("mimic")
def test_mimic_draws_its_first_direction() -> None:
    rounds = [normal(8, 20, 1)]
    victims = [copied("mimic(warmup=0)", rounds, 0, seed=seed) for seed in range(20)]
    assert len({i for found in victims for i in found}) > 1
    assert victims == [copied("mimic(warmup=0)", rounds, 0, seed=seed) for seed in range(20)]


# ---------------------------------------------------------------- blind_spot


@pytest.mark.oracle("blind_spot")
@given(oracles.layouts(), st.integers(1, 3), st.data(), FORMS)
def test_blind_spot_looks_like_the_mean_honest_view_at_any_strength(
    shapes: list[tuple[int, ...]], kernel: int, data: st.DataObject, form: Form
) -> None:
    width = oracles.parameters(shapes)
    honest = data.draw(oracles.updates((1, 8), (width, width)), label="honest")
    unseen = None
    for strength in (0.0, 1.0, 2.0**-40, 1e6):
        spec = f"blind_spot(strength={strength}, kernel={kernel})"
        rows = forge(spec, honest, 2, form, layout=shapes)
        assert_near(rows[0], slow.blind_spot(honest, shapes, kernel, strength), np.abs(honest).max() + strength, form)
        views = [agrbench.amplify(as_given(rows, form), shapes, kernel, restore) for restore in (False, True)]
        seen = [np.asarray(view, dtype=np.float64) for view in views]
        assert (seen[0][0] == oracles.pooled(rows[0], shapes, kernel)).all()
        assert (seen[1][0] == oracles.restored(rows[0], shapes, kernel)).all()
        unseen = seen if unseen is None else unseen
        assert all((a == b).all() for a, b in zip(seen, unseen, strict=True))
        pooled = oracles.pooled_rows(honest, shapes, kernel)
        assert_near(seen[0][0], pooled.mean(axis=0), np.abs(pooled).max(axis=0), form)
        if kernel == 1:
            assert_near(rows[0], honest.mean(axis=0), np.abs(honest).max(axis=0), form)


@pytest.mark.trap("blind_spot")
def test_blind_spot_lowers_all_but_the_first_entry_of_each_patch_by_one() -> None:
    honest = np.array([[1.0, 2, 0, 5, 4, 3], [3.0, 0, 1, 0, 0, 2]])  # 2 x 3: a full patch, and a ragged one
    assert forge("blind_spot", honest, 1, layout=[(2, 3)])[0].tolist() == [4, 3, 2.5, 3, 3, 1.5]


@pytest.mark.trap("blind_spot")
def test_blind_spot_hides_in_layers_that_torch_stores_output_first() -> None:
    layout = Layout.of(nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(5, 4), nn.LayerNorm(4)))
    honest = normal(4, layout.parameters)
    rows = np.concatenate([forge(f"blind_spot(strength={s})", honest, 1, layout=layout) for s in (0.0, 3.0)])
    assert (rows[0] != rows[1]).any()
    for restore in (False, True):
        view = agrbench.amplify(rows, layout, 2, restore)
        assert (view[0] == view[1]).all()
