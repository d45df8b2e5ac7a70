"""Training: every client's update is what a plain per-client loop gives, whatever the path."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from agrbench.clients.learner import Learner, learner
from agrbench.clients.models import mlp, named
from agrbench.clients.modules import Functional
from agrbench.clients.perceptron import Perceptron
from agrbench.data.examples import Examples, batch
from agrbench.layout import Layout


def shards(sizes: list[int], shape: tuple[int, ...], classes: int, seed: int = 0) -> list[Examples]:
    rng = torch.Generator().manual_seed(seed)
    return [
        Examples(
            torch.rand((size, *shape), generator=rng, dtype=torch.float64),
            torch.randint(classes, (size,), generator=rng),
            classes,
        )
        for size in sizes
    ]


def one_by_one(module: nn.Module, shard: Examples, rate: float) -> list[Tensor]:
    """Take one full-batch step of plain SGD and give each parameter's change."""
    before = [parameter.detach().clone() for parameter in module.parameters()]
    optimizer = torch.optim.SGD(module.parameters(), rate)
    optimizer.zero_grad()
    torch.autograd.backward(nn.functional.cross_entropy(module(shard.features), shard.labels))
    optimizer.step()
    changes = [after.detach() - start for after, start in zip(module.parameters(), before, strict=True)]
    for parameter, start in zip(module.parameters(), before, strict=True):
        parameter.data.copy_(start)
    return changes


def in_our_order(changes: list[Tensor]) -> Tensor:
    """Write a perceptron's changes as `(d_in, d_out)` weights and biases."""
    return torch.cat([(change.T if change.ndim == 2 else change).flatten() for change in changes])


def gradients(made: Learner, clients: list[Examples], scale: float = 1.0) -> Tensor:
    """Give every client's gradient at the initial model."""
    together = batch(clients)
    out = made.initial.new_empty(len(clients), len(made.initial))
    return made.gradients(made.initial, out, scale)(made.prepared(together))


@given(
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=5),
    hidden=st.lists(st.integers(1, 6), max_size=3),
    classes=st.integers(2, 4),
)
def test_every_client_takes_the_step_of_a_plain_loop(sizes: list[int], hidden: list[int], classes: int) -> None:
    module = mlp(*hidden)((2, 3), classes).double()
    clients = shards(sizes, (2, 3), classes)
    fast = Perceptron(module)
    updates = gradients(fast, clients, -0.3)
    wanted = torch.stack([in_our_order(one_by_one(module, shard, 0.3)) for shard in clients])
    # float64: only the order of additions differs
    torch.testing.assert_close(updates, wanted, rtol=1e-9, atol=1e-12)


@given(sizes=st.lists(st.integers(1, 7), min_size=1, max_size=4))
def test_the_general_path_equals_a_plain_loop(sizes: list[int]) -> None:
    module = nn.Sequential(
        nn.Conv2d(1, 2, 2), nn.Tanh(), nn.Flatten(), nn.LayerNorm(8), nn.Linear(8, 3)
    ).double()  # fmt: skip
    clients = shards(sizes, (1, 3, 3), 3)
    general = Functional(module)
    out = gradients(general, clients, -0.1)
    wanted = torch.stack(
        [torch.cat([change.flatten() for change in one_by_one(module, shard, 0.1)]) for shard in clients]
    )
    # float64: only the order of additions differs
    torch.testing.assert_close(out, wanted, rtol=1e-9, atol=1e-12)


def test_the_general_path_equals_the_perceptron_path() -> None:
    module = mlp(5, 4)((6,), 3).double()
    fast, general = Perceptron(module), Functional(module)
    clients = shards([3, 5, 1], (6,), 3)
    ours, theirs = gradients(fast, clients, -0.2), gradients(general, clients, -0.2)
    order = Layout.of(module).folded
    assert order is not None
    # float64: only the order of additions differs
    torch.testing.assert_close(ours, theirs[:, order], rtol=1e-9, atol=1e-12)
    examples = shards([9], (6,), 3, seed=1)[0]
    one = fast.evaluate(fast.initial, ours, examples)
    other = general.evaluate(general.initial, theirs, examples)
    for mine, its in zip(one, other, strict=True):
        # float64: only the order of additions differs
        torch.testing.assert_close(mine, its, rtol=1e-9, atol=1e-12)


def test_padding_of_a_short_shard_changes_nothing() -> None:
    module = mlp(4)((3,), 2).double()
    fast = Perceptron(module)
    short, long = shards([2, 9], (3,), 2)
    together, alone = gradients(fast, [short, long]), gradients(fast, [short])
    # float64: only the order of additions differs
    torch.testing.assert_close(together[:1], alone, rtol=1e-9, atol=1e-12)


def test_evaluation_applies_each_update_alone() -> None:
    fast = Perceptron(mlp(4)((3,), 3).double())
    examples = shards([11], (3,), 3)[0]
    updates = torch.randn(4, len(fast.initial), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    losses, accuracies = fast.evaluate(fast.initial, updates, examples)
    for row, loss, accuracy in zip(updates, losses, accuracies, strict=True):
        logits = fast.logits(fast.initial + row, examples.features)
        # float64: only the order of additions differs
        torch.testing.assert_close(loss, nn.functional.cross_entropy(logits, examples.labels), rtol=1e-9, atol=1e-12)
        assert accuracy == (logits.argmax(1) == examples.labels).double().mean()


def test_evaluation_in_small_blocks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = Perceptron(mlp(4)((3,), 3))
    examples = shards([11], (3,), 3)[0]
    examples = examples._replace(features=examples.features.float())
    updates = torch.randn(5, len(fast.initial), generator=torch.Generator().manual_seed(0))
    whole = fast.evaluate(fast.initial, updates, examples)
    monkeypatch.setattr("agrbench.clients.perceptron.CACHED", 1)
    for mine, its in zip(whole, fast.evaluate(fast.initial, updates, examples), strict=True):
        # one model a block: the product may take another kernel
        torch.testing.assert_close(mine, its, rtol=1e-5, atol=1e-6)


def test_a_model_starts_from_its_seed_and_leaves_the_global_state_alone() -> None:
    before = torch.get_rng_state()
    first, again, other = (learner(mlp(4), (3,), 2, torch.Generator().manual_seed(seed)).initial for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(nn.Linear(3, 2)),
        nn.Sequential(nn.Flatten(), nn.Linear(3, 2, bias=False)),
        nn.Sequential(nn.Flatten(), nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)),
    ],
)
def test_only_plain_perceptrons_take_the_fast_path(module: nn.Module) -> None:
    assert isinstance(learner(lambda shape, classes: module, (3,), 2, torch.Generator()), Functional)
    assert isinstance(learner(mlp(4), (3,), 2, torch.Generator()), Perceptron)


@pytest.mark.parametrize("model", ["mlp(5)", "cnn"])
def test_gradients_of_examples_are_those_of_training_and_can_be_differentiated(model: str) -> None:
    """FedInv fits examples through these gradients: of one-hot labels they are what clients train with."""
    made = learner(named(model), (1, 8, 8), 3, torch.Generator().manual_seed(0))
    clients = [shard._replace(features=shard.features.float()) for shard in shards([4, 4], (1, 8, 8), 3)]
    trained = gradients(made, clients)
    features = torch.stack([shard.features for shard in clients]).requires_grad_()
    labels = nn.functional.one_hot(torch.stack([shard.labels for shard in clients]), 3).float()
    found = made.differentiate(made.initial, features, labels)
    # float32: sums of four rows, in another order
    torch.testing.assert_close(found.detach(), trained, rtol=1e-4, atol=1e-6)
    with torch.enable_grad():
        torch.autograd.backward(found[0].square().sum())
    assert features.grad is not None
    assert features.grad[0].any() and not features.grad[1].any()
