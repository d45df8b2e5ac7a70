"""What is timed: sizes of models, updates like a server's own and its reverse, a server that has yet to train."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agrbench.bench import measure
from agrbench.bench.measure import BenchPlan
from agrbench.bench.workload import CLASSES, EACH, Size, Workload, nearest, sizes
from agrbench.errors import AgrbenchError
from agrbench.plugins.registry import Registry
from tests.helpers import plugins

CPU = torch.device("cpu")


@given(st.integers(EACH + CLASSES, 10**9))
def test_a_size_is_the_nearest_that_the_model_has(wanted: int) -> None:
    units, rest = divmod(nearest(wanted) - CLASSES, EACH)
    assert rest == 0
    assert units >= 1
    assert abs(nearest(wanted) - wanted) <= EACH / 2


def test_the_updates_are_the_servers_own_and_its_reverse_in_as_much_noise() -> None:
    work = Workload(Size(10, nearest(50_000), 3), torch.float64, CPU)
    root = work.server(1).root
    assert work.updates.shape == (10, work.learner.layout.parameters) == (10, nearest(50_000))
    cosines = torch.cosine_similarity(work.updates, root[None])
    assert cosines.tolist() == pytest.approx([0.5**0.5] * 7 + [-(0.5**0.5)] * 3, abs=0.02)
    again = Workload(Size(10, nearest(50_000), 3), torch.float64, CPU)
    assert (again.updates == work.updates).all()


def test_every_round_finds_a_server_that_has_yet_to_train_and_another_last_step(tmp_path: Path) -> None:
    body = """
def weigh(round):
    assert "root" not in vars(round.server) and "evaluate" not in vars(round.server)
    assert round.server.root.norm() > 0 and round.server.evaluate(round.updates)[0].isfinite().all()
    assert not round.memory.get("previous", 0 * round.server.model).equal(round.server.previous)
    round.memory["previous"] = round.server.previous.clone()
    return torch.ones(len(round.view)) / len(round.view)
"""
    plan = BenchPlan(("fedavg", "cold"), (Size(6, nearest(600), 1),))
    report = measure.run(plan, Registry((plugins.rule(tmp_path, "cold", body),)), lambda what: None)
    assert not report.skipped
    assert [row.defense for row in report.rows] == ["fedavg", "cold"]


def test_malicious_clients_are_a_share_or_a_number() -> None:
    assert [size.byzantine for size in sizes((20, 50), (600,), 0.2)] == [4, 10]
    assert [size.byzantine for size in sizes((20, 50), (600,), 3)] == [3, 3]
    assert len(sizes((20,), (600, 601), 3)) == 1  # one model is nearest to both
    for wrong in (20, 1.0, -1, "bernoulli(share=0.3)"):
        with pytest.raises(AgrbenchError, match="--byzantine"):
            sizes((20,), (600,), wrong)
