"""Tuning: the rate of best held-out accuracy, chosen without a look at the test set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agrbench.cells import Cell
from agrbench.data.examples import Examples
from agrbench.errors import PluginError
from agrbench.plugins.registry import Registry
from agrbench.simulation import tuning
from agrbench.simulation.engines.local import Local
from agrbench.simulation.preparation import load, prepare
from agrbench.simulation.run import simulate
from agrbench.simulation.tuning import Trial, best, held_out, nudged, pair, tune
from tests.helpers import plugins


def dataset(folder: Path, name: str, test: str) -> Registry:
    """Write a dataset that is digits but for its test set."""
    path = plugins.write(
        folder,
        name,
        f"""
        from agrbench.datasets import digits
        from agrbench.plugins import Dataset, Source
        def load():
            train, test = digits.load()
            return train, {test}
        dataset = Dataset(load, model="mlp(16)", rate=0.5, root_size=100, source=Source("CC BY 4.0"))
        """,
    )
    return Registry([path])


def tuned(cell: Cell, rates: list[float], registry: Registry, seeds: int = 3, *report: Any) -> list[Trial]:
    with Local(registry, 1, work=pair) as engine:
        return list(tune(cell, rates, engine, seeds, *report))


def test_the_test_set_has_no_part_in_it(tmp_path: Path) -> None:
    """The same trials come of the true test set and of one whose features are all 0."""
    cells = {name: Cell(name, "fedavg", "none", clients=5, rounds=10, start=10) for name in ("plain", "blank")}
    true = tuned(cells["plain"], [0.1, 0.5], dataset(tmp_path, "plain", "test"))
    blank = tuned(cells["blank"], [0.1, 0.5], dataset(tmp_path, "blank", "test._replace(features=test.features * 0)"))
    assert true == blank
    assert true[0] != true[1]


@given(rows=st.integers(2, 200))
def test_held_out_rows_are_a_tenth_and_train_nobody(rows: int) -> None:
    numbers = torch.arange(rows)
    train, test = held_out(Examples(numbers[:, None].float(), numbers % 2, 2))
    assert sorted([*train.features[:, 0].tolist(), *test.features[:, 0].tolist()]) == numbers.tolist()
    assert len(test.labels) == max(round(rows / 10), 1)


def test_a_trial_is_a_run_at_its_rate_on_the_rows_left(tmp_path: Path) -> None:
    cell = Cell("digits", "krum", "label_flip", clients=5, rounds=20, start=10, partition="dirichlet")
    ran: list[str] = []
    (trial,) = tuned(cell, [0.3], Registry(), 2, ran.append)
    assert sorted(ran) == ["0.3, seed 0", "0.3, seed 1"]
    digits = Registry().dataset("digits")
    curves, moved = [], []
    for seed in range(2):
        plain = Cell("digits", "fedavg", "none", seed, clients=5, rounds=20, start=10, partition="dirichlet", rate=0.3)
        federation, learner = prepare(plain, digits, held_out(load(digits)[0]))
        curves.append(simulate(plain, Registry(), (federation, learner))["accuracy"][1:])
        moved.append(simulate(plain, Registry(), (federation, nudged(learner, seed)))["accuracy"][1:])
    assert trial.mean == pytest.approx((sum(curves[0]) + sum(curves[1])) / 4)
    assert trial.final == pytest.approx((curves[0][1] + curves[1][1]) / 2)
    assert trial.fall == pytest.approx(100 * max(0, *(curve[0] - curve[1] for curve in curves)))
    assert trial.drift == pytest.approx(100 * max(abs(curves[s][t] - moved[s][t]) for s in range(2) for t in range(2)))
    assert trial.spread == pytest.approx(100 * max(abs(a - b) for a, b in zip(*curves, strict=True)))


def test_a_nudged_model_starts_a_millionth_away_and_the_learner_keeps_its_own() -> None:
    cell = Cell("digits", "fedavg", "none", clients=5)
    _, learner = prepare(cell, Registry().dataset("digits"), load(Registry().dataset("digits")))
    before = learner.initial.clone()
    moved = nudged(learner, 0).initial - before
    assert torch.equal(learner.initial, before)
    assert 0.9e-6 < float(moved.std()) < 1.1e-6


def test_a_rate_at_the_edge_of_stability_is_tried_and_not_chosen() -> None:
    """Digits at rate 1 end higher than at 0.5 and lose over 5 points on the way (and over 20 after a nudge)."""
    cell = Cell("digits", "fedavg", "none", clients=20, rounds=100, start=20)
    trials = tuned(cell, [0.5, 1.0], Registry(), 2)
    assert trials[1].final > trials[0].final
    assert [trial.stable for trial in trials] == [True, False]
    assert best(trials) == trials[0]


def trial(rate: float, mean: float, fall: float = 0.0, drift: float = 0.0) -> Trial:
    return Trial(rate, mean, mean, fall, drift, 0.0)


def test_the_best_trial_is_stable_with_the_highest_mean_and_of_several_the_smallest_rate() -> None:
    trials = [trial(1.0, 0.8), trial(0.5, 0.8, fall=2.0, drift=1.0), trial(0.1, 0.7)]
    assert best(trials) == trials[1]
    unstable = [trial(2.0, 0.9, fall=2.1), trial(5.0, 0.9, drift=1.1)]
    assert best([*trials, *unstable]) == trials[1]
    assert best(unstable) is None


@pytest.mark.parametrize(("schedule", "inside"), [("sgd(momentum=0.9)", 0.5), ("adam(epochs=2)", 1e-3)])
def test_the_rates_tried_are_those_of_the_optimizer(schedule: str, inside: float) -> None:
    tried = tuning.candidates(Cell("digits", "fedavg", "none", schedule=schedule))
    assert inside in tried
    assert list(tried) == sorted(tried)


def test_what_is_wrong_with_a_plugin_ends_it(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"wrong\.py.*ZeroDivisionError"):
        tuned(Cell("wrong", "fedavg", "none", clients=5, rounds=10), [0.1], dataset(tmp_path, "wrong", "1 / 0"))
