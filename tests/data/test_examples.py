"""Examples: batched with equal shares, split so that every row is kept once, and cut to some of their rows."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agrbench.data.examples import batch, kept, split
from agrbench.errors import AgrbenchError
from agrbench.randomness import generator
from tests.helpers.examples import counted, ids, numbered


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


@given(data=st.data(), held=st.integers(1, 300))
def test_rows_that_are_kept_are_a_subset_in_order_with_their_labels_and_owners(data: st.DataObject, held: int) -> None:
    rows = data.draw(st.integers(1, held), "rows")
    number = torch.arange(held)
    whole = numbered(number % 7, 7, owners=number % 5)
    some = kept(whole, rows)
    assert len(ids(some)) == rows
    assert ids(some) == sorted(set(ids(some)) & set(range(held)))
    assert some.labels.tolist() == [each % 7 for each in ids(some)]
    assert some.owners is not None
    assert some.owners.tolist() == [each % 5 for each in ids(some)]
    assert ids(kept(whole, rows)) == ids(some)
    assert set(ids(kept(whole, max(rows // 2, 1)))) <= set(ids(some))
    assert ids(kept(whole, held)) == ids(whole)


def test_the_draw_is_the_same_in_every_process_and_spread_over_all_rows() -> None:
    assert ids(kept(counted(20), 5)) == [0, 2, 4, 11, 13]
    halves = sum(each >= 5000 for each in ids(kept(counted(10_000), 1000)))
    assert 400 < halves < 600  # 500 expected, with a standard deviation of 15


def test_more_rows_than_there_are_are_refused() -> None:
    with pytest.raises(AgrbenchError, match="rows is 7 and there are 6 training examples; write rows=6 or less"):
        kept(counted(6), 7)
