"""`lie(search=True)` and `ipm(search=True)`: the factor that moves the stack's step furthest, as ByzFL finds it."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import agrbench
from agrbench.clients.insider import Insider
from agrbench.clients.insider import forge as ask
from agrbench.errors import AgrbenchError, Inapplicable
from agrbench.plugins.registry import Registry
from agrbench.randomness import generator
from tests.helpers import oracles
from tests.helpers import oracles_attacks as slow
from tests.helpers.oracles import Array

REGISTRY = Registry(())
EVALUATIONS = 20
FORMULAS: dict[str, Callable[[Array, float], Array]] = {"ipm": slow.ipm, "lie": slow.lie}
ROWS = np.random.default_rng(0).normal(size=(9, 6)) + 1
Answer = Callable[[Array], Array]


def attacked(attack: str, honest: Array, answer: Answer, malicious: int = 3) -> tuple[Array, list[Array]]:
    """Let a stack that answers so be attacked; the row that is sent, and the rows that were asked about."""
    asked: list[Array] = []

    def respond(rows: Tensor) -> Tensor:
        assert rows.shape == (malicious, honest.shape[1])
        assert (rows == rows[0]).all()
        asked.append(rows[0].double().numpy().copy())
        return torch.from_numpy(answer(asked[-1]))

    insider = Insider(
        malicious=malicious, clients=len(honest) + malicious, byzantine=malicious, layout=None, number=1, memory={},
        rng=generator(0, "attack", 1), honest=lambda: torch.from_numpy(honest.copy()), respond=lambda: respond,
    )  # fmt: skip
    rows = ask(REGISTRY.attack(f"{attack}(search=True)"), insider, honest.shape[1]).numpy()
    assert (rows == rows[0]).all()
    return rows[0], asked


def rejecting(mean: Array, limit: float) -> Answer:
    """Take a row in whole up to a distance from the mean, and leave it out beyond."""
    return lambda row: row if oracles.distance(row, mean) <= limit else mean


def saturating(mean: Array, limit: float) -> Answer:
    """Move the further, the further the row is, and never as far as the limit."""
    return lambda row: mean + (row - mean) * limit / (limit + oracles.distance(row, mean))


def breaking(mean: Array, limit: float) -> Answer:
    return lambda row: row if oracles.distance(row, mean) <= limit else np.full_like(row, np.nan)


@pytest.mark.oracle("ipm", "lie")
@pytest.mark.parametrize("attack", FORMULAS)
@pytest.mark.parametrize("kind", [rejecting, saturating, breaking])
@settings(max_examples=25)
@given(oracles.updates((2, 12)), st.floats(0.1, 1e4))
def test_the_search_tries_the_factors_of_its_definition_and_sends_the_worst(
    attack: str, kind: Callable[[Array, float], Answer], honest: Array, limit: float
) -> None:
    mean, formula = honest.mean(axis=0), FORMULAS[attack]
    answer = kind(mean, limit)
    sent, asked = attacked(attack, honest, answer)
    # Both compute a row with a few roundings, which must not decide a comparison: the stack answers what it was asked.
    steps = iter([oracles.distance(answer(row), mean) for row in asked])
    tried = slow.searched_factors(lambda _: next(steps), EVALUATIONS)
    assert len(asked) == EVALUATIONS
    room = 1e-9 * (np.abs(honest).max() + np.abs(asked).max())
    for (factor, _), row in zip(tried, asked, strict=True):
        assert np.abs(row - formula(honest, factor)).max() <= room
    best, _ = max(tried, key=lambda pair: pair[1])
    assert np.abs(sent - formula(honest, best)).max() <= room


@pytest.mark.trap("ipm", "lie")
@pytest.mark.parametrize("attack", FORMULAS)
def test_the_search_doubles_its_increment_while_it_pays_then_shrinks_it_and_stays_above_the_best(attack: str) -> None:
    """The stack takes factors up to 75 in whole: 0, 10, 30 and 70 pay, 150 does not, then 64, 51.2, ... above 70."""
    mean = ROWS.mean(axis=0)
    limit = oracles.distance(FORMULAS[attack](ROWS, 75.0), mean)
    _, asked = attacked(attack, ROWS, rejecting(mean, limit))
    length = oracles.distance(FORMULAS[attack](ROWS, 1.0), FORMULAS[attack](ROWS, 0.0))
    start = FORMULAS[attack](ROWS, 0.0)
    factors = [oracles.distance(row, start) / length for row in asked]
    assert factors[:5] == pytest.approx([0, 10, 30, 70, 150])
    assert factors[5:7] == pytest.approx([70 + 80 * 0.8, 70 + 80 * 0.64])
    assert max(factor for factor in factors if factor <= 75) == pytest.approx(factors[-1], abs=5)


@pytest.mark.trap("ipm", "lie")
@pytest.mark.parametrize(("attack", "start"), [("ipm", np.zeros(6)), ("lie", ROWS.mean(axis=0))])
def test_a_stack_that_nothing_moves_is_sent_the_first_row(attack: str, start: Array) -> None:
    sent, _ = attacked(attack, ROWS, lambda row: ROWS.mean(axis=0))
    assert sent == pytest.approx(start, abs=1e-15)


@pytest.mark.trap("lie")
def test_lie_with_a_search_needs_no_honest_majority_and_refuses_a_z() -> None:
    assert np.isfinite(agrbench.forge("lie(search=True)", ROWS[:2], 3, defense="fedavg")).all()
    with pytest.raises(AgrbenchError, match=r"write lie\(search=True\) or lie\(z=1\.5\)"):
        agrbench.forge("lie(search=True, z=1.5)", ROWS, 3, defense="median")


@pytest.mark.trap("ipm", "lie")
@pytest.mark.parametrize("attack", FORMULAS)
def test_only_the_search_asks_the_stack_and_says_so(attack: str) -> None:
    searching, plain = (REGISTRY.attack(spec).record for spec in (f"{attack}(search=True)", attack))
    assert searching.queries
    assert not plain.queries
    with pytest.raises(Inapplicable, match=f"{attack}.* does not rehearse fedinv"):
        agrbench.forge(f"{attack}(search=True)", ROWS, 3, defense="fedinv")
    with pytest.raises(AgrbenchError, match="pass defense="):
        agrbench.forge(f"{attack}(search=True)", ROWS, 3)


@pytest.fixture(scope="module")
def byzfl() -> Any:
    """Import byzfl without its benchmark subpackage, which needs torchvision and no attack needs."""
    sys.modules.setdefault("byzfl.benchmark", types.ModuleType("byzfl.benchmark"))
    return importlib.import_module("byzfl")


def peer(byzfl: Any, defense: str) -> tuple[Any, list[Any]]:
    """The same stack as byzfl's aggregator and pre-aggregators, for three attackers."""
    stages, rule = (["nnm"], defense.removeprefix("nnm+")) if defense.startswith("nnm+") else ([], defense)
    rules = {"fedavg": byzfl.Average, "median": byzfl.Median, "trimmed_mean": lambda: byzfl.TrMean(3)}
    return rules[rule](), [byzfl.NNM(3) for _ in stages]


@pytest.mark.peer("ipm", of="byzfl.Optimal_InnerProductManipulation")
@pytest.mark.parametrize("defense", ["fedavg", "median", "trimmed_mean", "nnm+median", "nnm+trimmed_mean"])
@pytest.mark.parametrize("shift", [0.0, 0.3, 1.0])
def test_searched_ipm_equals_the_peer(byzfl: Any, defense: str, shift: float) -> None:
    rows = ROWS - 1 + shift
    (ours, *_) = agrbench.forge("ipm(search=True)", rows, 3, defense=defense)
    theirs = byzfl.Optimal_InnerProductManipulation(*peer(byzfl, defense), 3)(rows.copy())
    assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-12)


@pytest.mark.peer("lie", of="byzfl.Optimal_ALittleIsEnough")
@pytest.mark.parametrize("defense", ["fedavg", "median", "trimmed_mean", "nnm+median", "nnm+trimmed_mean"])
@pytest.mark.parametrize("shift", [0.0, 0.3, 1.0])
def test_searched_lie_equals_the_peer_that_goes_below_the_mean(byzfl: Any, defense: str, shift: float) -> None:
    rows = ROWS - 1 + shift
    (ours, *_) = agrbench.forge("lie(search=True)", rows, 3, defense=defense)
    theirs = byzfl.Optimal_ALittleIsEnough(*peer(byzfl, defense), 3, delta=-10.0)(rows.copy())
    assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-12)
