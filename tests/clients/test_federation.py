"""Federation: who holds what, the same for every attack and defense of a seed, nothing shared that must not be."""

from __future__ import annotations

import itertools
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agrbench.cells import Cell
from agrbench.clients.federation import Federation, federate
from agrbench.data.examples import Examples, batch, split
from agrbench.errors import AgrbenchError
from agrbench.randomness import generator


def numbered(rows: int, start: int = 0) -> Examples:
    """Make examples whose only feature is their number."""
    numbers = torch.arange(start, start + rows)
    return Examples(numbers[:, None].double(), numbers % 3, 3)


def federation(rows: int, root: int, clients: int, malicious: int, seed: int = 0) -> Federation:
    cell = Cell("digits", "fedavg", "none", clients=clients, malicious=malicious)
    return federate(numbered(rows), numbered(5, 1000), root, cell, partial(generator, seed))


def ids(examples: Examples) -> list[int]:
    return [int(value) for value in examples.features[:, 0]]


@given(clients=st.integers(1, 20), spare=st.integers(0, 30), root=st.integers(0, 10), seed=st.integers(0, 5))
def test_every_training_row_is_held_once_by_a_client_or_the_root_set(
    clients: int, spare: int, root: int, seed: int
) -> None:
    made = federation(clients + spare + root, root, clients, clients // 3, seed)
    held = [ids(shard) for shard in made.shards]
    assert sorted([*itertools.chain(*held), *ids(made.root)]) == list(range(clients + spare + root))
    assert len(made.root.labels) == root
    sizes = [len(shard) for shard in held]
    assert max(sizes) - min(sizes) <= 1
    assert not set(ids(made.test)) & set(range(clients + spare + root))


@given(clients=st.integers(1, 20), seed=st.integers(0, 20), data=st.data())
def test_malicious_clients_are_as_many_as_asked_and_the_others_honest(
    clients: int, seed: int, data: st.DataObject
) -> None:
    malicious = data.draw(st.integers(0, clients - 1))
    made = federation(40, 5, clients, malicious, seed)
    assert len(made.malicious) == malicious == len(set(made.malicious))
    assert sorted([*made.malicious, *made.honest]) == list(range(clients))


def test_malicious_clients_are_not_always_the_same_places() -> None:
    chosen = {federation(40, 5, 10, 3, seed).malicious for seed in range(20)}
    assert len(chosen) > 10


def test_fewer_examples_than_clients_is_refused() -> None:
    with pytest.raises(AgrbenchError, match="5 training examples cannot be shared among 6 clients"):
        federation(8, 3, 6, 1)


def test_a_smaller_number_of_malicious_clients_is_a_subset() -> None:
    few, many = federation(40, 5, 10, 2).malicious, federation(40, 5, 10, 5).malicious
    assert set(few) < set(many)


@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=5))
def test_a_batch_holds_each_shard_and_shares_add_up_to_one(sizes: list[int]) -> None:
    shards = [numbered(size, 10 * place) for place, size in enumerate(sizes)]
    made = batch(shards)
    assert made.labels.shape == (len(sizes), max(sizes))
    for place, size in enumerate(sizes):
        assert torch.equal(made.features[place, :size], shards[place].features)
        assert torch.equal(made.labels[place, :size], shards[place].labels)
        assert bool((made.share[place, size:] == 0).all())
        # at most six equal shares are added
        assert made.share[place].sum() == pytest.approx(1, rel=1e-12)


def test_splitting_keeps_every_row_once() -> None:
    train, test = split(numbered(20), 6, generator(0, "split"))
    assert (len(ids(train)), len(ids(test))) == (14, 6)
    assert sorted(ids(train) + ids(test)) == list(range(20))


def test_randomness_differs_by_purpose_round_and_client_and_repeats() -> None:
    draws = {
        float(torch.rand((), generator=generator(seed, purpose, number, client)))
        for seed in (0, 1)
        for purpose in ("split", "model")
        for number in (0, 1)
        for client in (0, 1)
    }
    assert len(draws) == 16
    again = [torch.rand(3, generator=generator(1, "split", 2, 3)) for _ in range(2)]
    assert torch.equal(*again)
