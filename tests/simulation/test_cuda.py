"""The same path on a CUDA device: the CPU's results to rounding, and nothing read back within a round.

Where there is no such device these tests are not run, and the summary says so by name (tests/conftest.py).
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from agrbench.cells import Cell
from agrbench.plugins.registry import Registry
from agrbench.simulation.run import Run

SMALL: dict[str, Any] = {"clients": 10, "rounds": 20, "start": 10}


def played(defense: str, attack: str, device: str, rounds: int, **settings: Any) -> Run:
    run = Run(Cell("digits", defense, attack, device=device, **{**SMALL, **settings}), Registry())
    run.play(rounds)
    return run


@pytest.mark.cuda
@pytest.mark.parametrize("schedule", ["sgd", "sgd(momentum=0.9)", "adam(epochs=2,batches=2)"])
@pytest.mark.parametrize("defense", ["fedavg", "amp+cosden", "median", "fltrust", "amp+fang", "centered_clipping"])
def test_the_model_is_the_cpu_s_to_rounding(defense: str, schedule: str) -> None:
    here, there = (played(defense, "min_max", device, 12, schedule=schedule).state.model for device in ("cpu", "cuda"))
    # float32: a dozen steps, each a sum over rows in another order; a rule that chooses otherwise is far beyond it
    torch.testing.assert_close(there.cpu(), here, rtol=1e-3, atol=1e-4)


@pytest.mark.cuda
@pytest.mark.parametrize("attack", ["none", "label_flip", "scaling", "adaptive", "mimic"])
def test_every_kind_of_attack_gives_the_cpu_s_curve(attack: str) -> None:
    here, there = (played("amp+multi_krum", attack, device, 20).measured() for device in ("cpu", "cuda"))
    # of 360 test images, the few whose two best scores are nearly equal
    assert there["accuracy"] == pytest.approx(here["accuracy"], abs=0.02)


@pytest.mark.cuda
@pytest.mark.parametrize("schedule", ["sgd", "sgd(momentum=0.9)", "adam(epochs=2,batches=2)"])
def test_training_reads_nothing_back(schedule: str) -> None:
    run = played("fedavg", "none", "cuda", 2, schedule=schedule)
    torch.cuda.set_sync_debug_mode("error")
    try:
        run.clean.train(run.state.model)
    finally:
        torch.cuda.set_sync_debug_mode("default")
