"""Weights combined with updates, by client, by rank and by column, against slow loops."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from agrbench.server import combine
from agrbench.server.combine import FeatureMap, by_client, by_column, by_rank, ranked
from agrbench.server.ranks import Ranks, between


@pytest.mark.parametrize(("low", "high"), [(2, 3), (2, 4), (1, 5), (0, 6)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ranks_averaged_at_once_are_ranks_weighed_column_by_column(
    low: int, high: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(combine, "BLOCK", 6 * 64)
    updates = torch.randn(6, 1000, generator=torch.Generator().manual_seed(low), dtype=dtype)
    slow = by_column(lambda a, b: between(updates[:, a:b], low, high), 1000, None, None, updates)
    step, weights = (how(lambda block: Ranks(block, low, high), updates) for how in (by_rank, ranked))
    assert torch.equal(step, slow[0])
    assert torch.allclose(weights, slow[1], rtol=1e-5, atol=0)  # sums of 1,000 shares in float32


def test_a_row_of_weight_0_is_not_read() -> None:
    updates = torch.ones(4, 300)
    updates[2] = torch.nan
    step, _ = by_client(torch.tensor([0.5, 0.25, 0.0, 0.25]), None, updates)
    assert torch.equal(step, torch.ones(300))


def test_nobody_weighs_nothing() -> None:
    step, weights = by_client(torch.zeros(3, dtype=torch.bool), None, torch.ones(3, 5))
    assert not step.any()
    assert not weights.any()


def maps(kind: str, coordinates: int, features: int, rng: torch.Generator) -> Tensor:
    """Make a map from coordinates to features: in order, in stripes, at random, or with some coordinates dropped."""
    in_order = torch.arange(coordinates) * features // coordinates
    if kind == "in order":
        return in_order
    if kind == "stripes":
        return torch.arange(coordinates) // 20 * 10 + torch.arange(coordinates) % 10
    shuffled = in_order[torch.randperm(coordinates, generator=rng)]
    return torch.where(torch.arange(coordinates) % 7 == 3, -1, in_order if kind == "dropped" else shuffled)


@pytest.mark.parametrize("kind", ["in order", "stripes", "at random", "dropped"])
@pytest.mark.parametrize("block", [1, 5 * 80, 1 << 17])
def test_a_coordinate_takes_the_weights_of_its_feature(kind: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(combine, "BLOCK", block)
    rng = torch.Generator().manual_seed(5)
    features, coordinates = 300, 600
    feature_of = maps(kind, coordinates, features, rng)
    updates = torch.randn(5, coordinates, generator=rng, dtype=torch.float64)
    weights = torch.randn(5, features, generator=rng, dtype=torch.float64)
    of_each = torch.stack([weights[:, feature] if feature >= 0 else weights.mean(1) for feature in feature_of.tolist()])
    step, sizes = by_column(lambda a, b: weights[:, a:b], features, FeatureMap.of(feature_of, features), None, updates)
    assert torch.allclose(step, (of_each.T * updates).sum(0), rtol=1e-12, atol=1e-12)
    assert torch.allclose(sizes, of_each.T.abs().mean(1), rtol=1e-12, atol=0)


@pytest.mark.parametrize("kind", ["in order", "stripes"])
def test_features_are_cut_where_their_coordinates_lie_together(kind: str) -> None:
    spread = FeatureMap.of(maps(kind, 600, 300, torch.Generator()), 300)
    cut = spread.cut(64)
    assert [piece.start for piece in cut[1:]] == [piece.stop for piece in cut[:-1]]
    assert (cut[0].start, cut[-1].stop) == (0, 300)
    assert all(isinstance(spread.place(torch.zeros(1, piece.stop - piece.start), piece)[0], slice) for piece in cut)
