"""Examples: batched with equal shares, and split so that every row is kept once."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agrbench.data.examples import batch, split
from agrbench.randomness import generator
from tests.helpers.examples import counted, ids


@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=5))
def test_a_batch_holds_each_shard_and_shares_add_up_to_one(sizes: list[int]) -> None:
    shards = [counted(size, 10 * place) for place, size in enumerate(sizes)]
    made = batch(shards)
    assert made.labels.shape == (len(sizes), max(sizes))
    for place, size in enumerate(sizes):
        assert torch.equal(made.features[place, :size], shards[place].features)
        assert torch.equal(made.labels[place, :size], shards[place].labels)
        assert bool((made.share[place, size:] == 0).all())
        # at most six equal shares are added
        assert made.share[place].sum() == pytest.approx(1, rel=1e-12)


def test_splitting_keeps_every_row_once() -> None:
    train, test = split(counted(20), 6, generator(0, "split"))
    assert (len(ids(train)), len(ids(test))) == (14, 6)
    assert sorted(ids(train) + ids(test)) == list(range(20))
