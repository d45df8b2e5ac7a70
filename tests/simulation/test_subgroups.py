"""What a record keeps on who is hurt equals counting by hand, row by row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from agrbench.cells import Cell
from agrbench.data.examples import Examples
from agrbench.plugins.registry import Registry
from agrbench.results.record import plain
from agrbench.simulation.run import Run
from tests.clients.test_owners import OWNED
from tests.helpers import plugins

SMALL: dict[str, Any] = {"rounds": 10, "start": 10}


def played(cell: Cell, *files: Path) -> tuple[Run, dict[str, Any]]:
    run = Run(cell, Registry(files))
    run.play(cell.rounds)
    return run, run.measured()["groups"]


def counted(run: Run, examples: Examples, marks: list[bool]) -> tuple[int, int]:
    """Count examples and right answers, one row at a time."""
    rows = [row for row, mark in enumerate(marks) if mark]
    hits = 0
    for row in rows:
        one = examples.features[row : row + 1]
        scores = run.learner.logits(run.state.model, one, run.state.buffers)
        hits += int(scores[0].argmax()) == int(examples.labels[row])
    return len(rows), hits


def test_classes_are_counted_over_the_test_set() -> None:
    run, groups = played(Cell("digits", "median", "label_flip", clients=8, **SMALL))
    test = run.data.test
    for label in range(10):
        told = groups["classes"]["rows"][label], groups["classes"]["hits"][label]
        assert told == counted(run, test, [int(each) == label for each in test.labels])
    accuracy = run.log.as_record(10, False)["accuracy"][-1]
    assert sum(groups["classes"]["hits"]) / len(test.labels) == pytest.approx(accuracy)
    assert "names" not in groups["classes"]


@pytest.mark.parametrize("partition", ["iid", "dirichlet(alpha=0.1)", "quantity(sigma=2.0)"])
def test_honest_clients_are_counted_over_their_own_rows(partition: str) -> None:
    run, groups = played(Cell("digits", "fedavg", "sign_flip", clients=8, partition=partition, **SMALL))
    told = groups["clients"]
    assert told["of"] == "train"
    assert told["ids"] == list(run.data.honest)
    assert not set(told["ids"]) & set(run.data.malicious)
    for place, client in enumerate(told["ids"]):
        shard = run.data.shards[client]
        assert (told["rows"][place], told["hits"][place]) == counted(run, shard, [True] * len(shard.labels))
    assert "names" not in told


def test_natural_owners_are_counted_over_their_own_test_rows_by_name(tmp_path: Path) -> None:
    path = plugins.write(tmp_path, "owned", OWNED)
    made = Cell("owned", "fedavg", "sign_flip", clients=7, partition="natural", malicious="owners('b')", **SMALL)
    run, groups = played(made, path)
    told, test = groups["clients"], run.data.test
    assert told["of"] == "test"
    assert sorted(told["names"]) == ["a", "c", "d", "e", "f", "g"]
    assert test.owners is not None
    for name, rows, hits in zip(told["names"], told["rows"], told["hits"], strict=True):
        mine = [test.about.owners[owner] == name for owner in test.owners.tolist()]
        assert (rows, hits) == counted(run, test, mine)


def test_an_owner_without_test_rows_has_all_counted_over_training_rows(tmp_path: Path) -> None:
    path = plugins.write(tmp_path, "owned", OWNED.replace("owners[150:], about))", "owners[:50] % 6, about))"))
    run, groups = played(Cell("owned", "fedavg", "none", clients=7, malicious=0, partition="natural", **SMALL), path)
    assert groups["clients"]["of"] == "train"
    assert groups["clients"]["rows"] == run.data.shards.sizes.tolist()


def test_a_thousand_clients_are_counted_at_most() -> None:
    made = Cell("synthetic", "fedavg", "none", clients=5000, sample=5, malicious=2500, rounds=10)
    run, groups = played(made)
    assert groups["clients"]["ids"] == list(run.data.honest[:1000])
    assert len(json.dumps(plain(groups))) < 20_000


def test_rows_are_scored_in_chunks_without_a_difference() -> None:
    from agrbench.simulation.subgroups import by_subgroup

    run, groups = played(Cell("digits", "fedavg", "none", clients=5, **SMALL))

    def score(examples: Examples) -> torch.Tensor:
        assert len(examples.labels) <= 7
        return run.learner.logits(run.state.model, examples.features, run.state.buffers)

    assert by_subgroup(score, run.data, run.cell, 7) == groups
