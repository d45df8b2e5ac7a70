"""Any `torch.nn.Module`: clients train it as a plain PyTorch loop does, whatever it is made of, and twice alike."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from agrbench.clients.learner import fitted, learner
from agrbench.clients.local_training import Trainer, check_smallest_batch
from agrbench.clients.modules import Functional
from agrbench.clients.schedules import Schedule
from agrbench.data.examples import Examples
from agrbench.errors import AgrbenchError
from agrbench.layout import Layout, trained

Build = Callable[[], nn.Module]


class Recurrent(nn.Module):
    """A recurrent layer that reads a sequence of two, and a linear layer on its last output."""

    def __init__(self, recurrent: nn.RNNBase) -> None:
        super().__init__()
        self.recurrent, self.last = recurrent, nn.Linear(5, 3)

    def forward(self, rows: Tensor) -> Tensor:
        scores: Tensor = self.last(self.recurrent(rows.view(-1, 2, 4))[0][:, -1])
        return scores


class Attention(nn.Module):
    """Self-attention over a sequence of two, with its own normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.norm, self.last = (
            nn.MultiheadAttention(4, 2, batch_first=True),
            nn.LayerNorm(4),
            nn.Linear(8, 3),
        )

    def forward(self, rows: Tensor) -> Tensor:
        sequence = rows.view(-1, 2, 4)
        scores: Tensor = self.last(self.norm(sequence + self.attention(sequence, sequence, sequence)[0]).flatten(1))
        return scores


class Tied(nn.Module):
    """Two layers that share a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.second.weight = self.first.weight

    def forward(self, rows: Tensor) -> Tensor:
        scores: Tensor = self.last(torch.tanh(self.second(torch.tanh(self.first(rows)))))
        return scores


class Odd(nn.Module):
    """A scalar and an empty parameter, a constant buffer, one that is replaced and one that counts."""

    scale: Tensor
    running: Tensor
    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.last, self.gain, self.nothing = (
            nn.Linear(8, 3),
            nn.Parameter(torch.tensor(1.5)),
            nn.Parameter(torch.empty(0)),
        )
        self.register_buffer("scale", torch.full((8,), 0.1))
        self.register_buffer("running", torch.zeros(8))
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, rows: Tensor) -> Tensor:
        if self.training:
            self.running = 0.9 * self.running + 0.1 * rows.detach().mean(0)
            self.calls += 1
        scores: Tensor = self.gain * self.last(rows * self.scale - self.running)
        return scores


def image(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Unflatten(1, (2, 2, 2)), *layers)


FLOATS: dict[str, Build] = {
    "a linear layer": lambda: nn.Linear(8, 3),
    "BatchNorm": lambda: nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)),
    "BatchNorm of images": lambda: image(nn.Conv2d(2, 4, 2), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 3)),
    "BatchNorm without statistics": lambda: nn.Sequential(
        nn.Linear(8, 6), nn.BatchNorm1d(6, track_running_stats=False), nn.Linear(6, 3)
    ),
    "Dropout": lambda: nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.5), nn.ReLU(), nn.Linear(16, 3)),
    "Dropout and BatchNorm": lambda: nn.Sequential(
        nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 3)
    ),
    "frozen layers": lambda: nn.Sequential(nn.Linear(8, 6).requires_grad_(False), nn.Tanh(), nn.Linear(6, 3)),
    "a frozen perceptron": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(8, 6).requires_grad_(False), nn.ReLU(), nn.Linear(6, 3)
    ),
    "GroupNorm": lambda: image(nn.Conv2d(2, 4, 2), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(4, 3)),
    "LayerNorm": lambda: nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 3)),
    "a transposed convolution": lambda: image(nn.ConvTranspose2d(2, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(27, 3)),
    "LSTM": lambda: Recurrent(nn.LSTM(4, 5, batch_first=True)),
    "GRU": lambda: Recurrent(nn.GRU(4, 5, batch_first=True)),
    "attention": Attention,
    "tied weights": Tied,
    "odd parameters and buffers": Odd,
    "lazy layers": lambda: nn.Sequential(nn.LazyLinear(5), nn.Tanh(), nn.LazyLinear(3)),
}
WHOLE: dict[str, Build] = {
    "embeddings": lambda: nn.Sequential(nn.Embedding(5, 4), nn.Flatten(), nn.Linear(32, 3)),
    "a bag of embeddings": lambda: nn.Sequential(nn.EmbeddingBag(5, 4), nn.Linear(4, 3)),
}
SCHEDULES = [
    Schedule("sgd", 0.3),
    Schedule("sgd", 0.1, epochs=2, batches=2, options={"momentum": 0.9}),
    Schedule("adam", 0.01, epochs=2, batches=2),
]


def made(build: Build, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build()


def shards(sizes: list[int], whole: bool, dtype: torch.dtype = torch.float64) -> list[Examples]:
    rng, found = torch.Generator().manual_seed(1), []
    for size in sizes:
        features = torch.rand(size, 8, generator=rng, dtype=torch.float64)
        features = (features * 5).long() if whole else features.to(dtype)
        found.append(Examples(features, torch.randint(3, (size,), generator=rng), 3))
    return found


def seed_of(number: int, client: int) -> int:
    return 1000 * number + 100 * client


def flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([torch.empty(0, dtype=torch.float64), *(each.detach().flatten().double() for each in tensors)])


def plain(module: nn.Module, shard: Examples, schedule: Schedule, optimizer: torch.optim.Optimizer, seed: int) -> None:
    """Train one client for a round as anybody would."""
    module.train()
    pieces = torch.tensor_split(torch.arange(len(shard.labels)), min(schedule.batches, len(shard.labels)))
    for step, rows in enumerate([rows for _ in range(schedule.epochs) for rows in pieces]):
        with torch.random.fork_rng():
            torch.manual_seed(seed + step)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(module(shard.features[rows]), shard.labels[rows])
            torch.autograd.backward(loss)
            optimizer.step()


def optimizer_of(module: nn.Module, schedule: Schedule) -> torch.optim.Optimizer:
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if schedule.optimizer == "adam":
        return torch.optim.Adam(parameters, schedule.rate)
    return torch.optim.SGD(parameters, schedule.rate, momentum=schedule.options["momentum"])


def ours(module: nn.Module, features: Tensor) -> Functional:
    found = learner(lambda shape, classes: copy.deepcopy(module), (8,), 3, torch.Generator())
    assert isinstance(found, Functional)
    fitted(found, Examples(features, torch.zeros(len(features), dtype=torch.long), 3))
    return found


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda each: each.optimizer + str(each.epochs))
@pytest.mark.parametrize("kind", [*FLOATS, *WHOLE])
def test_clients_train_as_a_plain_loop_does(kind: str, schedule: Schedule) -> None:
    module = made(({**FLOATS, **WHOLE})[kind]).double()
    clients = shards([6, 4, 9], kind in WHOLE)
    if "lazy" in kind:
        module(clients[0].features)
    found = ours(module, clients[0].features)
    trainer = Trainer(found, clients, schedule, seed_of)
    workers = [copy.deepcopy(module) for _ in clients]
    optimizers = [optimizer_of(worker, schedule) for worker in workers]
    state = copy.deepcopy(module.state_dict())
    model, buffers = found.initial.clone(), found.buffers.clone()
    for number in range(1, 4):
        updates = trainer.train(model, number, buffers)
        for client, (worker, optimizer, shard) in enumerate(zip(workers, optimizers, clients, strict=True)):
            worker.load_state_dict(state)
            plain(worker, shard, schedule, optimizer, seed_of(number, client))
            learned = flat(list(trained(worker).values()))
            # float64: only the order of additions differs; but the gradient of a bias before BatchNorm is made of
            # rounding errors, which Adam divides by 1e-8
            torch.testing.assert_close(model + updates[client], learned, rtol=1e-6, atol=1e-6)
            kept = flat([buffer for buffer in worker.buffers() if buffer.is_floating_point()])
            torch.testing.assert_close(trainer.buffers[client], kept, rtol=1e-6, atol=1e-9)
        worker = workers[number % 3]  # the next global model is one client's, buffers and all
        model, buffers = model + updates[number % 3], trainer.buffers[number % 3].clone()
        state = {
            name: value.clone() if value.is_floating_point() else state[name]
            for name, value in worker.state_dict().items()
        }


@pytest.mark.parametrize("kind", [*FLOATS, *WHOLE])
def test_a_model_is_scored_in_evaluation_mode_with_the_buffers_given(kind: str) -> None:
    module = made(({**FLOATS, **WHOLE})[kind]).double()
    (examples,) = shards([7], kind in WHOLE)
    if "lazy" in kind:
        module(examples.features)
    found = ours(module, examples.features)
    trainer = Trainer(found, [examples], SCHEDULES[1])
    step = trainer.train(found.initial)[0]
    worker = copy.deepcopy(module)
    plain(worker, examples, SCHEDULES[1], optimizer_of(worker, SCHEDULES[1]), 0)
    wanted = worker.eval()(examples.features)
    scores = found.logits(found.initial + step, examples.features, trainer.buffers[0])
    torch.testing.assert_close(scores, wanted.detach(), rtol=1e-7, atol=1e-9)
    assert torch.equal(found.logits(found.initial + step, examples.features, trainer.buffers[0]), scores)
    loss, accuracy = found.evaluate(found.initial, step[None], examples, trainer.buffers[0])
    assert loss == pytest.approx(float(nn.functional.cross_entropy(wanted.detach(), examples.labels)), rel=1e-7)
    assert accuracy == (wanted.argmax(1) == examples.labels).double().mean()


@pytest.mark.parametrize("kind", [*FLOATS, *WHOLE])
def test_nothing_but_the_result_changes(kind: str) -> None:
    module = made(({**FLOATS, **WHOLE})[kind]).double()
    clients = shards([6, 4], kind in WHOLE)
    if "lazy" in kind:
        module(clients[0].features)
    found = ours(module, clients[0].features)
    before = copy.deepcopy(found.module.state_dict())
    states = torch.get_rng_state(), str(np.random.get_state()), random.getstate()  # noqa: NPY002
    given, kept = found.initial.clone(), found.buffers.clone()
    updates = Trainer(found, clients, SCHEDULES[1], seed_of).train(given, 1, kept).clone()
    found.logits(given, clients[0].features, kept)
    assert torch.equal(given, found.initial)
    assert torch.equal(kept, found.buffers)
    for name, value in found.module.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert torch.equal(torch.get_rng_state(), states[0])
    assert str(np.random.get_state()) == states[1]  # noqa: NPY002
    assert random.getstate() == states[2]
    assert torch.equal(Trainer(found, clients, SCHEDULES[1], seed_of).train(given, 1, kept), updates)


def test_random_layers_draw_by_seed_round_and_client() -> None:
    module = made(FLOATS["Dropout"]).double()
    (shard,) = shards([9], False)
    found = ours(module, shard.features)
    assert found.random
    assert not ours(made(FLOATS["LayerNorm"]).double(), shard.features).random
    trainer = Trainer(found, [shard, shard], Schedule("sgd", 0.3), seed_of)
    first = trainer.train(found.initial, 1).clone()
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(trainer.train(found.initial, 2), first)
    assert torch.equal(trainer.train(found.initial, 1), first)


@pytest.mark.parametrize(("kind", "coupled"), [("BatchNorm", True), ("Dropout and BatchNorm", True), ("Dropout", False),
                                               ("GroupNorm", False), ("LSTM", False),
                                               ("BatchNorm without statistics", True)])  # fmt: skip
def test_rows_that_depend_on_each_other_are_never_parted(
    kind: str, coupled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agrbench.clients.modules.BUDGET", 1)  # a row a chunk, where rows may be parted
    module = made(FLOATS[kind]).double()
    (shard,) = shards([6], False)
    found = ours(module, shard.features)
    assert found.coupled[True] == coupled
    if kind == "Dropout":
        return  # each chunk draws its own
    step = Trainer(found, [shard], Schedule("sgd", 0.3), seed_of).train(found.initial, 1)[0]
    worker = copy.deepcopy(module)
    plain(worker, shard, Schedule("sgd", 0.3), optimizer_of(worker, Schedule("sgd", 0.3)), seed_of(1, 0))
    torch.testing.assert_close(found.initial + step, flat(list(trained(worker).values())), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_a_model_trains_in_its_own_type(dtype: torch.dtype) -> None:
    module = made(lambda: nn.Sequential(nn.Linear(8, 6), nn.LayerNorm(6), nn.Linear(6, 3))).to(dtype)
    (shard,) = shards([9], False, torch.float32)
    found = ours(module, shard.features)
    shard = fitted(found, shard)
    assert shard.features.dtype == dtype
    update = Trainer(found, [shard], Schedule("sgd", 0.5)).train(found.initial)[0]
    assert update.dtype == dtype
    worker = copy.deepcopy(module)
    plain(worker, shard, Schedule("sgd", 0.5), optimizer_of(worker, Schedule("sgd", 0.5)), 0)
    # the plain loop rounds the moved model, ours the update
    torch.testing.assert_close(
        (found.initial + update).double(), flat(list(worker.parameters())), rtol=4 * torch.finfo(dtype).eps, atol=1e-2
    )


def test_a_transposed_convolution_folds_to_inputs_and_outputs() -> None:
    module = nn.ConvTranspose2d(2, 3, 2)
    (layer,) = Layout.of(module).layers
    assert (layer.rows, layer.columns, layer.bias) == (2 * 4 + 1, 3, True)
    vector = torch.cat([parameter.detach().flatten() for parameter in module.parameters()])
    folded = vector[layer.fold()]
    for place in range(2 * 4):
        assert torch.equal(folded[place], module.weight.detach()[place // 4, :, place % 4 // 2, place % 2])
    assert module.bias is not None
    assert torch.equal(folded[-1], module.bias.detach())


def test_frozen_empty_and_tied_parameters_are_not_in_the_layout() -> None:
    frozen = made(FLOATS["frozen layers"])
    assert Layout.of(frozen).parameters == 6 * 3 + 3
    assert Layout.of(made(Tied)).parameters == 8 * 8 + 8 + 8 + 8 * 3 + 3
    assert Layout.of(made(Odd)).parameters == 8 * 3 + 3 + 1


class Custom(nn.Sequential):
    """Looks like a perceptron and computes something else."""

    def forward(self, rows: Tensor) -> Tensor:
        return -torch.as_tensor(nn.Sequential.forward(self, rows))  # type: ignore[no-untyped-call]


def test_what_only_looks_like_a_perceptron_is_called() -> None:
    rng = torch.Generator()
    for build in (lambda: Custom(nn.Flatten(), nn.Linear(8, 3)), FLOATS["a frozen perceptron"]):
        assert isinstance(learner(lambda shape, classes, build=build: made(build), (8,), 3, rng), Functional)  # type: ignore[misc]
    hooked = nn.Sequential(nn.Flatten(), nn.Linear(8, 3))
    hooked.register_forward_hook(lambda module, given, scores: -scores)
    assert isinstance(learner(lambda shape, classes: hooked, (8,), 3, rng), Functional)


REFUSED: dict[str, tuple[Build, str]] = {
    "too few outputs": (lambda: nn.Linear(8, 2), r"scores 2 examples as \(2, 2\).*a score for each of the 3 classes"),
    "no scores": (lambda: nn.Sequential(nn.Linear(8, 3), nn.Flatten(0)), r"as \(6,\)"),
    "a pair": (lambda: nn.LSTM(8, 3), "cannot be trained on examples of shape"),
    "another width": (lambda: nn.Linear(7, 3), r"cannot be trained on examples of shape \(8,\)"),
    "nothing to train": (lambda: nn.Linear(8, 3).requires_grad_(False), "no parameter to train; leave requires_grad"),
    "two types": (lambda: nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 3).double()), "0.bias is torch.float32.*1.bias"),
    "complex numbers": (lambda: nn.Linear(8, 3, dtype=torch.complex64), "real floating-point numbers"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_trained_is_refused_in_a_sentence(kind: str) -> None:
    build, said = REFUSED[kind]
    (examples,) = shards([9], False, torch.float32)
    with pytest.raises(AgrbenchError, match=said):
        fitted(learner(lambda shape, classes: made(build), (8,), 3, torch.Generator()), examples)


def test_a_model_that_is_no_module_is_refused() -> None:
    with pytest.raises(AgrbenchError, match=r"the model is a function; return a torch.nn.Module"):
        learner(lambda shape, classes: lambda rows: rows, (8,), 3, torch.Generator())  # type: ignore[arg-type, return-value]


def test_a_batch_of_one_row_is_refused_only_for_models_that_cannot_train_on_it() -> None:
    clients = shards([6, 4, 1], False)
    batchnorm, layernorm = (
        ours(made(FLOATS[kind]).double(), clients[0].features) for kind in ("BatchNorm", "LayerNorm")
    )
    check_smallest_batch(layernorm, clients, Schedule("sgd", 0.1))
    check_smallest_batch(batchnorm, clients[:2], Schedule("sgd", 0.1, batches=2))
    with pytest.raises(AgrbenchError, match=r"a client with 1 rows cut into batches \(1 of them\)"):
        check_smallest_batch(batchnorm, clients, Schedule("sgd", 0.1))
    with pytest.raises(AgrbenchError, match=r"a client with 4 rows cut into batches \(3 of them\)"):
        check_smallest_batch(batchnorm, clients[:2], Schedule("sgd", 0.1, batches=3))
