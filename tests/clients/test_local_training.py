"""Local training: each client does what a plain optimizer loop of its own does, round after round."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor, nn

from agrbench.cells import Cell
from agrbench.clients.batches import mini_batches
from agrbench.clients.learner import Learner, learner
from agrbench.clients.local_training import Trainer
from agrbench.clients.models import mlp
from agrbench.clients.poisoning import shuffle_labels
from agrbench.clients.schedules import Schedule
from agrbench.data.examples import Examples
from agrbench.plugins.registry import Registry
from agrbench.randomness import generator
from agrbench.simulation.run import Run
from agrbench.threads import using
from tests.helpers import plugins

SGD = Schedule("sgd", 0.3)
ADAM = Schedule("adam", 0.01, epochs=2, batches=3)
MOMENTUM = Schedule("sgd", 0.1, epochs=2, batches=3, options={"momentum": 0.9})


def assert_close(ours: Tensor, wanted: Tensor) -> None:
    # float64: only the order of additions differs, by about 1e-16 of a gradient; Adam divides by no less than 1e-8
    torch.testing.assert_close(ours, wanted, rtol=1e-9, atol=1e-10)


def examples(size: int, shape: tuple[int, ...], classes: int, seed: int) -> Examples:
    rng = torch.Generator().manual_seed(seed)
    features = torch.rand((size, *shape), generator=rng, dtype=torch.float64)
    return Examples(features, torch.randint(classes, (size,), generator=rng), classes)


def shards(sizes: Sequence[int], shape: tuple[int, ...] = (4,), classes: int = 3) -> list[Examples]:
    return [examples(size, shape, classes, seed) for seed, size in enumerate(sizes)]


def perceptron(*hidden: int, inputs: int = 4, classes: int = 3, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return mlp(*hidden)((inputs,), classes).double()


def convolution(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(1, 2, 2), nn.Tanh(), nn.Flatten(), nn.LayerNorm(8), nn.Linear(8, 3)).double()


def shape_for(module: nn.Module) -> tuple[int, ...]:
    return (1, 3, 3) if any(isinstance(part, nn.Conv2d) for part in module.modules()) else (4,)


def of(module: nn.Module) -> Learner:
    return learner(lambda shape, classes: copy.deepcopy(module), shape_for(module), 3, torch.Generator())


def flat(module: nn.Module) -> Tensor:
    """Write a module's parameters in the order of updates: a perceptron's weights are `(d_in, d_out)`."""
    turned = shape_for(module) == (4,)
    parts = (part.detach() for part in module.parameters())
    return torch.cat([(part.T if turned and part.ndim == 2 else part).flatten() for part in parts])


def fill(module: nn.Module, vector: Tensor) -> None:
    """Read back what `flat` writes."""
    turned = shape_for(module) == (4,)
    for part in module.parameters():
        mine, vector = vector[: part.numel()], vector[part.numel() :]
        part.data.copy_(mine.view(part.shape[::-1]).T if turned and part.ndim == 2 else mine.view(part.shape))
    assert not len(vector)


class Worker:
    """One client as a textbook has it: its own module, its own optimizer of torch.optim, its own rows."""

    def __init__(self, module: nn.Module, schedule: Schedule) -> None:
        self.module, self.schedule = copy.deepcopy(module), schedule
        self.optimizer = self.fresh()

    def fresh(self) -> torch.optim.Optimizer:
        kind = torch.optim.Adam if self.schedule.optimizer == "adam" else torch.optim.SGD
        return kind(self.module.parameters(), self.schedule.rate, **self.schedule.options)

    def rows(self, size: int, seed: int) -> list[Tensor]:
        if self.schedule.batch is not None:
            return mini_batches(size, self.schedule, seed - 1)
        pieces = min(self.schedule.batches, size)
        return [*torch.tensor_split(torch.arange(size), pieces)] * self.schedule.epochs

    def train(self, start: Tensor, shard: Examples, number: int = 0, seed: int = 0) -> Tensor:
        fill(self.module, start)
        if self.schedule.reset:
            self.optimizer = self.fresh()
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.rate_in(number)
        for rows in self.rows(len(shard.labels), seed):
            self.optimizer.zero_grad()
            scores = self.module(shard.features[rows])
            torch.autograd.backward(nn.functional.cross_entropy(scores, shard.labels[rows]))
            if self.schedule.clip is not None:
                nn.utils.clip_grad_norm_(self.module.parameters(), self.schedule.clip)
            self.optimizer.step()
        return flat(self.module) - start

    def twin(self) -> Worker:
        """Make another worker with a copy of this one's optimizer state."""
        other = Worker(self.module, self.schedule)
        other.optimizer.load_state_dict(copy.deepcopy(self.optimizer.state_dict()))
        return other


def follow(module: nn.Module, clients: Sequence[Examples], schedule: Schedule, rounds: int = 3) -> None:
    """Compare some rounds, each from the model that the mean of the last updates gave."""
    trainer = Trainer(of(module), clients, schedule, seed_of)
    workers = [Worker(module, schedule) for _ in clients]
    model = flat(module)
    for number in range(1, rounds + 1):
        wanted = torch.stack(
            [
                worker.train(model, shard, number, seed_of(number, client))
                for client, (worker, shard) in enumerate(zip(workers, clients, strict=True))
            ]
        )
        assert_close(trainer.train(model, number), wanted)
        model = model + wanted.mean(0)


def seed_of(number: int, client: int) -> int:
    return 1000 * number + client


def rounds_of(trainer: Trainer, model: Tensor, rounds: int = 3) -> Tensor:
    """Train some rounds, each from the last model moved by the first client's update: `(rounds, clients, ...)`."""
    results = []
    for _ in range(rounds):
        results.append(trainer.train(model).clone())
        model = model + results[-1][0]
    return torch.stack(results)


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    optimizer = draw(st.sampled_from(["sgd", "adam"]))
    options = {"weight_decay": draw(st.sampled_from([0.0, 0.01]))}
    if optimizer == "sgd":
        options["momentum"] = draw(st.sampled_from([0.0, 0.5, 0.9]))
    rate = {"sgd": 0.2, "adam": 0.01}[optimizer]
    batches: dict[str, Any] = draw(
        st.one_of(
            st.fixed_dictionaries({"epochs": st.integers(1, 3), "batches": st.integers(1, 5)}),
            st.fixed_dictionaries({"batch": st.integers(1, 5), "epochs": st.integers(1, 3)}),
            st.fixed_dictionaries({"batch": st.integers(1, 5), "steps": st.integers(1, 6)}),
        )
    )
    return Schedule(
        optimizer,
        rate,
        options=options,
        **batches,
        clip=draw(st.sampled_from([None, 0.1, 1.0])),
        decay=draw(st.sampled_from([None, "cosine", {2: 0.5, 3: 0.1}])),
        reset=draw(st.booleans()),
        rounds=5,
    )


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    hidden=st.lists(st.integers(1, 6), max_size=2),
    schedule=schedules(),
    seed=st.integers(0, 20),
)
def test_a_perceptron_s_clients_train_as_plain_optimizer_loops_do(
    sizes: list[int], hidden: list[int], schedule: Schedule, seed: int
) -> None:
    follow(perceptron(*hidden, seed=seed), shards(sizes), schedule)


@hypothesis_settings(max_examples=20)  # the general path takes clients in turn
@given(sizes=st.lists(st.integers(1, 7), min_size=1, max_size=4), schedule=schedules(), seed=st.integers(0, 20))
def test_another_module_s_clients_train_as_plain_optimizer_loops_do(
    sizes: list[int], schedule: Schedule, seed: int
) -> None:
    follow(convolution(seed), shards(sizes, (1, 3, 3)), schedule)


@pytest.mark.parametrize("schedule", [SGD, ADAM, MOMENTUM], ids=str)
def test_one_row_many_rows_and_fewer_rows_than_batches_stand_side_by_side(schedule: Schedule) -> None:
    """The federations where padding, or a client that takes fewer steps, would show most."""
    follow(perceptron(5), shards([1, 40, 2, 3, 1, 4, 39]), schedule, rounds=4)
    follow(convolution(), shards([1, 20, 2], (1, 3, 3)), schedule)


def test_ten_rounds_of_adam_count_their_steps() -> None:
    """Adam's correction of its bias tells the first step from the tenth; clients of few rows count fewer."""
    follow(perceptron(5), shards([1, 2, 7, 12]), Schedule("adam", 0.01, batches=4), rounds=10)


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5), hidden=st.lists(st.integers(1, 6), max_size=2))
def test_one_epoch_of_one_batch_without_momentum_is_the_full_gradient_times_the_rate(
    sizes: list[int], hidden: list[int]
) -> None:
    module, clients = perceptron(*hidden), shards(sizes)
    updates = Trainer(of(module), clients, SGD).train(flat(module))
    for update, shard in zip(updates, clients, strict=True):
        loss = nn.functional.cross_entropy(module(shard.features), shard.labels)
        changed = copy.deepcopy(module)
        for part, gradient in zip(
            changed.parameters(), torch.autograd.grad(loss, list(module.parameters())), strict=True
        ):
            part.data.copy_(gradient)
        assert_close(update, -SGD.rate * flat(changed))


def test_plain_gradient_steps_carry_nothing_from_round_to_round() -> None:
    trainer = Trainer(of(perceptron(5)), shards([3, 8]), Schedule("sgd", 0.3, epochs=2, batches=2))
    model = flat(perceptron(5))
    first = trainer.train(model).clone()
    assert torch.equal(trainer.train(model), first)


@pytest.mark.parametrize("schedule", [ADAM, MOMENTUM], ids=str)
def test_an_optimizer_s_state_lives_on_when_the_model_is_set_back(schedule: Schedule) -> None:
    trainer = Trainer(of(perceptron(5)), shards([3, 8]), schedule)
    model = flat(perceptron(5))
    first = trainer.train(model).clone()
    moved = (trainer.train(model) - first).abs().amax(1)
    # far above rounding, for every client
    assert (moved > 1e-4).all()


@pytest.mark.parametrize("schedule", [SGD, ADAM, MOMENTUM], ids=str)
@pytest.mark.parametrize("module", [perceptron(5), convolution()], ids=["perceptron", "convolution"])
def test_a_client_learns_the_same_whoever_else_is_trained(schedule: Schedule, module: nn.Module) -> None:
    clients = shards([3, 1, 12, 2, 7, 30], shape_for(module))
    models = [flat(module) + 0.01 * number for number in range(3)]
    together = Trainer(of(module), clients, schedule)
    alone = [Trainer(of(module), [shard], schedule) for shard in clients]
    for model in models:
        updates = together.train(model)
        for update, single in zip(updates, alone, strict=True):
            assert_close(update, single.train(model)[0])


@given(
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=6),
    schedule=st.sampled_from([SGD, ADAM, MOMENTUM]),
    data=st.data(),
)
def test_clients_in_another_order_learn_the_same_in_that_order(
    sizes: list[int], schedule: Schedule, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(sizes))))
    module, clients = perceptron(4), shards(sizes)
    plain, mixed = Trainer(of(module), clients, schedule), Trainer(of(module), [clients[i] for i in order], schedule)
    for number in range(3):
        model = flat(module) + 0.01 * number
        assert_close(mixed.train(model), plain.train(model)[order])


@pytest.mark.parametrize("cache", [1, 3000, 1 << 40])
@pytest.mark.parametrize("schedule", [SGD, ADAM, MOMENTUM], ids=str)
def test_blocks_of_any_size_train_alike(cache: int, schedule: Schedule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agrbench.clients.local_training.BLOCK", cache)
    follow(perceptron(5), shards([5, 4, 6, 1, 5, 20, 2, 5, 5]), schedule)
    follow(convolution(), shards([4, 1, 3], (1, 3, 3)), schedule)


@pytest.mark.parametrize("schedule", [SGD, ADAM, MOMENTUM], ids=str)
@pytest.mark.parametrize("module", [perceptron(5), convolution()], ids=["perceptron", "convolution"])
def test_each_client_may_start_from_a_model_of_its_own(schedule: Schedule, module: nn.Module) -> None:
    clients = shards([5, 6, 4, 1, 12, 2, 2], shape_for(module))  # some share a block, some stand alone
    trainer = Trainer(of(module), clients, schedule)
    workers = [Worker(module, schedule) for _ in clients]
    rng = torch.Generator().manual_seed(0)
    for number in range(4):
        own = flat(module) + 0.1 * torch.randn(7, len(flat(module)), generator=rng, dtype=torch.float64)
        starts = own if number % 2 else own[:1].expand(7, -1)
        wanted = [worker.train(*each) for worker, *each in zip(workers, starts, clients, strict=True)]
        assert_close(trainer.train(own if number % 2 else own[0]), torch.stack(wanted))


@pytest.mark.parametrize("schedule", [SGD, ADAM, MOMENTUM], ids=str)
def test_training_leaves_the_model_it_starts_from_and_the_data_as_they_are(schedule: Schedule) -> None:
    module, clients = perceptron(5), shards([3, 1, 12])
    before = copy.deepcopy(clients)
    trainer = Trainer(of(module), clients, schedule)
    for start in (flat(module), flat(module).repeat(3, 1)):
        given = start.clone()
        trainer.train(start)
        assert torch.equal(start, given)
    for shard, was in zip(clients, before, strict=True):
        assert torch.equal(shard.features, was.features) and torch.equal(shard.labels, was.labels)


def test_updates_are_what_was_learned_last() -> None:
    trainer = Trainer(of(perceptron(5)), shards([3, 8]), ADAM)
    given = trainer.train(flat(perceptron(5)))
    assert torch.equal(trainer.updates, given)
    assert given.shape == (2, len(flat(perceptron(5))))


@pytest.mark.parametrize("schedule", [SGD, ADAM, MOMENTUM], ids=str)
def test_a_rehearsal_learns_the_same_and_leaves_no_trace(schedule: Schedule) -> None:
    model = flat(perceptron(5))
    watched, control = (Trainer(of(perceptron(5)), shards([3, 1, 8]), schedule) for _ in range(2))
    assert torch.equal(watched.train(model), control.train(model))
    rehearsal = watched.rehearse()
    held = watched.updates.clone()
    ahead = rounds_of(rehearsal, model + 0.1, 4)
    assert torch.equal(watched.updates, held)
    assert torch.equal(rounds_of(watched, model + 0.1, 4), ahead)
    assert torch.equal(rounds_of(control, model + 0.1, 4), ahead)


def test_a_rehearsal_is_not_spoilt_by_what_the_original_does_next() -> None:
    model = flat(perceptron(5))
    watched, control = (Trainer(of(perceptron(5)), shards([3, 1, 8]), ADAM) for _ in range(2))
    for trainer in (watched, control):
        trainer.train(model)
    rehearsal = watched.rehearse()
    watched.train(model + 0.5)
    assert torch.equal(rehearsal.train(model), control.train(model))


@pytest.mark.parametrize("schedule", [ADAM, MOMENTUM], ids=str)
def test_taking_over_goes_on_with_the_other_clients_state(schedule: Schedule) -> None:
    """Clients of as many rows, so that a state means the same with whoever holds it."""
    module, clients = perceptron(5), shards([6, 6, 7, 6])
    giver = Trainer(of(module), clients, schedule)
    givers = [Worker(module, schedule) for _ in clients]
    taker = Trainer(of(module), [clients[0], clients[1], clients[2]], schedule)
    takers = [Worker(module, schedule) for _ in range(3)]
    model = flat(module)
    for _ in range(2):
        giver.train(model)
        for worker, shard in zip(givers, clients, strict=True):
            worker.train(model, shard)
    taker.train(model)
    for worker, shard in zip(takers, clients, strict=False):
        worker.train(model, shard)
    taker.take_over(giver, torch.tensor([3, 1]), torch.tensor([0, 2]))
    takers = [givers[3].twin(), takers[1], givers[1].twin()]
    for number in range(2):
        wanted = [worker.train(model + number, shard) for worker, shard in zip(takers, clients, strict=False)]
        assert_close(taker.train(model + number), torch.stack(wanted))
    # what was taken is a copy: the giver's later results are its own
    wanted = [worker.train(model, shard) for worker, shard in zip(givers, clients, strict=True)]
    assert_close(giver.train(model), torch.stack(wanted))


def test_taking_over_all_clients_needs_no_list() -> None:
    model = flat(perceptron(5))
    giver, taker = (Trainer(of(perceptron(5)), shards([3, 1, 8]), ADAM) for _ in range(2))
    giver.train(model)
    taker.take_over(giver, slice(None))
    assert torch.equal(taker.train(model), giver.train(model))


def test_taking_over_counts_on_from_the_steps_that_were_taken() -> None:
    """A client of one row has taken fewer steps than its neighbours; its count must travel with its state."""
    module, schedule = perceptron(5), Schedule("adam", 0.01, batches=4)
    clients = shards([1, 9, 2])
    giver, workers = Trainer(of(module), clients, schedule), [Worker(module, schedule) for _ in clients]
    model = flat(module)
    for _ in range(3):
        giver.train(model)
        for worker, shard in zip(workers, clients, strict=True):
            worker.train(model, shard)
    taker = Trainer(of(module), [clients[0], clients[2]], schedule)
    taker.take_over(giver, torch.tensor([0, 2]))
    for _ in range(2):
        wanted = [workers[0].train(model, clients[0]), workers[2].train(model, clients[2])]
        assert_close(taker.train(model), torch.stack(wanted))


def test_training_keeps_the_kind_of_numbers_of_the_model() -> None:
    clients = [shard._replace(features=shard.features.float()) for shard in shards([3, 1, 8])]
    module = perceptron(5).float()
    for schedule in (SGD, ADAM, MOMENTUM):
        updates = Trainer(of(module), clients, schedule).train(flat(module))
        assert updates.dtype == torch.float32
        wanted = torch.stack([Worker(module, schedule).train(flat(module), shard) for shard in clients])
        # float32 rounds each of six steps; Adam's first steps weigh small gradients as much as large ones
        torch.testing.assert_close(updates, wanted, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "rate"),
    [
        ({}, 0.5),
        ({"schedule": "sgd(momentum=0.9)"}, 0.5),
        ({"schedule": "adam"}, 0.001),
        ({"schedule": "adam(batches=5)"}, 0.001),
        ({"rate": 0.25}, 0.25),
        ({"rate": 0.25, "schedule": "adam"}, 0.25),
        ({"schedule": "adam(rate=0.02)"}, 0.02),
        ({"schedule": "sgd(rate=0.02)"}, 0.02),
    ],
    ids=str,
)
def test_the_rate_is_the_cell_s_and_else_the_optimizer_s_own(settings: dict[str, Any], rate: float) -> None:
    assert Schedule.of(Cell("digits", "fedavg", "none", **settings), 0.5).rate == rate


def test_a_cell_s_schedule_is_read_whole() -> None:
    cell = Cell(
        "digits", "fedavg", "none", schedule="sgd(momentum=0.9,epochs=2,batches=5,poisoned='after',root='size')"
    )
    assert Schedule.of(cell, 0.5) == Schedule("sgd", 0.5, 2, 5, "after", "size", {"momentum": 0.9}, rounds=200)
    cell = Cell(
        "digits", "fedavg", "none", schedule="adam(batch=32,steps=2,clip=1,decay='cosine',reset=True)", rounds=50
    )
    wanted = Schedule("adam", 0.001, batch=32, steps=2, clip=1.0, decay="cosine", reset=True, rounds=50)
    assert Schedule.of(cell, 0.5) == wanted
    cell = Cell("digits", "fedavg", "none")
    assert Schedule.of(cell, 0.5) == Schedule("sgd", 0.5, options={"momentum": 0.0}, rounds=200)


@pytest.mark.parametrize(
    ("rows", "shards", "batches"),
    [
        (300, [80] * 50, 19),  # LOCATION30: batches of 16
        (2000, [1160] * 50, 9),  # MNIST: 232
        (100, [67, 66], 8),  # 133 // 10 = 13
        (5, [3, 1], 5),  # no batch is smaller than one row
        (20, [1000], 1),
    ],
)
def test_root_set_may_be_cut_into_batches_of_the_clients_size(rows: int, shards: list[int], batches: int) -> None:
    schedule = Schedule("adam", 0.001, epochs=2, batches=5, root="size")
    assert schedule.of_root(rows, torch.tensor(shards)) == Schedule(
        "adam", 0.001, epochs=2, batches=batches, root="size"
    )
    assert Schedule("adam", 0.001, batches=5).of_root(rows, torch.tensor(shards)).batches == 5


@pytest.mark.parametrize(("root", "steps"), [("batches", 10), ("size", 16)])
def test_root_set_trains_as_a_client_with_as_many_batches_or_as_large_ones(
    tmp_path: Path, root: str, steps: int
) -> None:
    """100 root rows beside 20 clients of 67 or 66: batches of 1337 // 100 = 13 rows, so 8 of them in each epoch."""
    path = tmp_path / "precise.py"
    path.write_text(PRECISE)
    cell = Cell("precise", "fltrust", "none", clients=20, schedule=f"adam(epochs=2,batches=5,root='{root}')")
    run = Run(cell, Registry([path]))
    worker = Worker(mlp(4)((1, 8, 8), 10).double(), Schedule("adam", 0.001, epochs=2, batches=steps // 2))
    for number in (1, 2):
        model = run.state.model
        run.round(number)
        assert_close(run.training.root().updates[0], worker.train(model, run.data.root))
        assert run.training.root().state["steps"].tolist() == [steps * number]


PRECISE = '''"""Digits in double precision, and a small model."""
from agrbench.datasets import digits
from agrbench.clients.models import mlp
from agrbench.plugins import Dataset, Source

def load():
    return tuple(part._replace(features=part.features.double()) for part in digits.load())

dataset = Dataset(load, lambda shape, classes: mlp(4)(shape, classes).double(), rate=0.5, root_size=100,
                  source=Source("CC BY 4.0"))
'''


def oracle(run: Run, rounds: int, forge: str) -> list[Tensor]:
    """Play the rounds of a small federation one worker at a time: the global model after each."""
    cell, model = run.cell, run.state.model.clone()
    schedule = Schedule.of(cell, 0.5)
    module = mlp(4)((1, 8, 8), 10).double()
    shards = run.data.shards
    workers = [Worker(module, schedule) for _ in shards]
    bad = {
        client: shuffle_labels(shards[client], generator(cell.seed, "poison", 0, client))
        for client in run.data.malicious
    }
    apart: dict[int, Worker] = {}
    models = []
    for number in range(1, rounds + 1):
        if number == cell.first:
            apart = {client: workers[client].twin() for client in bad}
        sent = [worker.train(model, shard) for worker, shard in zip(workers, shards, strict=True)]
        for client, poisoned in bad.items() if number >= cell.first else ():
            clean = sent[client]
            learned = (
                apart[client].train(model, poisoned)
                if schedule.poisoned == "anew"
                else workers[client].train(model + clean, poisoned)
            )
            sent[client] = learned - clean if forge == "flip_ascent" else learned
        model = model + torch.stack(sent).mean(0)
        models.append(model)
    return models


@pytest.mark.parametrize("attack", ["label_flip", "flip_ascent"])
@pytest.mark.parametrize(
    "schedule",
    ["sgd", "adam(rate=0.001,batches=2)", "sgd(rate=0.1,batches=2,epochs=2,momentum=0.9)"],
)
@pytest.mark.parametrize("poisoned", ["anew", "after"])
def test_poisoned_training_starts_where_the_schedule_says(
    tmp_path: Path, attack: str, schedule: str, poisoned: str
) -> None:
    """`anew`: from the global model, with the state from before the attack; `after`: where clean training ended."""
    path = tmp_path / "precise.py"
    path.write_text(PRECISE)
    inside = schedule.partition("(")[2].rstrip(")")
    spec = f"{schedule.partition('(')[0]}({inside}{',' if inside else ''}poisoned='{poisoned}')"
    cell = Cell("precise", "fedavg", attack, clients=4, malicious=2, rounds=20, start=10, schedule=spec)
    run = Run(cell, Registry([path]))
    for number, wanted in enumerate(oracle(run, 13, attack), 1):
        run.round(number)
        # float64, thirteen rounds of two steps: see assert_close
        torch.testing.assert_close(run.state.model, wanted, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("schedule", ["sgd(rate=0.1,batches=2,momentum=0.9)", "adam(rate=0.001,poisoned='after')"])
def test_asking_what_the_server_would_do_changes_nothing(tmp_path: Path, schedule: str) -> None:
    """The server's root update has an optimizer state, too, and an attacker may ask as often as it likes."""
    models = []
    for times in (0, 3):
        path = plugins.write(
            tmp_path,
            f"asks_{times}",
            f'''
            """Ask, and send the clean update reversed."""
            from agrbench.plugins import Attack

            def forge(insider):
                for _ in range({times}):
                    insider.respond(insider.clean)
                return -insider.clean

            attack = Attack(forge=forge)
            ''',
        )
        cell = Cell("digits", "fltrust", path.stem, clients=4, malicious=1, rounds=20, start=10, schedule=schedule)
        run = Run(cell, Registry([path]))
        for number in range(1, 14):
            run.round(number)
        models.append(run.state.model)
    assert torch.equal(*models)


@pytest.mark.parametrize("schedule", ["sgd(batches=2,momentum=0.9)", "adam(batches=2,poisoned='after')"])
def test_attacks_without_poisoned_data_train_as_honest_clients_do(schedule: str) -> None:
    """Reversed updates move the model; yet each client's optimizer has seen its own data and nothing else."""
    cell = Cell("digits", "fedavg", "gradient_ascent", clients=3, malicious=1, rounds=20, start=10, schedule=schedule)
    run = Run(cell, Registry())
    trainer = Trainer(run.learner, [*run.data.shards], Schedule.of(cell, 0.5))
    for number in range(1, 13):
        before = run.state.model.clone()
        updates = trainer.train(before).clone()
        run.round(number)
        if number >= 10:
            updates[list(run.data.malicious)] *= -1
        # the model moved by the float32 mean, whose additions may come in another order
        torch.testing.assert_close(run.state.model - before, updates.mean(0), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("schedule", ["sgd(batches=2,momentum=0.9)", "adam(batches=2)"])
@pytest.mark.parametrize("poisoned", ["anew", "after"])
def test_poisoned_training_does_not_reach_an_honest_client_s_optimizer(
    tmp_path: Path, schedule: str, poisoned: str
) -> None:
    """Where nothing moves the model, honest clients learn the same under an attack as without one."""
    path = plugins.write(
        tmp_path,
        "still",
        '''
        """Take nothing from anybody."""
        import torch
        from agrbench.plugins import Defense

        defense = Defense(lambda round: torch.zeros(len(round.view)), amplifier=None)
        ''',
    )
    for seed in range(4):  # the first client is malicious in some of them
        learned = []
        for attack in ("none", "label_flip"):
            spec = f"{schedule[:-1]},poisoned='{poisoned}')"
            cell = Cell(
                "digits", "still", attack, seed, clients=4, malicious=2, rounds=20, start=10, schedule=spec,
            )  # fmt: skip
            run = Run(cell, Registry([path]))
            for number in range(1, 13):
                run.round(number)
            learned.append(run.clean.updates[run.cohort.honest])
        assert torch.equal(*learned)


@pytest.mark.parametrize(
    "schedule", [Schedule("adam", 1e-2, 2, 3), Schedule("sgd", 0.1, 2, 2, options={"momentum": 0.9})]
)
def test_two_threads_train_to_the_bits_of_one(schedule: Schedule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agrbench.clients.local_training.BLOCK", 1)  # a block a client
    rng = torch.Generator().manual_seed(0)
    held = [
        Examples(torch.rand(rows, 40, generator=rng), torch.randint(5, (rows,), generator=rng), 5)
        for rows in (90, 3, *[90] * 8)  # of one shape, whose buffers could meet
    ]
    model = learner(mlp(256, 128), (40,), 5, rng)
    found = []
    for threads in (1, 2):
        with using(threads):
            trainer = Trainer(model, held, schedule)
            found.append([trainer.train(model.initial + step).clone() for step in (0.0, 0.1, 0.2)])
            assert torch.get_num_threads() == threads
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))
