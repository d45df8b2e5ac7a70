"""Rounds of some of the clients: who takes part, what the server assumes, and that memory follows client numbers."""

from __future__ import annotations

import copy
import json
import resource
from fractions import Fraction
from math import comb
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

import agrbench
from agrbench.cells import Cell
from agrbench.clients.federation import Federation, Shards
from agrbench.clients.partitions import Hands
from agrbench.data.examples import Examples
from agrbench.errors import AgrbenchError
from agrbench.plugins.registry import Registry
from agrbench.randomness import generator
from agrbench.results.breaking import searches
from agrbench.results.record import curves
from agrbench.results.tables.breaking import table
from agrbench.results.tables.notes import beyond
from agrbench.results.tables.notes import federation as federation_of
from agrbench.simulation.prefixes import Tree
from agrbench.simulation.run import Run
from agrbench.simulation.sampling import Draw, draws
from tests.helpers.commands import agrbench as command

CPU = torch.device("cpu")
SOME: dict[str, Any] = {"clients": 20, "sample": 6, "rounds": 20, "start": 10}


def cell(**given: Any) -> Cell:
    return Cell("digits", "fedavg", "none", **given)


def federation(sizes: list[int], malicious: tuple[int, ...] = ()) -> Federation:
    rows = sum(sizes)
    examples = Examples(torch.arange(float(rows))[:, None], torch.arange(rows) % 2, 2)
    ends = torch.tensor([0, *sizes]).cumsum(0)
    return Federation(Shards(examples, Hands(torch.arange(rows), ends)), examples, examples, malicious)


def drawn(sizes: list[int], sample: str, seed: int = 0, malicious: tuple[int, ...] = ()) -> Draw:
    made = cell(clients=len(sizes), sample=sample, malicious=len(malicious), seed=seed)
    return draws(made, federation(sizes, malicious), lambda *purpose: generator(seed, *purpose), CPU)


# The setting


@pytest.mark.parametrize(
    ("given", "clients", "means"),
    [
        (6, 20, 6),
        (0.3, 20, 6),
        ("sample(6)", 20, 6),
        ("sample(0.3)", 20, 6),
        ("sample(6,by='uniform')", 20, 6),
        ("sample(by='size')", 20, "sample(2,by='size')"),
        ("sample(0.3, by='size')", 20, "sample(6,by='size')"),
        ("sample(6,quantile=0.9)", 20, "sample(6,quantile=0.9)"),
        (20, 20, None),
        (1.0, 20, None),
        (0.001, 20, 1),
        (None, 20, None),
    ],
)
def test_a_sample_is_written_as_a_number_in_one_way(given: Any, clients: int, means: Any) -> None:
    made = cell(clients=clients, sample=given)
    assert made.sample == means
    assert made.settings.get("sample") == means
    assert made.key == cell(clients=clients, sample=means).key
    assert Cell.from_json(made.as_json()) == Cell.from_json(json.loads(json.dumps(made.as_json())))


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (0, "1"), (21, "20"), (-3, "sample"), (1.5, "share"), (True, "sample"), ("half", "sample"),
        ("sample(3,4)", "one"), ("sample(6,by='age')", "'size'"), ("sample(6,quantile=1.5)", "below 1"),
        ("sample(6,by='size',quantile=0.9)", "uniform"), ("sample('north')", "number"),
    ],
)  # fmt: skip
def test_a_wrong_sample_is_refused_with_what_to_write(given: Any, names: str) -> None:
    with pytest.raises(AgrbenchError, match="sample") as refused:
        cell(clients=20, sample=given)
    assert names in str(refused.value)


@given(
    clients=st.integers(1, 60),
    data=st.data(),
    quantile=st.floats(0.01, 0.99),
)
def test_the_bound_is_the_rounded_share_or_the_quantile_of_the_hypergeometric_law(
    clients: int, data: st.DataObject, quantile: float
) -> None:
    malicious = data.draw(st.integers(0, clients - 1))
    taking_part = data.draw(st.integers(1, clients))
    made = cell(clients=clients, malicious=malicious, sample=taking_part)
    assert made.bound == (
        malicious if taking_part == clients else min(round(malicious * taking_part / clients), taking_part - 1)
    )
    if taking_part == clients:
        return
    cautious = cell(clients=clients, malicious=malicious, sample=f"sample({taking_part},quantile={quantile})").bound
    assert cautious <= taking_part - 1

    def at_most(bound: int) -> Fraction:
        ways = sum(comb(malicious, k) * comb(clients - malicious, taking_part - k) for k in range(bound + 1))
        return Fraction(ways, comb(clients, taking_part))

    slack = Fraction(1, 10**9)  # scipy's law is computed in float64
    if cautious < taking_part - 1:
        assert at_most(cautious) >= Fraction(quantile) - slack
    if cautious > 0:
        assert at_most(cautious - 1) < Fraction(quantile) + slack


def test_the_share_of_malicious_clients_is_of_all_clients_and_an_own_bound_is_of_a_round() -> None:
    made = cell(clients=1000, sample=100, malicious=0.3)
    assert (made.attackers, made.participants, made.bound) == (300, 100, 30)
    assert cell(clients=1000, sample=100, byzantine=45).bound == 45
    with pytest.raises(AgrbenchError, match="byzantine is 100; write a number from 0 to 99"):
        cell(clients=1000, sample=100, byzantine=100)


# The draw


@given(st.integers(1, 12), st.data(), st.integers(0, 99), st.sampled_from(["uniform", "size"]))
def test_a_round_draws_distinct_clients_in_ascending_order_the_same_each_time(
    clients: int, data: st.DataObject, number: int, by: str
) -> None:
    count = data.draw(st.integers(1, clients))
    malicious = data.draw(st.sets(st.integers(0, clients - 1), max_size=clients - 1))
    draw = drawn([3] * clients, f"sample({count},by='{by}')", malicious=tuple(sorted(malicious)))
    cohort = draw(number)
    assert len(cohort.clients) == count
    assert list(cohort.clients) == sorted(set(cohort.clients))
    assert set(cohort.attackers) == malicious & set(cohort.clients)
    assert sorted([*cohort.honest.tolist(), *cohort.malicious.tolist()]) == list(range(count))
    assert draw(number).clients == cohort.clients


def test_uniform_draws_take_every_client_equally_often_and_rounds_differ() -> None:
    draw = drawn([1, 1, 1, 1, 1, 1, 1, 993], "sample(2)")
    rounds = [draw(number).clients for number in range(1, 4001)]
    counts = torch.bincount(torch.tensor(rounds).flatten(), minlength=8)
    assert len(set(rounds)) == 28  # all pairs
    assert (counts - 1000).abs().max() < 5 * (4000 * 0.25 * 0.75) ** 0.5


def test_draws_by_size_take_clients_in_proportion_to_their_examples() -> None:
    draw = drawn([10, 20, 30, 40], "sample(1,by='size')")
    counts = torch.bincount(torch.tensor([draw(number).clients[0] for number in range(1, 4001)]), minlength=4)
    assert (counts / 4000 - torch.tensor([0.1, 0.2, 0.3, 0.4])).abs().max() < 5 * (0.25 / 4000) ** 0.5


# The rounds


class Worker:
    """A client as a textbook has it: its own optimizer, which it keeps while it takes no part."""

    def __init__(self, module: nn.Module, rate: float) -> None:
        self.module = copy.deepcopy(module)
        self.optimizer = torch.optim.SGD(self.module.parameters(), rate, momentum=0.9)

    def train(self, start: Tensor, shard: Examples) -> Tensor:
        vector_to_parameters(start.clone(), self.module.parameters())
        for rows in torch.arange(len(shard.labels)).tensor_split(2):
            self.optimizer.zero_grad()
            scores = self.module(shard.features[rows])
            torch.autograd.backward(nn.functional.cross_entropy(scores, shard.labels[rows]))
            self.optimizer.step()
        return parameters_to_vector(self.module.parameters()).detach() - start


MODULE = """
    from torch import nn

    from agrbench.data.examples import Examples
    from agrbench.plugins import Dataset, Source
    import torch

    def load():
        rng = torch.Generator().manual_seed(1)
        features = torch.randn(300, 4, generator=rng, dtype=torch.float64)
        labels = (features.sum(1) > 0).long()
        return Examples(features[:240], labels[:240], 2), Examples(features[240:], labels[240:], 2)

    def build(shape, classes):
        return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()

    dataset = Dataset(load, model=build, rate=0.1, root_size=40, source=Source("made here"))
"""


def test_a_sampled_run_equals_a_plain_loop_in_which_absent_clients_keep_their_momentum(tmp_path: Path) -> None:
    from tests.helpers import plugins

    path = plugins.write(tmp_path, "tanh", MODULE)
    made = Cell("tanh", "fedavg", "none", clients=10, sample=3, rounds=12, schedule="sgd(momentum=0.9,batches=2)")
    run = Run(made, Registry([path]))
    module = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    model = run.state.model.clone()
    workers = [Worker(module, 0.1) for _ in range(10)]
    seen = set[tuple[int, ...]]()
    for number in range(1, 13):
        clients = draws(made, run.data, run.randomness, CPU)(number).clients
        seen.add(clients)
        model = model + torch.stack([workers[each].train(model, run.data.shards[each]) for each in clients]).mean(0)
        run.round(number)
        torch.testing.assert_close(run.state.model, model)  # float64
    assert len(seen) > 5


@pytest.mark.parametrize("attack", ["label_flip", "lie", "mimic", "badnets", "model_replacement"])
@pytest.mark.parametrize("defense", ["fedavg", "foolsgold", "fldetector(window=2)", "amp+krum"])
@pytest.mark.filterwarnings("ignore")
def test_sampled_cells_repeat_and_branches_equal_whole_runs(attack: str, defense: str) -> None:
    some = Cell("digits", defense, attack, schedule="sgd(momentum=0.9)", malicious=0.2, **SOME)
    alone = agrbench.run(some)
    tree = Tree(Registry())
    tree.simulate(Cell("digits", defense, "sign_flip", schedule="sgd(momentum=0.9)", malicious=0.2, **SOME))
    branched = tree.simulate(some)
    assert branched["shared_rounds"] == 9
    assert {name: curves(alone)[name] for name in ("accuracy", "loss", "trust", "success")} == {
        name: branched[name] for name in ("accuracy", "loss", "trust", "success")
    }


def test_a_round_without_malicious_clients_is_not_attacked_and_has_no_rates() -> None:
    made = Cell("digits", "krum", "sign_flip", clients=20, malicious=1, sample=4, rounds=20, start=10)
    run = Run(made, Registry())
    present = []
    for number in range(1, 21):
        run.round(number)
        present.append(bool(run.cohort.attackers))
        assert run.attacked(number) == (number >= 10 and bool(run.cohort.attackers))
        if run.attacked(number):
            assert run.cohort.attackers == run.data.malicious
            assert run.insider(number).malicious == 1
            assert run.insider(number).clients == 4
    assert {*present[9:]} == {True, False}


def test_an_insider_knows_which_clients_the_honest_rows_are_of() -> None:
    run = Run(Cell("digits", "fedavg", "lie", **SOME), Registry())
    run.round(11)
    insider = run.insider(11)
    assert insider.ids == tuple(each for each in run.cohort.clients if each not in run.data.malicious)
    assert len(insider.honest) == len(insider.ids)


def test_poisoned_data_is_made_for_those_who_take_part_and_once() -> None:
    run = Run(Cell("digits", "fedavg", "label_flip", **SOME), Registry())
    taken: dict[int, Tensor] = {}
    for number in range(10, 16):
        run.round(number)
        for client in run.cohort.attackers:
            shard = run.training.shards[client]
            assert taken.setdefault(client, shard.labels) is shard.labels
            assert torch.equal(shard.features.sum(), run.data.shards[client].features.sum())
    assert set(run.training.shards) == set(taken)


@pytest.mark.trap("foolsgold")
def test_history_follows_the_client_not_the_row() -> None:
    """A history kept by row would add up the updates of whoever happens to stand there."""
    run = Run(Cell("digits", "foolsgold", "none", **SOME), Registry())
    told: dict[int, Tensor] = {}
    for number in range(1, 9):
        run.round(number)
        for row, client in enumerate(run.cohort.clients):
            told[client] = told.get(client, torch.zeros(())) + run.clean.updates[row]
    memory = run.judge.memories[0]
    assert len(memory["history"]) == len(told)
    for client, row in memory["rows of history"].items():
        torch.testing.assert_close(memory["history"][row], told[client])


@pytest.mark.trap("mimic")
def test_mimic_sums_by_client_and_copies_the_one_that_stands_out_among_those_present() -> None:
    run = Run(Cell("digits", "fedavg", "mimic(warmup=4)", malicious=0.2, **SOME), Registry())
    sums: dict[int, Tensor] = {}
    attacked = 0
    for number in range(1, 21):
        run.round(number)
        if not run.attacked(number):
            continue
        honest = dict(zip(run.cohort.clients, run.clean.updates.double(), strict=True))
        rows = [honest.pop(client) for client in run.cohort.attackers]
        attacked += 1
        if attacked <= 4:
            for client, row in honest.items():
                sums[client] = sums.get(client, torch.zeros(())) + row
        else:
            direction = run.state.attack_memory["direction"]
            best = max(honest, key=lambda client: abs(float(sums[client] @ direction)) if client in sums else -1.0)
            assert all(torch.equal(row, honest[best]) for row in rows)
    assert attacked > 6


def test_rejected_rows_of_honest_clients_are_counted_by_who_takes_part() -> None:
    made = Cell("digits", "fedavg", "none", clients=20, malicious=0.3, sample=6, rounds=10, rate=1e30)
    played, again = Run(made, Registry()), Run(made, Registry())
    played.play(10)
    every = honest = 0
    for number in range(1, 11):
        outcome, _ = again.round(number)
        for client, rejected in zip(again.cohort.clients, outcome.rejected.tolist(), strict=True):
            every += rejected
            honest += rejected and client not in again.data.malicious
    assert every > honest > 0
    record = played.measured()
    assert (record["rejected"], record["rejected_honest"]) == (every, honest)


def test_a_million_clients_cost_what_a_hundred_do(tmp_path: Path) -> None:
    grid = ("grid", "-D", "synthetic", "-d", "krum", "-a", "label_flip", "--only-base", "--seeds", "1", "--jobs", "1")
    sampled = ("--clients", "1000000", "--sample", "100", "--rounds", "20")
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    done = command(*grid, *sampled, "--out", tmp_path)
    assert "1000000 clients, 100 a round, 300000 malicious (server assumes 30 a round)" in done.stdout
    assert max(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, before) < 3 << 20  # KiB
    record = json.loads(next(tmp_path.rglob("krum/label_flip/*.json")).read_text())
    assert record["peak_bytes"] < 1 << 30
    assert record["accuracy"][-1] > record["accuracy"][0]


def test_breaking_points_bisect_all_clients_and_bound_each_round() -> None:
    made = Cell("digits", "krum", "none", clients=40, sample=8, rounds=20, start=10)
    [_, search] = searches(made, ["krum"], ["sign_flip"], 1, Registry())
    # Krum needs 2f + 2 < 8, so the server may assume 2 a round: at most 12 of 40, of whom 2.4 are expected.
    assert (search.limit, search.limited_by) == (12, "krum requires 2 * f + 2 < n, and here n=8, f=3")
    assert [each.bound for each in search.cells(12)] == [2, 2]
    assert table([search]).title.startswith("Breaking points: digits, 40 clients, 8 a round, 20 rounds")


def test_titles_say_how_many_take_part_and_what_the_server_assumes_a_round() -> None:
    assert federation_of(cell(clients=20, sample=6)) == (
        "20 clients, 6 a round, 6 malicious (server assumes 2 a round)"
    )
    assert federation_of(cell(clients=20)) == "20 clients, 6 malicious (server assumes 6)"
    drawn_by_size = cell(clients=20, sample="sample(6,by='size')").settings
    assert beyond(drawn_by_size) == ", sample sample(6,by='size')"
    assert beyond(cell(clients=20, sample=6).settings) == ""
