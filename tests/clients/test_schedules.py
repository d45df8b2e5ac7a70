"""Schedules: which rows a client meets, how many steps it takes, and at which rate."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from agrbench import settings
from agrbench.clients.batches import mini_batches
from agrbench.clients.learner import learner
from agrbench.clients.local_training import Trainer
from agrbench.clients.models import mlp
from agrbench.clients.schedules import Schedule
from agrbench.data.examples import Examples
from agrbench.errors import SpecError

SIZES, BATCHES = st.integers(1, 40), st.integers(1, 12)


@given(size=SIZES, batch=BATCHES, epochs=st.integers(1, 3), seed=st.integers(0, 99))
def test_every_epoch_shuffles_all_rows_and_only_its_last_mini_batch_is_smaller(
    size: int, batch: int, epochs: int, seed: int
) -> None:
    drawn = mini_batches(size, Schedule("sgd", 0.1, epochs, batch=batch), seed)
    each = math.ceil(size / batch)
    assert len(drawn) == epochs * each
    for start in range(0, len(drawn), each):
        epoch = drawn[start : start + each]
        assert sorted(torch.cat(epoch).tolist()) == list(range(size))
        assert {len(rows) for rows in epoch[:-1]} <= {batch}
        assert 0 < len(epoch[-1]) <= batch


@given(size=SIZES, batch=BATCHES, steps=st.integers(1, 20), seed=st.integers(0, 99))
def test_steps_end_a_round_in_the_middle_of_an_epoch(size: int, batch: int, steps: int, seed: int) -> None:
    long = mini_batches(size, Schedule("sgd", 0.1, epochs=20, batch=batch), seed)
    drawn = mini_batches(size, Schedule("sgd", 0.1, batch=batch, steps=steps), seed)
    assert len(drawn) == steps
    assert [rows.tolist() for rows in drawn] == [rows.tolist() for rows in long[:steps]]


def test_rows_are_drawn_evenly_by_seed_and_differ_between_seeds() -> None:
    schedule = Schedule("sgd", 0.1, batch=3, steps=1)
    drawn = [tuple(mini_batches(10, schedule, seed)[0].tolist()) for seed in range(3000)]
    counts = torch.bincount(torch.tensor(drawn).flatten(), minlength=10)
    # 900 of each row are expected, with a standard deviation of 25
    assert ((counts - 900).abs() < 125).all()
    assert len(set(drawn)) > 600  # of 720 ordered choices


@given(
    sizes=st.lists(SIZES, min_size=1, max_size=6),
    schedule=st.one_of(
        st.builds(Schedule, st.just("sgd"), st.just(0.1), st.integers(1, 2), batch=BATCHES),
        st.builds(Schedule, st.just("sgd"), st.just(0.1), batch=BATCHES, steps=st.integers(1, 9)),
    ),
)
def test_the_smallest_batch_and_the_number_of_steps_are_those_of_the_drawn_ones(
    sizes: list[int], schedule: Schedule
) -> None:
    drawn = [mini_batches(size, schedule, 7) for size in sizes]
    assert schedule.smallest_batch(torch.tensor(sizes)).tolist() == [min(map(len, rows)) for rows in drawn]
    assert [schedule.steps_of(size) for size in sizes] == [len(rows) for rows in drawn]


@pytest.mark.parametrize(
    ("decay", "wanted"),
    [
        (None, [0.5] * 5),
        ({2: 0.1}, [0.5, 0.05, 0.05, 0.05, 0.05]),
        ({2: 0.5, 4: 0.1}, [0.5, 0.25, 0.25, 0.05, 0.05]),
    ],
)
def test_the_rate_falls_by_factors_of_the_first_one(decay: dict[int, float] | None, wanted: list[float]) -> None:
    schedule = Schedule("sgd", 0.5, decay=decay, rounds=5)
    assert [schedule.rate_in(number) for number in range(1, 6)] == pytest.approx(wanted)


def test_the_cosine_is_torch_s() -> None:
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], 0.5)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)
    schedule = Schedule("sgd", 0.5, decay="cosine", rounds=20)
    for number in range(1, 21):
        assert schedule.rate_in(number) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()


def shards(sizes: list[int]) -> list[Examples]:
    rng = torch.Generator().manual_seed(0)
    return [
        Examples(torch.rand(size, 3, generator=rng).double(), torch.randint(2, (size,), generator=rng), 2)
        for size in sizes
    ]


def gradient(model: Tensor, shard: Examples, rows: Tensor) -> Tensor:
    """Differentiate softmax regression by hand: weights `(3, 2)`, then the bias."""
    ones = torch.cat([shard.features[rows], torch.ones(len(rows), 1, dtype=torch.float64)], 1)
    error = (ones @ model.view(4, 2)).softmax(1) - torch.nn.functional.one_hot(shard.labels[rows], 2)
    return (ones.T @ error / len(rows)).flatten()


def test_a_dampened_momentum_of_one_step_a_round_is_what_a_worker_sends() -> None:
    """Karimireddy et al. (ICML 2021), equation 3: m = (1 - beta) g + beta m, from m = 0; the update is -rate m."""
    clients = shards([9, 4])
    found = learner(lambda shape, classes: mlp()(shape, classes).double(), (3,), 2, torch.Generator())
    options = {"momentum": 0.9, "dampening": 0.9}
    schedule = Schedule("sgd", 0.5, batch=4, steps=1, options=options)
    trainer = Trainer(found, clients, schedule, lambda number, client: 100 * number + client)
    model, sent = found.initial, [torch.zeros_like(found.initial) for _ in clients]
    for number in range(1, 4):
        updates = trainer.train(model, number)
        for client, shard in enumerate(clients):
            [rows] = mini_batches(len(shard.labels), schedule, 100 * number + client - 1)
            sent[client] = 0.1 * gradient(model, shard, rows) + 0.9 * sent[client]
            # float64: the model is added and subtracted once
            torch.testing.assert_close(updates[client], -0.5 * sent[client], rtol=0, atol=1e-12)
        model = model + updates.mean(0)


@pytest.mark.parametrize(
    ("text", "way"),
    [
        ("sgd(batch=8,batches=2)", "not both"),
        ("sgd(steps=2)", "batch=32,steps=1"),
        ("sgd(batch=8,steps=2,epochs=3)", "steps or epochs"),
        ("sgd(batch=0)", "whole number from 1"),
        ("sgd(decay='linear')", "'cosine' or factors"),
        ("sgd(decay={0: 0.1})", "'cosine' or factors"),
        ("sgd(decay={10: 'a'})", "'cosine' or factors"),
        ("sgd(decay={})", "'cosine' or factors"),
        ("adam(reset=1)", "True or False"),
        ("adam(weight_decay=-1)", "a number from 0"),
        ("adam(dampening=0.5)", "adam("),
        ("sgd(clip=0)", "a number above 0"),
    ],
)
def test_schedules_that_cannot_be_are_refused_with_what_to_write(text: str, way: str) -> None:
    with pytest.raises(SpecError, match="schedule is") as refused:
        settings.canonical("schedule", text)
    assert way in str(refused.value)


def test_a_decay_has_one_form() -> None:
    assert settings.canonical("schedule", "sgd(decay={200: 1, 100: 0.5},batch=32)") == (
        "sgd(batch=32,decay={100: 0.5, 200: 1.0})"
    )
