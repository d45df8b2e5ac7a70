"""Stability: the largest fall between evaluations, and the warning about runs that nobody attacks."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from agrbench.cli import main
from agrbench.results.metrics import groups
from agrbench.results.stability import largest_fall, unstable, warning
from tests.helpers.records import measured


@pytest.mark.parametrize(
    ("accuracy", "first", "fall"),
    [
        ([0.9, 0.5, 0.6, 0.6, 0.7], 10, 0.0),  # what falls before the first counted evaluation
        ([0.9, 0.5, 0.6, 0.6, 0.7], 0, 40.0),
        ([0.1, 0.9, 0.85, 0.88, 0.8], 10, 8.0),
        ([0.1, 0.9, 0.85, 0.88, 0.8], 40, 0.0),  # one evaluation
        ([0.1, 0.9, 0.85, 0.88, 0.8], 50, 0.0),  # none
    ],
)
def test_the_largest_fall_is_between_neighbouring_evaluations_that_count(
    accuracy: list[float], first: int, fall: float
) -> None:
    assert largest_fall(range(0, 50, 10), accuracy, first) == pytest.approx(fall)


def test_a_warning_names_the_worst_seed_of_the_run_without_attack_or_defense() -> None:
    shaken = [measured("fedavg", "none", seed, [0.1, 0.8, 0.8 - 0.015 * seed, 0.9, 0.9]) for seed in range(3)]
    attacked = [
        measured("fedavg", "lie", 0, [0.1, 0.8, 0.2, 0.1, 0.1]),
        measured("krum", "none", 0, [0.9, 0.9, 0, 0, 0]),
    ]
    (group,) = groups([*shaken, *attacked])
    told = warning(group)
    assert told is not None
    assert "digits is unstable" in told
    assert "falls by 3.0 points between two evaluations (seed 2)" in told
    (calm,) = groups([*shaken[:2], *attacked])
    assert warning(calm) is None


@pytest.mark.parametrize(("rate", "warned"), [("2", True), ("0.5", False)])
def test_a_grid_warns_where_training_is_unstable(rate: str, warned: bool, tmp_path: object) -> None:
    words = f"grid -D digits -a none -d fedavg --clients 5 --rounds 60 --start 10 --seeds 1 --only-base --rate {rate}"
    done = CliRunner().invoke(main, [*words.split(), "--out", str(tmp_path)])
    assert done.exit_code == 0
    assert ("Warning: digits is unstable" in done.stderr) == warned


def test_a_loss_is_unstable_if_both_runs_are_and_not_for_the_reference_itself() -> None:
    shaken, calm = [0.1, 0.8, 0.7, 0.9, 0.9], [0.1, 0.8, 0.8, 0.9, 0.9]
    runs = {("fedavg", "none"): shaken, ("fedavg", "lie"): shaken, ("krum", "none"): calm}
    (group,) = groups([measured(defense, attack, 0, curve) for (defense, attack), curve in runs.items()])
    assert {run: unstable(group, *run) for run in runs} == {
        ("fedavg", "none"): False, ("fedavg", "lie"): True, ("krum", "none"): False,
    }  # fmt: skip
