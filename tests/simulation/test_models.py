"""Whole runs of models with buffers, random layers, frozen layers and whole-number features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import agrbench
from agrbench.cells import Cell
from agrbench.errors import AgrbenchError
from agrbench.plugins.registry import Registry
from agrbench.server.combine import combine_buffers
from agrbench.simulation.prefixes import Tree
from agrbench.simulation.run import Run, simulate
from tests.helpers import plugins

DATASET = '''"""Two classes that one feature tells apart, and a small model."""
import torch
from torch import nn

from agrbench.data import Examples
from agrbench.plugins import Dataset, Source


def load():
    x, y = torch.randn(400, 8, generator=torch.Generator().manual_seed(0)), torch.arange(400) % 2
    x[:, 0] += 3 * y
    {features}
    return Examples(x[:300], y[:300], 2), Examples(x[300:], y[300:], 2)


def build(shape, classes):
    return {model}


dataset = Dataset(load, model=build, rate=0.5, root_size=20, source=Source("none"))
'''
MODELS = {
    "batchnorm": "nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, classes))",
    "dropout": "nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.Linear(8, classes))",
    "frozen": "nn.Sequential(nn.Linear(8, 8).requires_grad_(False), nn.Linear(8, classes))",
    "embedding": "nn.Sequential(nn.Embedding(15, 4), nn.Flatten(), nn.Linear(32, classes))",
    "double": "nn.Sequential(nn.Linear(8, classes)).double()",
    "half": "nn.Sequential(nn.Linear(8, classes)).bfloat16()",
    "lstm": "nn.Sequential(nn.Unflatten(1, (4, 2)), type('Last', (nn.LSTM,), "
    "{'forward': lambda self, rows: nn.LSTM.forward(self, rows)[0][:, -1]})(2, classes, batch_first=True))",
}
WHOLE = "x = (x + 3 * y[:, None]).round().clamp(-5, 9).long() + 5"


def dataset(folder: Path, name: str, model: str | None = None, features: str = "") -> Path:
    features = WHOLE if name == "embedding" else features
    return plugins.write(folder, name, DATASET.format(model=model or MODELS[name], features=features))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("defense", ["fedavg", "amp+median", "fltrust"])
def test_a_model_of_every_kind_learns_and_repeats(name: str, defense: str, tmp_path: Path) -> None:
    path, before = dataset(tmp_path, name), torch.get_rng_state()
    cell = Cell(name, defense, "label_flip", clients=5, malicious=1, rounds=30, start=20)
    first, again = (agrbench.run(cell, plugins=(path,)) for _ in range(2))
    assert first["accuracy"] == again["accuracy"]
    assert first["loss"] == again["loss"]
    assert max(first["accuracy"]) > (0.6 if name == "lstm" else 0.7)  # chance is 0.5
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["batchnorm", "dropout"])
@pytest.mark.parametrize(
    "schedule", ["sgd", "sgd(momentum=0.9,epochs=2,batches=2)", "adam(batches=2,poisoned='after')"]
)
def test_a_branch_is_the_run_alone_with_buffers_and_random_layers(name: str, schedule: str, tmp_path: Path) -> None:
    registry = Registry([dataset(tmp_path, name)])
    tree = Tree(registry)
    for attack in ("none", "label_flip", "flip_ascent", "min_max"):
        cell = Cell(name, "krum", attack, clients=6, malicious=1, rounds=20, start=10, schedule=schedule)
        alone, branch = simulate(cell, registry), tree.simulate(cell)
        assert {key: branch[key] for key in ("accuracy", "loss", "trust")} == {
            key: alone[key] for key in ("accuracy", "loss", "trust")
        }


def run_of(tmp_path: Path, defense: str, attack: str = "none", **settings: Any) -> Run:
    cell = Cell("batchnorm", defense, attack, clients=5, malicious=1, rounds=20, start=10, **settings)
    return Run(cell, Registry([dataset(tmp_path, "batchnorm")]))


def test_buffers_are_combined_by_the_weights_of_the_same_clients(tmp_path: Path) -> None:
    run = run_of(tmp_path, "krum")
    for number in (1, 2):
        outcome, _ = run.round(number)
        chosen = int(outcome.weights.argmax())
        torch.testing.assert_close(run.state.buffers, run.clean.buffers[chosen])
    run = run_of(tmp_path, "fedavg")
    run.round(1)
    # float32: a mean of five, in another order
    torch.testing.assert_close(run.state.buffers, run.clean.buffers.mean(0), rtol=1e-5, atol=1e-6)


def test_clients_start_from_the_servers_buffers(tmp_path: Path) -> None:
    run = run_of(tmp_path, "krum")
    run.round(1)
    start = run.state.buffers.clone()
    run.round(2)
    means, after = start[:8], run.clean.buffers[:, :8]  # BatchNorm keeps nine tenths of the mean that it starts from
    assert ((after - 0.9 * means).abs() < 0.2).all()
    assert not torch.equal(run.state.buffers, start)


def test_poisoned_data_reaches_the_buffers_that_malicious_clients_send(tmp_path: Path) -> None:
    file = plugins.write(
        tmp_path,
        "far",
        '"""Far away examples."""\nfrom agrbench.plugins import Attack\n\n'
        "attack = Attack(poison=lambda shard, rng, attacker: shard._replace(features=shard.features + 100))\n",
    )
    cell = Cell("batchnorm", "fedavg", "far", clients=5, malicious=2, rounds=20, start=10)
    run = Run(cell, Registry([dataset(tmp_path, "batchnorm"), file]))
    run.play(9)
    calm = run.state.buffers.clone()
    run.round(10)
    assert float((run.state.buffers - calm).abs().max()) > 3


@pytest.mark.parametrize(
    ("weights", "wanted"),
    [
        ([1.0, 1.0, 2.0], [1.75, 0.25]),
        ([0.0, 0.0, 7.0], [3.0, 0.5]),
        ([-1.0, 1.0, 0.0], [0.5, 0.0]),
        ([0.0, 0.0, 0.0], [5.0, 6.0]),
    ],
)
def test_buffers_are_combined_by_shares_of_the_absolute_weight(weights: list[float], wanted: list[float]) -> None:
    before, sent = torch.tensor([5.0, 6.0]), torch.tensor([[0.0, 0.0], [1.0, 0.0], [3.0, 0.5]])
    assert combine_buffers(before, sent, torch.tensor(weights)).tolist() == wanted


def test_buffers_that_are_not_finite_have_no_share_and_constant_ones_do_not_drift() -> None:
    before = torch.tensor([0.1, 0.3])
    sent = before.repeat(7, 1)
    sent[3] = torch.nan
    assert torch.equal(combine_buffers(before, sent, torch.full((7,), 1 / 7)), before)


def test_a_batch_of_one_row_is_refused_before_the_first_round(tmp_path: Path) -> None:
    cell = Cell("batchnorm", "fedavg", "none", clients=5, malicious=0, rounds=10, schedule="sgd(batches=50)")
    with pytest.raises(AgrbenchError, match="cannot train on a batch of one row"):
        Run(cell, Registry([dataset(tmp_path, "batchnorm")]))


@pytest.mark.parametrize(
    ("model", "features", "said"),
    [
        ("nn.Linear(8, 1)", "", r"own: the model scores 2 examples as \(2, 1\)"),
        ("nn.Linear(9, classes)", "", r"own: the model cannot be trained on examples of shape \(8,\)"),
        ("lambda rows: rows", "", "own: the model is a function; return a torch.nn.Module"),
        ("nn.Linear(8, classes)", "y = y + 1", "own: the training labels go from 1 to 2"),
        (
            "nn.Linear(8, classes)",
            "x[7, 2] = torch.nan",
            "own: 1 training rows hold NaN or infinity, .* row 7",
        ),
    ],
)
def test_what_cannot_run_is_refused_by_name(model: str, features: str, said: str, tmp_path: Path) -> None:
    path = dataset(tmp_path, "own", model, features)
    with pytest.raises(AgrbenchError, match=said):
        agrbench.run(Cell("own", "fedavg", "none", clients=4, rounds=10), plugins=(path,))


def test_features_of_another_type_become_the_models(tmp_path: Path) -> None:
    """Doubles and whole numbers train a model of floats to the same as floats do."""
    found: list[Tensor] = []
    for name, features in {
        "floats": "x = x.round()",
        "doubles": "x = x.round().double()",
        "whole": "x = x.round().long()",
        "numpy": "x = x.round().numpy()",
    }.items():
        path = dataset(tmp_path, name, "nn.Linear(8, classes)", features)
        found.append(agrbench.run(Cell(name, "fedavg", "none", clients=4, rounds=10), plugins=(path,))["loss"])
    assert found[0] == found[1] == found[2] == found[3]


def test_a_record_names_a_datasets_own_model_that_a_function_builds(tmp_path: Path) -> None:
    from agrbench.plugins.registry import Registry
    from agrbench.results.record import resolved

    path = tmp_path / "own.py"
    path.write_text(
        '"""Own."""\nfrom agrbench.plugins import Dataset, Source\n'
        "def build(shape, classes): ...\ndef load(): ...\n"
        'dataset = Dataset(load, model=build, rate=0.1, root_size=1, source=Source("mine"))\n'
    )
    assert resolved(Cell("own", "fedavg", "none"), Registry([path]))["model"] == "build of own"
