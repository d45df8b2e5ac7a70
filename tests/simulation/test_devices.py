"""The path to a device, on one that is pretended: nothing is mixed, little is read back, and the numbers are the CPU's.

What only a real device can show stands in tests/simulation/test_cuda.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import product
from typing import Any

import pytest
import torch
from torch import nn

import agrbench
from agrbench.cells import Cell
from agrbench.clients.learner import fitted, learner
from agrbench.data.examples import Examples, batch
from agrbench.errors import Inapplicable
from agrbench.plugins.registry import Registry
from agrbench.simulation import grid, suites
from agrbench.simulation.run import Run
from tests.helpers import pretended

REGISTRY = Registry()
LAYERS = [(6, 4), (4,)]
OTHERS = [name for name in REGISTRY.names("attack") if name != "min_max"]
SCHEDULES = ["sgd", "sgd(momentum=0.9)", "sgd(epochs=2,batches=3)", "adam(epochs=2,batches=2)"]


def stacks() -> Iterator[str]:
    """Give every stack of the catalogue that is defined for twelve clients."""
    cells = grid.expand(suites.choose("catalogue", [], [], [], 1, {}), REGISTRY)
    for stack in sorted({cell.defense for cell in cells}):
        with suppress(Inapplicable):
            REGISTRY.stack(stack).check(12, 2)
            yield stack


def begun(defense: str, attack: str, device: str, **settings: Any) -> Run:
    """Play a round, in which what a run keeps is made."""
    cell = Cell("digits", defense, attack, device=device, clients=12, malicious=2, rounds=20, start=10, **settings)
    run = Run(cell, REGISTRY)
    run.play(1)
    return run


@pytest.mark.parametrize(
    ("defense", "attack", "settings"),
    [
        *product(stacks(), ["min_max"], [{}]),
        *product(["amp+multi_krum"], OTHERS, [{}]),
        ("amp+fltrust", "scaling", {"schedule": "adam(epochs=2,batches=2,poisoned='after')"}),
        ("amp+krum", "badnets", {"partition": "dirichlet(alpha=0.5)", "root": "test"}),
        ("fang", "min_max", {"model": "cnn"}),
    ],
)
def test_the_numbers_are_the_cpu_s_and_rows_stay_on_the_device(
    defense: str, attack: str, settings: dict[str, Any]
) -> None:
    here = begun(defense, attack, "cpu", **settings)
    here.play(12)
    with pretended.device() as device:
        there = begun(defense, attack, "cuda", **settings)
        device.reads.clear()
        there.play(12)
        most = 12**2 * (16 if defense == "fedinv" else 1)  # FedInv matches four examples a client with four of another
        assert max(device.reads) <= most < len(there.state.model)
        if attack == "min_max":  # others search
            assert len(device.reads) <= 50 * 11
        model, record = there.state.model.cpu(), there.measured()
    assert torch.equal(model, here.state.model)
    assert {**record, "time": None} == {**here.measured(), "time": None}


@pytest.mark.parametrize("defense", ["amp+krum", "median", "trimmed_mean", "meamed", "clip+median"])
def test_a_larger_model_has_more_blocks_of_columns_and_asks_no_more(defense: str) -> None:
    asked = []
    for model in ("mlp(64)", "mlp(256,128)"):
        with pretended.device() as device:
            run = begun(defense, "ipm", "cuda", model=model)
            run.play(9)
            device.reads.clear()
            run.play(11)
            asked.append(len(device.reads))
    assert asked[0] == asked[1]


@pytest.mark.parametrize("defense", ["amp+krum", "median", "nnm+trimmed_mean", "amp(by='magnitude')+cosden", "fltrust"])
def test_a_step_from_updates_on_the_device_stays_there(defense: str) -> None:
    rows = torch.randn(9, 28, generator=torch.Generator().manual_seed(0))
    here = agrbench.aggregate(rows, defense, 2, LAYERS, root=rows[0])
    with pretended.device():
        there = agrbench.aggregate(rows.to("cuda"), defense, 2, LAYERS, root=rows[0].to("cuda"))
        assert there.device == pretended.DEVICE
        assert torch.equal(there.cpu(), here)


@pytest.mark.parametrize("attack", REGISTRY.names("attack"))
def test_rows_forged_from_updates_on_the_device_stay_there(attack: str) -> None:
    rows = torch.randn(11, 28, generator=torch.Generator().manual_seed(0))
    honest, clean, poisoned = rows[:7], rows[7:9], rows[9:]
    given: dict[str, Any] = {"clean": clean, "poisoned": poisoned, "model": honest[0], "previous": honest[1]}
    here = agrbench.forge(attack, honest, 2, layout=LAYERS, defense="median", **given)
    with pretended.device():
        moved: dict[str, Any] = {name: tensor.to("cuda") for name, tensor in given.items()}
        there = agrbench.forge(attack, honest.to("cuda"), 2, layout=LAYERS, defense="median", **moved)
        assert there.device == pretended.DEVICE
        assert torch.equal(there.cpu(), here)


@pytest.mark.parametrize("kernel", [2, 3])
@pytest.mark.parametrize("restore", [False, True])
def test_amplified_updates_on_the_device_stay_there(kernel: int, restore: bool) -> None:
    rows = torch.randn(9, 28, generator=torch.Generator().manual_seed(0))
    here = agrbench.amplify(rows, LAYERS, kernel, restore)
    with pretended.device() as device:
        there = agrbench.amplify(rows.to("cuda"), LAYERS, kernel, restore, out=torch.empty_like(here, device="cuda"))
        assert not device.reads
        assert torch.equal(there.cpu(), here)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_training_reads_nothing_back(schedule: str) -> None:
    with pretended.device() as device:
        run = begun("fedavg", "none", "cuda", schedule=schedule)
        device.reads.clear()
        trained = run.clean.train(run.state.model)
        assert not device.reads
        assert trained.device == pretended.DEVICE


@pytest.mark.parametrize(
    ("mixing", "error"),
    [
        (lambda there, here: there + here, RuntimeError),
        (lambda there, here: torch.mm(here, there, out=torch.empty(2, 2)), RuntimeError),
        (lambda there, here: torch.cat([there, here]), RuntimeError),
        (lambda there, here: here[there.long()], RuntimeError),
        (lambda there, here: there.index_select(0, here[0].long()), RuntimeError),
        (lambda there, here: there.numpy(), TypeError),
        (lambda there, here: torch.rand(2, generator=torch.Generator(), device="cuda"), RuntimeError),
        (lambda there, here: there.normal_(generator=torch.Generator()), RuntimeError),
    ],
)
def test_the_pretended_device_refuses_what_cuda_refuses(
    mixing: Callable[[torch.Tensor, torch.Tensor], object], error: type[Exception]
) -> None:
    here = torch.zeros(2, 2)
    with pretended.device():
        there = here.to("cuda")
        with pytest.raises(error):
            mixing(there, here)


def test_the_pretended_device_computes_and_notes_what_is_read() -> None:
    with pretended.device() as device:
        there = torch.arange(6.0).to("cuda").view(2, 3)
        there[1].mul_(10)
        row = there[:, torch.tensor([2, 0])]
        assert not device.reads
        assert row.tolist() == [[2.0, 0.0], [50.0, 30.0]]
        assert bool((there > 1).any())
        assert len(there[there > 30]) == 2
        assert device.reads == [4, 1, 1]
        assert row.device == there.device == torch.device("cuda:0")
    with pytest.raises(RuntimeError, match="no longer there"):
        there.sum()


def mixture(shape: tuple[int, ...], classes: int) -> nn.Module:
    """Build a model with a frozen layer, buffers that training moves, and random numbers."""
    module = nn.Sequential(nn.Linear(shape[0], 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, classes))
    module[0].requires_grad_(False)
    return module


def test_frozen_layers_buffers_and_random_layers_follow_the_device() -> None:
    examples = Examples(torch.randn(8, 5, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3, 3)

    def trained(device: str) -> list[torch.Tensor]:
        made, given = learner(mixture, (5,), 3, torch.Generator().manual_seed(1)), examples.to(torch.device(device))
        assert fitted(made, given) is given
        model = made.initial.to(device)
        buffers, out = made.buffers.to(device).repeat(1, 1), torch.empty(1, len(model), device=device)
        made.gradients(model, out, buffers=buffers)(made.prepared(batch([given])), [7])
        return [out.cpu(), buffers.cpu(), made.logits(model, given.features).cpu()]

    here = trained("cpu")
    with pretended.device():
        there = trained("cuda")
    for one, other in zip(here, there, strict=True):
        assert torch.equal(one, other)
