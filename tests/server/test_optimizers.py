"""Server optimizers: FedAvgM and Algorithm 2 of Reddi et al. (ICLR 2021), written out number by number."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agrbench.server.optimizers import named

STEPS = st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=6)


def followed(server: str, steps: list[float]) -> list[float]:
    """Return the movements of a model of one parameter."""
    move, kept = named(server), dict[str, torch.Tensor]()
    return [float(move(torch.tensor([step], dtype=torch.float64), kept)) for step in steps]


@given(steps=STEPS)
def test_without_momentum_the_model_moves_by_the_rate_times_the_step(steps: list[float]) -> None:
    assert followed("sgd", steps) == steps
    assert followed("sgd(rate=0.5)", steps) == [0.5 * step for step in steps]


@given(steps=STEPS, momentum=st.sampled_from([0.5, 0.9]))
def test_momentum_adds_up_the_steps(steps: list[float], momentum: float) -> None:
    velocity, wanted = 0.0, []
    for step in steps:
        velocity = momentum * velocity + step
        wanted.append(0.1 * velocity)
    assert followed(f"sgd(rate=0.1,momentum={momentum})", steps) == pytest.approx(wanted)


@pytest.mark.parametrize("name", ["adagrad", "adam", "yogi"])
@given(steps=STEPS)
def test_adaptive_optimizers_follow_their_definitions(name: str, steps: list[float]) -> None:
    rate, beta1, beta2, tau = 0.05, 0.8, 0.95, 0.01
    mean, scale, wanted = 0.0, tau**2, []
    for step in steps:
        mean = beta1 * mean + (1 - beta1) * step
        if name == "adagrad":
            scale = scale + step**2
        elif name == "adam":
            scale = beta2 * scale + (1 - beta2) * step**2
        elif scale > step**2:  # yogi
            scale = scale - (1 - beta2) * step**2
        elif scale < step**2:
            scale = scale + (1 - beta2) * step**2
        wanted.append(rate * mean / (math.sqrt(scale) + tau))
    second = "" if name == "adagrad" else f",beta2={beta2}"
    assert followed(f"{name}(rate={rate},beta1={beta1}{second},tau={tau})", steps) == pytest.approx(wanted)


@pytest.mark.parametrize("server", ["sgd(momentum=0.9)", "adagrad", "adam", "yogi"])
def test_what_an_optimizer_keeps_is_replaced_and_never_written_into(server: str) -> None:
    """Branches of a run share the tensors that they start from."""
    move, kept = named(server), dict[str, torch.Tensor]()
    move(torch.ones(3), kept)
    before = {name: each.clone() for name, each in kept.items()}
    shared = dict(kept)
    move(torch.full((3,), 2.0), kept)
    assert all(torch.equal(shared[name], before[name]) for name in before)
    assert any(not torch.equal(kept[name], before[name]) for name in before)
