"""Partitions: every row is dealt once, every client has some, and shares are as uneven as their law says."""

from __future__ import annotations

import itertools
import math
import pickle
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

import agrbench
from agrbench import settings
from agrbench.cells import Cell
from agrbench.clients.federation import Federation, federate
from agrbench.clients.partitions import deal
from agrbench.data.examples import Examples
from agrbench.errors import AgrbenchError
from agrbench.plugins.registry import Registry
from agrbench.randomness import generator
from agrbench.results.record import curves
from agrbench.simulation.run import Run
from tests.helpers.examples import ids, numbered

DEALT = ["iid", "dirichlet(alpha=0.1)", "dirichlet(alpha=10.0)", "shards(labels=1)", "shards(labels=3)",
         "quantity(sigma=0.5)", "quantity(sigma=3.0)", "sorted", "similarity(gamma=0.66)",
         "similarity(gamma=1)"]  # fmt: skip


def mixed(rows: int, classes: int, seed: int = 0) -> Examples:
    """Make examples of classes in random order."""
    return numbered(torch.randint(classes, (rows,), generator=torch.Generator().manual_seed(seed)), classes)


def balanced(each: int, classes: int) -> Examples:
    return numbered(torch.arange(classes).repeat(each), classes)


def dealt(text: str, examples: Examples, clients: int, seed: int = 0) -> list[Tensor]:
    term = settings.read("partition", text)
    options = {name: value for name, value in term.arguments.items() if name != "malicious"}
    return [*deal(term.name, options, examples, clients, torch.Generator().manual_seed(seed))]


def counts(examples: Examples, held: list[Tensor]) -> Tensor:
    """Count each client's rows of each class: `(clients, classes)`."""
    return torch.stack([torch.bincount(examples.labels[rows], minlength=examples.classes) for rows in held])


@given(
    text=st.sampled_from(DEALT),
    clients=st.integers(1, 12),
    rows=st.integers(1, 80),
    classes=st.integers(2, 6),
    seed=st.integers(0, 50),
)
def test_every_row_is_dealt_once_and_every_client_has_some(
    text: str, clients: int, rows: int, classes: int, seed: int
) -> None:
    pieces = 3 if text == "shards(labels=3)" else 1
    assume(rows >= clients * pieces)
    held = dealt(text, mixed(rows, classes, seed), clients, seed)
    assert len(held) == clients
    assert min(len(mine) for mine in held) >= 1
    assert sorted(torch.cat(held).tolist()) == list(range(rows))


@given(
    text=st.sampled_from([text for text in DEALT if "shards" not in text]),
    clients=st.integers(1, 12),
    seed=st.integers(0, 50),
)
def test_as_many_clients_as_rows_have_one_each(text: str, clients: int, seed: int) -> None:
    held = dealt(text, mixed(clients, 3, seed), clients, seed)
    assert [len(mine) for mine in held] == [1] * clients


@given(text=st.sampled_from(DEALT), seed=st.integers(0, 50))
def test_one_generator_deals_the_same_again(text: str, seed: int) -> None:
    examples = mixed(60, 4)
    for one, two in zip(dealt(text, examples, 5, seed), dealt(text, examples, 5, seed), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("text", [text for text in DEALT if text != "iid"])
def test_another_generator_deals_otherwise(text: str) -> None:
    examples = mixed(200, 5)
    seen = {tuple(tuple(mine.tolist()) for mine in dealt(text, examples, 5, seed)) for seed in range(10)}
    assert len(seen) == 10


@pytest.mark.parametrize("text", [*DEALT, "natural"])
def test_dealing_leaves_the_global_random_state_and_the_examples_alone(text: str) -> None:
    examples = mixed(60, 4)._replace(owners=torch.arange(60) % 10)
    before, numpys = torch.get_rng_state(), pickle.dumps(np.random.get_state())  # noqa: NPY002 (what must not move)
    labels = examples.labels.clone()
    dealt(text, examples, 5)
    assert torch.equal(torch.get_rng_state(), before)
    assert pickle.dumps(np.random.get_state()) == numpys  # noqa: NPY002
    assert torch.equal(examples.labels, labels)


@given(clients=st.integers(1, 12), spare=st.integers(0, 60), seed=st.integers(0, 5))
def test_iid_sizes_differ_by_at_most_one(clients: int, spare: int, seed: int) -> None:
    sizes = [len(mine) for mine in dealt("iid", mixed(clients + spare, 3), clients, seed)]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("alpha", [0.2, 1.0, 20.0])
def test_a_class_s_shares_have_the_moments_of_a_dirichlet(alpha: float) -> None:
    """A client's share p of a class has mean 1/n and E[p^2] = (alpha + 1) / (n (n alpha + 1))."""
    clients, each, classes, seeds = 5, 400, 4, 60
    examples = balanced(each, classes)
    tables = torch.stack(
        [counts(examples, dealt(f"dirichlet(alpha={alpha})", examples, clients, seed)) for seed in range(seeds)]
    )
    assert (tables.sum(1) == each).all()
    shares = tables.double() / each
    square = (alpha + 1) / (clients * (clients * alpha + 1))
    # each of the 240 draws of a class is one of a law whose sum of squares, from 0.2 to 1, spreads by 0.25 at most:
    # five standard errors of the mean are 0.08 of a sum that differs by 0.12 and more between these alphas
    assert float(shares.square().sum(1).mean()) == pytest.approx(clients * square, abs=0.08)
    # a share spreads by 0.4 at most, and 240 of them are averaged: five standard errors are 0.13
    assert (shares.mean((0, 2)) - 1 / clients).abs().max() < 0.13


def test_classes_are_drawn_apart_from_each_other() -> None:
    """One draw for all classes would be uneven sizes with even classes."""
    examples = balanced(400, 2)
    first, second = torch.stack(
        [counts(examples, dealt("dirichlet(alpha=0.5)", examples, 4, seed)) for seed in range(80)]
    ).unbind(-1)
    pairs = torch.stack([first.flatten(), second.flatten()]).double()
    # 320 pairs, of which 240 are free: five standard errors of a correlation of zero are 0.32
    assert abs(float(torch.corrcoef(pairs)[0, 1])) < 0.32


def test_a_small_alpha_leaves_a_client_few_classes_and_a_large_one_all_alike() -> None:
    examples = balanced(100, 10)
    for seed in range(10):
        few = counts(examples, dealt("dirichlet(alpha=0.001)", examples, 10, seed))
        # with alpha so small a class falls to one client, but for a rest and the rows of clients left with none
        assert (few > 0).sum() <= 10 + 10
        assert (few.max(0).values >= 90).sum() >= 9
        even = counts(examples, dealt("dirichlet(alpha=1000000.0)", examples, 10, seed))
        # a share of 1/10 then spreads by 0.0001, so that only the rounding of 10 rows shows
        assert (even - 10).abs().max() <= 1


@pytest.mark.parametrize("alpha", ["1e-300", "1e-06", "1e+08"])
def test_the_extremes_of_alpha_lose_no_row(alpha: str) -> None:
    for seed in range(5):
        held = dealt(f"dirichlet(alpha={alpha})", mixed(100, 5), 7, seed)
        assert sorted(torch.cat(held).tolist()) == list(range(100))
        assert min(len(mine) for mine in held) >= 1


@pytest.mark.parametrize("sigma", ["1e-300", "50.0", "1e+08"])
def test_the_extremes_of_sigma_lose_no_row(sigma: str) -> None:
    for seed in range(5):
        held = dealt(f"quantity(sigma={sigma})", mixed(100, 5), 7, seed)
        assert sorted(torch.cat(held).tolist()) == list(range(100))
        assert min(len(mine) for mine in held) >= 1


@given(
    clients=st.integers(1, 10),
    labels=st.integers(1, 4),
    spare=st.integers(0, 60),
    classes=st.integers(1, 8),
    seed=st.integers(0, 20),
)
def test_a_client_of_shards_holds_whole_pieces_of_the_rows_sorted_by_label(
    clients: int, labels: int, spare: int, classes: int, seed: int
) -> None:
    examples = mixed(clients * labels + spare, classes, seed)
    pieces = clients * labels
    rows = len(examples.labels)
    held = dealt(f"shards(labels={labels})", examples, clients, seed)
    sizes = [len(mine) for mine in held]
    # each piece has `small` rows or one more
    small = rows // pieces
    assert all(labels * small <= size <= labels * (small + (rows % pieces > 0)) for size in sizes)
    assert max(sizes) - min(sizes) <= labels
    seen = (counts(examples, held) > 0).sum(1)
    # the pieces lie one after the other in the sorted rows, which change their label classes - 1 times at most: all
    # pieces together see `pieces + classes - 1` classes, counted a piece
    assert int(seen.sum()) <= pieces + classes - 1
    # and a piece that is no longer than the smallest class holds two classes at most
    present = torch.bincount(examples.labels)
    if math.ceil(rows / pieces) <= int(present[present > 0].min()):
        assert int(seen.max()) <= 2 * labels


def test_shards_that_fit_the_classes_give_each_client_exactly_as_many() -> None:
    """Ten classes of 20 rows in 20 pieces: a piece is half a class, and a client of two sees one or two."""
    examples = balanced(20, 10)
    pairs = set()
    for seed in range(20):
        table = counts(examples, dealt("shards(labels=2)", examples, 10, seed))
        assert set(table.flatten().tolist()) <= {0, 10, 20}
        assert (table.sum(1) == 20).all()
        pairs |= {tuple(row.nonzero().flatten().tolist()) for row in table}
    # 200 clients drawn among 45 pairs and 10 twins: pieces that were dealt in order would show 10 of them
    assert len(pairs) > 30


def test_as_many_pieces_as_classes_of_one_size_are_a_class_each() -> None:
    """Rows of one label are one stretch, wherever they lie in the data."""
    examples = balanced(20, 10)
    for mine in dealt("shards(labels=1)", examples, 10):
        assert len(set(examples.labels[mine].tolist())) == 1


@given(
    owned=st.lists(st.integers(1, 6), min_size=1, max_size=12),
    seed=st.integers(0, 50),
    data=st.data(),
)
def test_a_natural_client_is_one_owner_with_all_its_rows(owned: list[int], seed: int, data: st.DataObject) -> None:
    clients = data.draw(st.integers(1, len(owned)))
    names = torch.arange(len(owned)) * 7 + 3  # owners are numbered, not counted
    owners = names.repeat_interleave(torch.tensor(owned))
    owners = owners[torch.randperm(len(owners), generator=torch.Generator().manual_seed(seed))]
    examples = mixed(len(owners), 3)._replace(owners=owners)
    held = dealt("natural", examples, clients, seed)
    chosen = []
    for mine in held:
        (owner,) = set(owners[mine].tolist())
        assert sorted(mine.tolist()) == (owners == owner).nonzero().flatten().tolist()
        chosen.append(owner)
    assert len(held) == clients == len(set(chosen))


def test_natural_clients_are_drawn_evenly_among_the_owners() -> None:
    owners = torch.arange(8).repeat(3)
    examples = mixed(24, 3)._replace(owners=owners)
    drawn = torch.zeros(8)
    for seed in range(200):
        for mine in dealt("natural", examples, 2, seed):
            drawn[owners[mine[0]]] += 1
    # each is drawn 50 times, give or take 6.1: five standard deviations
    assert (drawn - 50).abs().max() < 31
    firsts = {int(owners[dealt("natural", examples, 8, seed)[0][0]]) for seed in range(60)}
    # and no client is always the same owner, even when all owners take part
    assert firsts == set(range(8))


@pytest.mark.parametrize("sigma", [0.3, 1.0])
def test_sizes_are_lognormal(sigma: float) -> None:
    """Among clients of one federation the logarithms of sizes spread by sigma^2, whatever their sum is scaled to."""
    examples = mixed(20_000, 2)
    logs = torch.stack(
        [
            torch.tensor([len(mine) for mine in dealt(f"quantity(sigma={sigma})", examples, 20, seed)]).double().log()
            for seed in range(40)
        ]
    )
    # 760 free normal values: a variance has a relative standard error of 0.051; five of them
    assert float(logs.var(1).mean()) == pytest.approx(sigma**2, rel=0.26)
    third = ((logs - logs.mean(1, keepdim=True)) ** 3).mean() / logs.var(1).mean() ** 1.5
    # a normal value has no skew: 800 of them show one with a standard error of 0.087; five of them
    assert abs(float(third)) < 0.44


def test_uneven_sizes_leave_the_classes_as_they_come() -> None:
    """Rows that come in random order: each client's share of a class differs from all clients' as chance has it."""
    sums = []
    for seed in range(40):
        examples = mixed(4000, 4, seed)
        table = counts(examples, dealt("quantity(sigma=1.0)", examples, 8, seed)).double()
        wanted = table.sum(1, keepdim=True) * table.sum(0) / table.sum()
        sums.append(float(((table - wanted) ** 2 / wanted).sum()))
    # chi-squared with 7 * 3 degrees of freedom: mean 21 and deviation 6.5, over 40 seeds; five standard errors
    assert np.mean(sums) == pytest.approx(21, abs=5.2)


@pytest.mark.parametrize("text", DEALT)
def test_a_client_s_rows_come_in_no_order_of_labels(text: str) -> None:
    """Clients cut batches in order, so that sorted rows would make batches of one class."""
    examples = mixed(600, 3)
    changes = expected = 0.0
    for mine in dealt(text, examples, 6, 1):
        labels = examples.labels[mine]
        changes += float((labels[1:] != labels[:-1]).sum())
        share = torch.bincount(labels, minlength=3).double() / len(labels)
        expected += len(labels) * float(1 - share.square().sum())
    # neighbours in random order differ that often, with a deviation of the square root of 600 / 4 or less; five of them
    assert changes == pytest.approx(expected, abs=62)


@pytest.mark.parametrize(
    ("text", "rows", "owners", "clients", "said"),
    [
        ("iid", 5, None, 6, ("5", "6", "clients")),
        ("dirichlet(alpha=0.1)", 5, None, 6, ("5", "6", "clients")),
        ("quantity(sigma=1.0)", 5, None, 6, ("5", "6", "clients")),
        ("shards(labels=2)", 11, None, 6, ("11", "6", "clients")),
        ("shards(labels=100)", 99, None, 1, ("99", "100")),
        ("natural", 12, None, 6, ("owner", "natural")),
        ("natural", 12, 5, 6, ("5", "6", "owners")),
    ],
)
def test_what_cannot_be_dealt_is_refused_in_a_sentence(
    text: str, rows: int, owners: int | None, clients: int, said: tuple[str, ...]
) -> None:
    examples = mixed(rows, 3)
    if owners is not None:
        examples = examples._replace(owners=torch.arange(rows) % owners)
    with pytest.raises(AgrbenchError) as refused:
        dealt(text, examples, clients)
    for word in said:
        assert word in str(refused.value)
    # what was wrong, and after a semicolon what to write
    assert ";" in str(refused.value) or "cannot" in str(refused.value)


@pytest.mark.parametrize("text", ["dirichlet(alpha=0.1)", "shards(labels=2)", "quantity(sigma=1.0)"])
def test_a_class_without_rows_and_a_single_class_are_no_trouble(text: str) -> None:
    for labels in (torch.zeros(30, dtype=torch.long), torch.arange(30) % 2 * 4):
        held = dealt(text, numbered(labels, 6), 5)
        assert sorted(torch.cat(held).tolist()) == list(range(30))


def federation(seed: int = 0, size: int = 20, **settings: Any) -> Federation:
    """Make a federation of training rows 0 to 119, of 12 owners, and test rows 1000 to 1039."""
    train = mixed(120, 4)._replace(owners=torch.arange(120) % 12)
    test = numbered(torch.arange(40) % 4, 4, start=1000)
    cell = Cell("digits", "fedavg", "none", seed, **{"clients": 6, "malicious": 2} | settings)
    return federate(train, test, size, cell, partial(generator, seed))


@given(
    text=st.sampled_from([*DEALT, "natural"]),
    source=st.sampled_from(["train", "test"]),
    size=st.integers(0, 30),
    seed=st.integers(0, 20),
)
def test_clients_root_set_and_test_set_share_no_row(text: str, source: str, size: int, seed: int) -> None:
    made = federation(seed, size, partition=text, root=source)
    shards = [*itertools.chain(*map(ids, made.shards))]
    held = [*shards, *ids(made.root), *ids(made.test)]
    assert len(held) == len(set(held))
    assert len(made.shards) == 6
    assert len(ids(made.root)) == size
    assert set(shards) <= set(range(120))
    if source == "train":
        assert set(ids(made.root)) <= set(range(120))
        assert ids(made.test) == list(range(1000, 1040))
    else:
        assert ids(made.root) == list(range(1000, 1000 + size))
        assert ids(made.test) == list(range(1000 + size, 1040))
    if text != "natural":
        assert sorted(held) == [*range(120), *range(1000, 1040)]


@given(text=st.sampled_from([*DEALT, "natural"]), source=st.sampled_from(["train", "test"]), seed=st.integers(0, 20))
def test_rows_keep_their_labels_and_their_owners(text: str, source: str, seed: int) -> None:
    made, train = federation(seed, partition=text, root=source), mixed(120, 4)
    for shard in (*made.shards, *([made.root] if source == "train" else [])):
        numbers = torch.tensor(ids(shard))
        assert torch.equal(shard.labels, train.labels[numbers])
        assert shard.classes == 4
    if text == "natural":
        for shard in made.shards:
            assert len({number % 12 for number in ids(shard)}) == 1


def test_a_root_set_from_the_training_rows_is_drawn_at_random() -> None:
    drawn = torch.zeros(120)
    for seed in range(120):
        drawn[ids(federation(seed).root)] += 1
    # each row is drawn 20 times, give or take 4.1: five standard deviations
    assert (drawn - 20).abs().max() < 21
    # and not in blocks: neighbours are drawn together one time in six
    assert len({tuple(sorted(ids(federation(seed).root))) for seed in range(20)}) == 20


@pytest.mark.parametrize("size", [40, 41])
def test_a_root_set_that_leaves_no_test_row_is_refused(size: int) -> None:
    with pytest.raises(AgrbenchError, match=f"{size}.*40|40.*{size}"):
        federation(size=size, root="test")


@pytest.mark.parametrize("size", [115, 120, 121])
def test_a_root_set_that_leaves_less_than_a_row_a_client_is_refused(size: int) -> None:
    with pytest.raises(AgrbenchError, match=f"{max(120 - size, 0)} |{size}"):
        federation(size=size)


@pytest.mark.parametrize("text", [*DEALT, "natural"])
def test_seeds_deal_differently_and_one_seed_the_same_whatever_the_defense_and_the_attack(text: str) -> None:
    def shares(seed: int, defense: str = "fedavg", attack: str = "none") -> tuple[tuple[int, ...], ...]:
        train = mixed(120, 4)._replace(owners=torch.arange(120) % 12)
        cell = Cell("digits", defense, attack, seed, clients=6, malicious=2, partition=text)
        made = federate(train, numbered(torch.arange(8) % 4, 4, 1000), 20, cell, partial(generator, seed))
        return *(tuple(ids(shard)) for shard in made.shards), made.malicious

    assert shares(0) == shares(0, "krum", "min_max")
    assert len({shares(seed)[:-1] for seed in range(5)}) == 5


@pytest.mark.parametrize("text", ["dirichlet(alpha=0.1)", "shards(labels=2)", "quantity(sigma=1.0)"])
def test_who_is_malicious_does_not_depend_on_the_partition(text: str) -> None:
    for seed in range(5):
        assert federation(seed, partition=text).malicious == federation(seed).malicious


@pytest.mark.parametrize(
    "settings",
    [
        {"partition": "dirichlet(alpha=0.1)"},
        {"partition": "shards(labels=2)", "schedule": "adam(batches=3)"},
        {"partition": "quantity(sigma=2.0)", "schedule": "sgd(momentum=0.9,batches=4,epochs=2)"},
        {"root": "test"},
    ],
    ids=str,
)
def test_a_cell_of_uneven_clients_runs_and_repeats_bit_for_bit(settings: dict[str, Any]) -> None:
    cell = Cell("digits", "fltrust", "label_flip", clients=10, rounds=20, start=10, **settings)
    first, again = agrbench.run(cell), agrbench.run(cell)
    assert first["status"] == "done"
    assert curves(first) == curves(again)
    assert curves(first) != curves(
        agrbench.run(Cell("digits", "fltrust", "label_flip", clients=10, rounds=20, start=10))
    )


def test_plain_averaging_weighs_uneven_clients_alike_unless_told() -> None:
    """The clients' sizes reach the server, which may weigh by them."""
    cells = [
        Cell("digits", defense, "none", clients=5, malicious=0, rounds=20, partition="quantity(sigma=2.0)")
        for defense in ("fedavg", "fedavg(weighted=True)")
    ]
    for cell, weighted in zip(cells, (False, True), strict=True):
        run = Run(cell, Registry())
        before = run.state.model.clone()
        run.round(1)
        updates = run.clean.updates
        sizes = torch.tensor([len(shard.labels) for shard in run.data.shards]).float()
        assert sizes.max() > 2 * sizes.min()
        share = sizes / sizes.sum() if weighted else torch.full((5,), 0.2)
        # float32: five rows are added in another order
        torch.testing.assert_close(run.state.model - before, share @ updates, rtol=1e-3, atol=1e-6)


@given(clients=st.integers(1, 20), size=st.integers(0, 30), seed=st.integers(0, 20))
def test_iid_federations_are_those_of_records_already_published(clients: int, size: int, seed: int) -> None:
    """One permutation: the root set first, then the clients in turn."""
    made = federation(seed, size, clients=clients, malicious=0)
    rows = torch.randperm(120, generator=generator(seed, "split"))
    assert ids(made.root) == rows[:size].tolist()
    assert [ids(shard) for shard in made.shards] == [part.tolist() for part in rows[size:].tensor_split(clients)]


@given(
    clients=st.integers(1, 12),
    spare=st.integers(0, 60),
    gamma=st.sampled_from([0, 0.33, 0.66, 1]),
    seed=st.integers(0, 5),
)
def test_sorted_sizes_differ_by_at_most_one(clients: int, spare: int, gamma: float, seed: int) -> None:
    """Rows left over by the pieces at random and by the sorted ones go to clients at opposite ends."""
    sizes = [len(mine) for mine in dealt(f"similarity(gamma={gamma})", mixed(clients + spare, 3), clients, seed)]
    assert max(sizes) - min(sizes) <= 1


@given(clients=st.integers(1, 12), rows=st.integers(12, 80), seed=st.integers(0, 20))
def test_sorted_rows_go_to_the_clients_in_the_order_of_their_labels(clients: int, rows: int, seed: int) -> None:
    examples = mixed(rows, 4, seed)
    held = dealt("sorted", examples, clients, seed)
    ends = [(int(examples.labels[mine].min()), int(examples.labels[mine].max())) for mine in held]
    assert all(high <= low for (_, high), (low, _) in itertools.pairwise(ends))


@pytest.mark.parametrize("gamma", [0.0, 0.25, 0.66, 1.0])
def test_a_share_gamma_of_the_rows_is_spread_evenly(gamma: float) -> None:
    """Ten clients and ten classes of 400: a client has its own class, and 40 gamma of every class on average."""
    examples, seeds = balanced(400, 10), 40
    table = (
        torch.stack(
            [counts(examples, dealt(f"similarity(gamma={gamma})", examples, 10, seed)) for seed in range(seeds)]
        )
        .double()
        .mean(0)
    )
    wanted = torch.full((10, 10), 40 * gamma).double() + torch.eye(10) * 400 * (1 - gamma)
    # The spread rows of the first k classes number 400 gamma k with a deviation of up to 16 a seed, so the ends of the
    # sorted pieces move, and a client misses up to 13 rows of its own class on average.
    assert (table - wanted).abs().max() < 18


@pytest.mark.parametrize("partition", ["sorted", "iid", "dirichlet(alpha=1)", "shards(labels=2)", "quantity"])
def test_malicious_clients_may_hold_all_rows_while_honest_ones_share_them(partition: str) -> None:
    name, _, inside = partition.rstrip(")").partition("(")
    text = f"{name}({inside}{',' if inside else ''}malicious='all')"
    cell = Cell("digits", "fedavg", "none", clients=8, malicious=3, partition=text)
    train = mixed(200, 4)
    found = federate(train, mixed(50, 4), 20, cell, partial(generator, 0))
    held = {client: sorted(found.shards.hands[client].tolist()) for client in range(8)}
    honest = sorted(itertools.chain.from_iterable(held[client] for client in found.honest))
    assert len(honest) == 180
    assert len(set(honest)) == 180
    assert all(held[client] == honest for client in found.malicious)


def test_malicious_clients_are_those_of_the_given_numbers() -> None:
    cell = Cell("digits", "fedavg", "none", clients=8, malicious="ids(5,2,2)")
    assert cell.malicious == "ids(2,5)"
    assert cell.attackers == cell.bound == 2
    assert federate(mixed(200, 4), mixed(50, 4), 20, cell, partial(generator, 3)).malicious == (2, 5)
