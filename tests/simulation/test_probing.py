"""Measuring costs: little of the work is done, and what is said of the whole follows from it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from agrbench.cells import Cell
from agrbench.plugins.registry import Registry
from agrbench.simulation.costs import Absent, Costs, Fault, Measured
from agrbench.simulation.preparation import load, prepare
from agrbench.simulation.probing import evaluations, examples, measure, pieces
from agrbench.simulation.run import Run, simulate
from tests.helpers import plugins

BURN = 0.01  # seconds of computing for each example
SLOW = f"""
    import time
    import torch
    from torch import nn
    from agrbench.data.examples import Examples
    from agrbench.plugins import Dataset, Source

    passed = []

    class Slow(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 2)

        def forward(self, x):
            passed.append(len(x))
            end = time.process_time() + {BURN} * len(x)
            while time.process_time() < end:
                pass
            return self.linear(x)

    def load():
        rng = torch.Generator().manual_seed(1)
        features = torch.randn(3000, 4, generator=rng)
        made = Examples(features, (features.sum(1) > 0).long(), 2)
        return made.take(torch.arange(2500)), made.take(torch.arange(2500, 3000))

    dataset = Dataset(load, model=lambda shape, classes: Slow(), rate=0.1, root_size=500, source=Source("made here"))
"""


def run_of(registry: Registry, **settings: Any) -> Run:
    cell = Cell("digits", "fedavg", "none", **{"clients": 10, **settings})
    dataset = registry.dataset("digits")
    return Run(cell, registry, prepare(cell, dataset, load(dataset)))


@pytest.mark.parametrize(
    ("schedule", "settings"),
    [
        ("sgd", {}),
        ("sgd(epochs=3)", {"sample": 3}),
        ("sgd(epochs=2,batches=5,momentum=0.9)", {"partition": "quantity(sigma=2.0)"}),
        ("adam", {"clients": 1}),
        ("sgd(batches=50)", {}),
    ],
)
def test_pieces_grow_up_to_the_whole_round(schedule: str, settings: dict[str, Any]) -> None:
    run = run_of(Registry(), schedule=schedule, malicious=0, **settings)
    works = list(pieces(run))
    sizes = run.data.shards.sizes[list(run.cohort.clients)]
    assert works[-1][0] == examples(run) == int(sizes.sum()) * run.schedule.epochs
    units = [number for number, _ in works]
    assert units == sorted(units) or "quantity" in str(settings)
    assert units[0] <= 16 or len(works) <= 4  # two steps on eight examples each, where a client has them
    for _, work in works:
        work()
    assert [number for number, _ in evaluations(run)] == [64, 360]


def test_a_round_that_would_take_long_is_measured_on_few_examples(tmp_path: Path) -> None:
    registry = Registry([plugins.write(tmp_path, "slow", SLOW)])
    settings: dict[str, Any] = {"clients": 20, "rounds": 20, "malicious": 5}
    cells = [Cell("slow", defense, attack, **settings) for defense in ("median", "fltrust") for attack in
             ("none", "label_flip")]  # fmt: skip
    costs = Costs()
    for found in measure(cells, registry, time.monotonic() + 600):
        costs.add(found)
    value = {part: costs.value(part, cells[1]) for part in ("train", "test", "server", "forge", "rehearsals")}
    root = costs.value("server", cells[2])
    module = registry._module(registry.entry("dataset", "slow"))
    assert sum(module.passed) < 1000  # a single round passes 2,000, and an evaluation 500
    # each example takes that long at least
    assert 2000 * BURN <= value["train"] < 3 * 2000 * BURN
    assert 500 * BURN <= value["test"] < 3 * 500 * BURN
    assert 500 * BURN <= value["forge"] < 3 * 500 * BURN  # five clients of a hundred examples
    assert 500 * BURN <= root < 3 * 500 * BURN  # fltrust trains on its root set
    assert value["server"] < 100 * BURN  # median does not
    assert value["rehearsals"] == 0


def test_rehearsals_are_counted_and_their_time_left_to_the_stack() -> None:
    cells = [Cell("digits", "krum", "adaptive", clients=10, rounds=20)]
    found = [each for each in measure(cells, Registry(), time.monotonic() + 600) if isinstance(each, Measured)]
    (rehearsals,) = [each.value for each in found if each.part == "rehearsals"]
    assert rehearsals == 80  # as docs/decisions.md has it: `adaptive` asks for 80 rehearsals a round


def test_measuring_changes_no_result() -> None:
    registry, cell = Registry(), Cell("digits", "krum", "label_flip", clients=10, rounds=20)
    before = simulate(cell, registry)["accuracy"]
    assert list(measure([cell], registry, time.monotonic() + 600))
    assert simulate(cell, registry)["accuracy"] == before


def test_no_more_is_measured_when_time_is_up() -> None:
    cells = [Cell("digits", "krum", "lie", clients=10)]
    assert [
        found.part for found in measure(cells, Registry(), time.monotonic() - 1) if isinstance(found, Measured)
    ] == ["start"]


def test_faults_and_absent_data_cost_no_other_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AGRBENCH_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    bad = plugins.defense(tmp_path, "bad", "defense = Defense(lambda round: 1 / 0, amplifier=None)")
    cells = [Cell(data, defense, "none", clients=clients) for data, defense, clients in (
        ("mnist", "krum", 10), ("digits", "bad", 10), ("digits", "krum", 10), ("digits", "krum", 5000))]  # fmt: skip
    found = list(measure(cells, Registry([bad]), time.monotonic() + 600))
    assert [each.dataset for each in found if isinstance(each, Absent)] == ["mnist"]
    faults = {(each.part, each.cell.defense): each.reason for each in found if isinstance(each, Fault)}
    assert "weigh raised ZeroDivisionError" in faults["server", "bad"]
    assert "write --clients 1337 or fewer" in faults["train", "fedavg"]
    assert [each.cell.defense for each in found if isinstance(each, Measured) and each.part == "server"] == ["krum"]
