"""The networks of papers that are replayed: equal, layer by layer, to what their papers' code builds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import agrbench
from agrbench import Cell, settings
from agrbench.clients import models
from agrbench.errors import AgrbenchError

WRITTEN: dict[str, list[nn.Module]] = {  # for MNIST, from the papers' tables and code, in the order of the layers
    "cnn": [
        nn.Conv2d(1, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, 10),
    ],
    "cnn(of='karimireddy')": [
        nn.Conv2d(1, 32, 3, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 1), nn.MaxPool2d(2), nn.Dropout2d(0.25), nn.Flatten(),
        nn.Linear(9216, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10),
    ],
    "cnn(of='byzfl')": [
        nn.Conv2d(1, 20, 5, 1), nn.ReLU(), nn.MaxPool2d(2, 2), nn.Conv2d(20, 50, 5, 1), nn.ReLU(), nn.MaxPool2d(2, 2),
        nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10),
    ],
}  # fmt: skip
PARAMETERS = {
    "cnn": 1_663_370,
    "cnn(of='karimireddy')": 32 * 10 + 64 * (32 * 9 + 1) + 9217 * 128 + 129 * 10,
    "cnn(of='byzfl')": 20 * 26 + 50 * (20 * 25 + 1) + 801 * 500 + 501 * 10,
}


def built(spec: str) -> nn.Module:
    return models.named(spec)((1, 28, 28), 10)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("spec", WRITTEN)
def test_a_network_equals_the_one_written_out_layer_by_layer(spec: str, training: bool) -> None:
    ours, theirs = list(built(spec)), WRITTEN[spec]  # type: ignore[call-overload]
    assert len(ours) == len(theirs)
    maps = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    for our, their in zip(ours, theirs, strict=True):
        our.load_state_dict(their.state_dict(), strict=True)
        scores = []
        for layer in (our, their):
            torch.manual_seed(1)
            scores.append(layer.train(training)(maps))
        assert torch.equal(*scores)
        maps = scores[0].detach()
    assert maps.shape == (3, 10)


@pytest.mark.parametrize("spec", PARAMETERS)
def test_a_network_has_its_number_of_parameters_for_mnist(spec: str) -> None:
    assert sum(each.numel() for each in built(spec).parameters()) == PARAMETERS[spec]


@pytest.mark.parametrize(("of", "side"), [("mcmahan", 4), ("karimireddy", 6), ("byzfl", 16)])
def test_the_smallest_image_is_scored_and_a_smaller_one_refused(of: str, side: int) -> None:
    build = models.cnn(of)
    assert build((3, side, side + 3), 7)(torch.zeros(2, 3, side, side + 3)).shape == (2, 7)
    with pytest.raises(AgrbenchError, match=f"at least {side} x {side} pixels"):
        build((3, side, side - 1), 7)


def test_the_names_of_settings_are_those_that_are_built() -> None:
    assert tuple(models.CNNS) == settings.CNNS


def test_dropout_draws_by_the_run_and_is_off_in_evaluation() -> None:
    cell: dict[str, Any] = {"model": "cnn(of='karimireddy')", "clients": 4, "malicious": 1, "rounds": 2, "start": 2}
    runs = []
    for seed in (1, 2):
        torch.manual_seed(seed)  # the global generator makes no difference
        runs.append(agrbench.run(Cell("digits(rows=40)", "median", "lie", **cell)))
    assert runs[0]["loss"] == runs[1]["loss"]
    assert runs[0]["training"]["parameters"] == 320 + 64 * 289 + (64 * 2 * 2 + 1) * 128 + 129 * 10
