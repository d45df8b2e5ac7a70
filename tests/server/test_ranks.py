"""Ranks of a column against a stable sort: who holds them, their mean, the values nearest to the median."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from agrbench.server.ranks import Ranks, between, nearest_to_median

DTYPES = st.sampled_from([torch.float32, torch.float64, torch.bfloat16])


@st.composite
def blocks(draw: st.DrawFn) -> Tensor:
    """Draw columns of few values, so that many tie, the largest and smallest numbers among them."""
    dtype = draw(DTYPES)
    limits = torch.finfo(dtype)
    value = st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.5, limits.max / 64, -limits.max / 64, limits.tiny])
    rows, columns = draw(st.integers(1, 9)), draw(st.integers(1, 5))
    listed = st.lists(st.lists(value, min_size=columns, max_size=columns), min_size=rows, max_size=rows)
    return torch.tensor(draw(listed), dtype=torch.float64).to(dtype)


def held(column: list[float], low: int, high: int) -> list[bool]:
    """Rank a column's values, equal ones in the order of their rows."""
    ranked = sorted(range(len(column)), key=lambda row: (column[row], row))
    return [row in ranked[low:high] for row in range(len(column))]


@given(blocks(), st.data())
def test_ranks_are_held_as_a_stable_sort_says(block: Tensor, data: st.DataObject) -> None:
    low = data.draw(st.integers(0, len(block) - 1))
    high = data.draw(st.integers(low + 1, len(block)))
    truth = torch.tensor([held(column, low, high) for column in block.T.tolist()]).T
    assert torch.equal(between(block, low, high), truth)


@given(blocks(), st.data())
def test_the_mean_of_ranks_is_what_their_shares_add_up_to(block: Tensor, data: st.DataObject) -> None:
    low = data.draw(st.integers(0, len(block) - 1))
    high = data.draw(st.integers(low + 1, len(block)))
    ranks = Ranks(block, low, high)
    assert torch.equal(ranks.mean(), (ranks.shares * block).sum(0))


@given(blocks(), st.data())
def test_the_values_nearest_to_the_median_are_those_of_a_stable_sort(block: Tensor, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(block)))
    ranked = block.sort(dim=0).values
    away = (block - (ranked[(len(block) - 1) // 2] + ranked[len(block) // 2]) / 2).abs()
    truth = torch.tensor([held(column, 0, count) for column in away.T.tolist()]).T
    assert torch.equal(nearest_to_median(block, count), truth)


@pytest.mark.parametrize(("low", "high"), [(2, 4), (-1, 2), (2, 2)])
def test_ranks_that_no_row_has_are_refused(low: int, high: int) -> None:
    with pytest.raises(ValueError, match=f"ranks {low} to {high - 1} of 3 rows; write 0 <= low < high <= 3"):
        between(torch.zeros(3, 1), low, high)
