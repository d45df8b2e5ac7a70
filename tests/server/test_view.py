"""The view that a rule judges: pooled in strips, mixed and counted only when a rule reads it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import agrbench
from agrbench.clients.insider import unpooled
from agrbench.layout import Layout
from agrbench.server import amplifier, view
from agrbench.server.amplifier import Patches, magnitude, maximum
from agrbench.server.rounds import Server
from agrbench.server.view import View
from tests.helpers.counted import Counted

CPU = torch.device("cpu")
LAYERS = [(7, 5), (5,), (4, 3, 2, 2), (4,), (9,)]
WIDTH = 35 + 5 + 48 + 4 + 9


# ---------------------------------------------------------------- pooled strips


@pytest.mark.parametrize("strip", [1, 40, 10_000])
@pytest.mark.parametrize("reduce", [maximum, magnitude])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("kernel", [1, 2, 3, 8])
def test_strips_side_by_side_are_the_view(
    strip: int, reduce: Any, dtype: torch.dtype, kernel: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(amplifier, "STRIP", strip)
    rows = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(kernel)).round(decimals=1).to(dtype)
    for fold in ("layers", "released"):
        if fold == "released" and kernel > 5:
            continue  # it leaves no patch in a width of 5
        stage = Patches.of(Layout.of_shapes(LAYERS), kernel, fold).pooled(reduce)
        assert stage.blocks is not None
        strips = [make() for make in stage.blocks(rows)]
        assert torch.equal(torch.cat(strips, dim=1), stage.view(rows))


@pytest.mark.parametrize("defense", ["amp+krum", "amp+cosden", "amp+multi_krum", "amp+geometric_median", "amp+mda"])
def test_a_rule_of_distances_makes_no_pooled_view(defense: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.randn(9, WIDTH, generator=torch.Generator().manual_seed(0))
    truth = agrbench.aggregate(rows, defense, 2, LAYERS)
    monkeypatch.setattr(amplifier, "pool", never)
    assert torch.equal(agrbench.aggregate(rows, defense, 2, LAYERS), truth)


@pytest.mark.parametrize(
    "defense", ["nnm+fedavg", "nnm+krum", "amp+nnm+krum", "bucketing+krum", "nnm+geometric_median"]
)
def test_a_rule_of_distances_mixes_no_rows(defense: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.randn(12, WIDTH, generator=torch.Generator().manual_seed(0))
    truth = agrbench.aggregate(rows, defense, 1, LAYERS)
    monkeypatch.setattr(view, "_mixed", never)
    assert torch.equal(agrbench.aggregate(rows, defense, 1, LAYERS), truth)


def never(*_: object) -> Tensor:
    raise AssertionError("made, and not needed")


# ---------------------------------------------------------------- rows not made


def test_the_number_of_rows_is_known_before_the_view() -> None:
    counted = Counted()
    sight = replace(View.of(torch.ones(2, 3), Layout.of_shapes([(3,)]), (0, 1)), view=counted)
    seen = sight.round(sight.layout, 0, Server(), unpooled, {}, 1, torch.Generator())
    assert (seen.n, seen.device, counted.times) == (2, CPU, 0)
    assert torch.equal(seen.view, counted())
