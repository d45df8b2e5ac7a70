"""Tuning: the rate of best held-out accuracy, chosen without a look at the test set."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agrbench.cells import Cell
from agrbench.data.examples import Examples
from agrbench.plugins.registry import Registry
from agrbench.simulation import tuning
from agrbench.simulation.preparation import load, prepare
from agrbench.simulation.run import simulate
from agrbench.simulation.tuning import Trial, best, held_out, tune
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


def test_the_test_set_has_no_part_in_it(tmp_path: Path) -> None:
    """The same trials come of the true test set and of one whose features are all 0."""
    cells = {name: Cell(name, "fedavg", "none", clients=5, rounds=10, start=10) for name in ("plain", "blank")}
    true = list(tune(cells["plain"], [0.1, 0.5], dataset(tmp_path, "plain", "test")))
    blank = list(
        tune(cells["blank"], [0.1, 0.5], dataset(tmp_path, "blank", "test._replace(features=test.features * 0)"))
    )
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
    (trial,) = tune(cell, [0.3], Registry())
    digits = Registry().dataset("digits")
    plain = Cell("digits", "fedavg", "none", clients=5, rounds=20, start=10, partition="dirichlet", rate=0.3)
    prepared = prepare(plain, digits, held_out(load(digits)[0]))
    curve = simulate(plain, Registry(), prepared)["accuracy"]
    assert trial == Trial(0.3, (curve[1] + curve[2]) / 2, curve[2])


def test_the_best_trial_has_the_highest_mean_and_of_several_the_smallest_rate() -> None:
    trials = [Trial(1.0, 0.8, 0.9), Trial(0.5, 0.8, 0.7), Trial(0.1, 0.7, 1.0)]
    assert best(trials) == trials[1]


@pytest.mark.parametrize(("schedule", "inside"), [("sgd(momentum=0.9)", 0.5), ("adam(epochs=2)", 1e-3)])
def test_the_rates_tried_are_those_of_the_optimizer(schedule: str, inside: float) -> None:
    tried = tuning.candidates(Cell("digits", "fedavg", "none", schedule=schedule))
    assert inside in tried
    assert list(tried) == sorted(tried)


def test_threads_are_as_before() -> None:
    before = torch.get_num_threads()
    list(tune(Cell("digits", "fedavg", "none", clients=5, rounds=10, threads=before + 1), [0.1], Registry()))
    assert torch.get_num_threads() == before
