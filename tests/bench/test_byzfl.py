"""Our rules timed against byzfl: which rule is compared with which, and that its rules run here."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import agrbench
from agrbench.bench import byzfl as peers
from agrbench.bench.workload import Size, Workload
from agrbench.plugins import elsewhere

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def byzfl() -> Any:
    return elsewhere.byzfl()


@pytest.mark.parametrize(
    ("spec", "same"),
    [
        ("fedavg", "fedavg"), ("median", "median"), ("trimmed_mean", "trimmed_mean"), ("meamed", "meamed"),
        ("krum", "krum(neighbours='byzfl')"), ("multi_krum", "multi_krum(neighbours='byzfl')"),
        ("nnm+median", "nnm+median"), ("amp+median", "median"), ("nnm+amp+krum", "nnm+krum(neighbours='byzfl')"),
    ],
)  # fmt: skip
def test_what_stands_beside_a_stack_is_its_counterpart(byzfl: Any, spec: str, same: str) -> None:
    work = Workload(Size(11, 507, 2), torch.float64, CPU)
    rule = peers.rule(byzfl, spec, 2, ["amp"])
    assert rule is not None
    ours = agrbench.aggregate(work.updates, same, 2)
    assert torch.as_tensor(rule(work.updates)).tolist() == pytest.approx(ours.tolist(), rel=1e-5, abs=1e-7)


def test_every_rule_of_byzfl_that_is_named_runs_and_leaves_the_updates_alone(byzfl: Any) -> None:
    work = Workload(Size(11, 507, 2), torch.float32, CPU)
    before = work.updates.clone()
    for name in peers.RULES:
        rule = peers.rule(byzfl, name, 2, ())
        assert rule is not None
        assert rule(work.updates).shape == (507,), name
    assert (work.updates == before).all()
    assert peers.rule(byzfl, "bulyan", 2, ()) is None
    assert peers.rule(byzfl, "bucketing+krum", 2, ()) is None
