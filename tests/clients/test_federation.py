"""Federation: who holds what, the same for every attack and defense of a seed, nothing shared that must not be."""

from __future__ import annotations

import itertools
import math
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import agrbench
from agrbench.cells import Cell
from agrbench.clients.federation import Federation, federate
from agrbench.data.examples import Examples
from agrbench.errors import AgrbenchError
from agrbench.randomness import generator
from tests.helpers.examples import counted, ids


def federation(rows: int, root: int, clients: int, malicious: int, seed: int = 0) -> Federation:
    cell = Cell("digits", "fedavg", "none", clients=clients, malicious=malicious)
    return federate(counted(rows), counted(5, 1000), root, cell, partial(generator, seed))


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


@given(clients=st.integers(1, 9), rows=st.integers(9, 60), root=st.integers(1, 9), data=st.data())
def test_a_cut_federation_has_the_first_rows_of_every_shard(
    clients: int, rows: int, root: int, data: st.DataObject
) -> None:
    share, least = data.draw(st.floats(0, 1)), data.draw(st.integers(1, 5))
    whole = federation(rows + root, root, clients, 0)
    few = whole.cut(share, least)

    def kept(held: list[int]) -> list[int]:
        return held[: max(math.ceil(len(held) * share), least)]

    assert [ids(shard) for shard in few.shards] == [kept(ids(shard)) for shard in whole.shards]
    assert ids(few.root) == kept(ids(whole.root))
    assert ids(few.test) == ids(whole.test)


def test_malicious_clients_are_not_always_the_same_places() -> None:
    chosen = {federation(40, 5, 10, 3, seed).malicious for seed in range(20)}
    assert len(chosen) > 10


def test_fewer_examples_than_clients_is_refused() -> None:
    with pytest.raises(AgrbenchError, match="5 training examples cannot be shared among 6 clients"):
        federation(8, 3, 6, 1)


def test_a_smaller_number_of_malicious_clients_is_a_subset() -> None:
    few, many = federation(40, 5, 10, 2).malicious, federation(40, 5, 10, 5).malicious
    assert set(few) < set(many)


def of_drawn_clients(
    seed: int, clients: int, malicious: float | str, defense: str = "fedavg", **more: Any
) -> Federation:
    numbers = torch.arange(clients * 2)
    train = Examples(numbers[:, None].double(), numbers % 2, 2)
    cell = Cell("digits", defense, "none", seed, clients, malicious, **more)
    return federate(train, train, 0, cell, partial(generator, seed))


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_each_client_is_malicious_with_the_share_s_probability_and_for_itself(share: float) -> None:
    clients, seeds = 20, 400
    drawn = torch.zeros(seeds, clients, dtype=torch.float64)
    for seed in range(seeds):
        made = of_drawn_clients(seed, clients, f"bernoulli(share={share})")
        drawn[seed, list(made.malicious)] = 1
        assert made.malicious == tuple(sorted(made.malicious))
        assert sorted([*made.malicious, *made.honest]) == list(range(clients))
    spread = (share * (1 - share)) ** 0.5
    # five standard errors of 8000 draws, of a place's 400 draws, and of the variance of 400 counts
    assert float(drawn.mean()) == pytest.approx(share, abs=5 * spread / (seeds * clients) ** 0.5)
    assert (drawn.mean(0) - share).abs().max() < 5 * spread / seeds**0.5
    assert float(drawn.sum(1).var()) == pytest.approx(clients * spread**2, rel=5 * (2 / seeds) ** 0.5)
    # two places have nothing to do with each other: a correlation of zero has a standard error of 0.05
    assert (torch.corrcoef(drawn.T) - torch.eye(clients)).abs().max() < 0.27


def test_the_number_of_malicious_clients_differs_between_seeds_only_where_each_is_drawn() -> None:
    assert len({len(of_drawn_clients(seed, 20, "bernoulli(share=0.3)").malicious) for seed in range(20)}) > 3
    assert {len(of_drawn_clients(seed, 20, 0.3).malicious) for seed in range(20)} == {6}


def test_every_defense_and_bound_of_a_seed_meets_the_same_malicious_clients() -> None:
    for seed in range(5):
        made = [
            of_drawn_clients(seed, 20, "bernoulli(share=0.3)", defense, byzantine=bound).malicious
            for defense, bound in (("fedavg", None), ("krum", None), ("amp+krum", 2))
        ]
        assert made[0] == made[1] == made[2]


def test_a_draw_without_an_honest_client_is_refused_and_not_computed() -> None:
    for seed in range(200):
        try:
            made = of_drawn_clients(seed, 2, "bernoulli(share=0.7)")
        except AgrbenchError as error:
            assert "malicious" in str(error)
            break
        assert made.honest
    else:
        pytest.fail("two clients are both malicious in every second seed or so")


def test_a_draw_without_a_malicious_client_is_a_run_without_attack() -> None:
    """The server's bound is what it was, and the curve is the one of no attack."""
    settings: dict[str, Any] = {"clients": 5, "malicious": "bernoulli(share=0.2)", "rounds": 20, "start": 10}
    (seed, *_) = [seed for seed in range(50) if not of_drawn_clients(seed, 5, "bernoulli(share=0.2)").malicious]
    attacked, calm = (
        agrbench.run(Cell("digits", "krum", attack, seed, **settings)) for attack in ("label_flip", "none")
    )
    assert attacked["status"] == calm["status"] == "done"
    assert attacked["accuracy"] == calm["accuracy"]


def test_a_drawn_federation_runs_and_repeats() -> None:
    cell = Cell("digits", "krum", "label_flip", 1, 10, "bernoulli(share=0.3)", rounds=20, start=10)
    first, again = agrbench.run(cell), agrbench.run(cell)
    assert first["status"] == "done"
    assert first["accuracy"] == again["accuracy"]
    assert first["cell"]["settings"]["malicious"] == "bernoulli"
