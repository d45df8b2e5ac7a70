"""Costs measured: ratios of counted work, memory of known size, and what is left out."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from agrbench import machine
from agrbench.bench import measure
from agrbench.bench import report as costs
from agrbench.bench.measure import BenchPlan
from agrbench.bench.report import Ratios, Report
from agrbench.bench.workload import Size, nearest, sizes
from agrbench.plugins.registry import Registry
from tests.helpers import plugins


def measured(plan: BenchPlan, files: tuple[Path, ...] = (), **options: Any) -> Report:
    return measure.run(plan, Registry(files), lambda what: None, **options)


# ---------------------------------------------------------------- time


class Counted:
    """A clock that a reading moves by one second, and a rule by as many as it says."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counted]:
    clock, module = Counted(), ModuleType("counted_clock")
    module.__dict__["clock"] = clock
    monkeypatch.setitem(sys.modules, "counted_clock", module)
    yield clock


def test_a_rule_of_three_times_the_work_costs_three_times_fedavg(tmp_path: Path, counted: Counted) -> None:
    """Every sample costs one reading of the clock; the planted rule adds two seconds to its own."""
    body = """
import counted_clock
def weigh(round):
    counted_clock.clock.now += 2
    return torch.ones(len(round.view)) / len(round.view)
"""
    plan = BenchPlan(("fedavg", "slow"), (Size(6, nearest(600), 1),), patience=100)
    report = measured(plan, (plugins.rule(tmp_path, "slow", body),), clock=counted)
    fedavg, slow = report.rows
    assert (fedavg.seconds, fedavg.ratio) == (1, Ratios(1, 1, 1))
    assert (slow.seconds, slow.ratio) == (3, Ratios(3, 3, 3))


def test_what_drifts_hits_both_sides_of_a_ratio_alike() -> None:
    """The machine slows down by a tenth with every sample."""
    state = SimpleNamespace(slowness=1.0)

    def side(work: float) -> measure.Side:
        def taken() -> float:
            state.slowness *= 1.1
            return work * float(state.slowness)

        return taken

    samples = measure.alternate([side(1.0), side(3.0)], 20)
    ratio = Ratios.of([own for _, own in samples], [other for other, _ in samples])
    assert ratio.low == pytest.approx(3 / 1.1)
    assert ratio.high == pytest.approx(3 * 1.1)
    assert ratio.median == pytest.approx(3, rel=0.01)


def test_sides_take_turns_in_alternating_order() -> None:
    order: list[str] = []

    def side(name: str) -> measure.Side:
        def taken() -> float:
            order.append(name)
            return 1.0

        return taken

    sides = [side(name) for name in "abc"]
    assert measure.alternate(sides, 3) == [(1.0, 1.0, 1.0)] * 3
    assert "".join(order) == "abccbaabc"


def test_a_short_round_is_played_several_times_a_sample() -> None:
    plays: list[int] = []
    readings = iter(np.arange(0, 1, 1e-3).tolist())  # a millisecond from one reading to the next
    assert measure.sample(lambda: plays.append(1), 4, lambda: next(readings)) == pytest.approx(1e-3 / 4)
    assert len(plays) == 4


def test_threads_are_set_back() -> None:
    before = torch.get_num_threads()
    measured(BenchPlan(("fedavg",), (Size(6, nearest(600), 1),), repeat=1, threads=before + 1))
    assert torch.get_num_threads() == before


def test_a_busy_processor_is_noticed() -> None:
    spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(machine.cores())]
    try:
        time.sleep(0.5)
        told = machine.noise()
        assert told is not None and "busy" in told
    finally:
        for process in spinning:
            process.kill()
            process.wait()


# ---------------------------------------------------------------- memory


def test_growth_is_what_was_taken_though_the_process_had_it_before() -> None:
    """Freed memory that is not at the end of the heap stays with the process, so that taking it again would be free."""

    def work() -> list[torch.Tensor]:
        return [torch.ones(1 << 18) for _ in range(64)]  # a MiB each

    work()  # from here on the allocator takes such blocks from the heap
    pairs = [(torch.ones(1 << 18), torch.ones(1 << 14)) for _ in range(64)]
    between = [small for _, small in pairs]
    del pairs
    for _ in range(2):
        grown = machine.growth(work)
        assert grown is not None
        assert grown / 2**20 == pytest.approx(64, abs=2)
    del between


def test_a_rule_that_copies_the_updates_three_times_holds_four_times_what_fedavg_does(tmp_path: Path) -> None:
    body = """
def weigh(round):
    copies = torch.cat([round.updates] * 3)
    return copies[:len(round.view), 0] * 0 + 1
"""
    plan = BenchPlan(("fedavg", "hungry"), (Size(40, nearest(200_000), 4),), repeat=1)  # 32 MB
    fedavg, hungry = measured(plan, (plugins.rule(tmp_path, "hungry", body),)).rows
    assert fedavg.peak_bytes is not None and hungry.peak_ratio is not None
    assert fedavg.peak_bytes == pytest.approx(40 * nearest(200_000) * 4, rel=0.1)
    assert fedavg.peak_ratio == pytest.approx(1, rel=0.1)
    assert hungry.peak_ratio == pytest.approx(4, rel=0.1)


# ---------------------------------------------------------------- what is left out


def test_what_is_not_defined_for_a_size_is_left_out_with_its_requirement() -> None:
    plan = BenchPlan(("fedavg", "bulyan"), sizes((8, 11), (600,), 2), repeat=1)
    report = measured(plan)
    assert [(row.defense, row.clients) for row in report.rows] == [("fedavg", 8), ("fedavg", 11), ("bulyan", 11)]
    (skip,) = report.skipped
    assert skip.reason == "bulyan requires 4 * f + 3 <= n, and here n=8, f=2"
    assert not skip.failed
    notes = costs.tables(report)[-1].notes
    assert f"Left out: bulyan at 8 x {nearest(600)}: {skip.reason}." in notes


def test_what_would_outlast_the_patience_is_left_out_and_at_larger_sizes_not_even_begun(
    tmp_path: Path, counted: Counted
) -> None:
    """One round takes 4 s by the counted clock, five rounds 20 s, and of twice the clients four times as long."""
    body = """
import counted_clock
def weigh(round):
    counted_clock.clock.now += 3
    assert len(round.view) < 12, "begun"
    return torch.ones(len(round.view)) / len(round.view)
"""
    file = plugins.rule(tmp_path, "slow", body)
    plan = BenchPlan(("fedavg", "slow"), sizes((6, 12), (600,), 1), repeat=3, patience=21)
    report = measured(plan, (file,), clock=counted)
    assert [(row.defense, row.clients) for row in report.rows] == [("fedavg", 6), ("slow", 6), ("fedavg", 12)]
    assert report.skipped[0].reason == "it would take about 80 s here; write --patience 120 to wait for it"
    plan = BenchPlan(("fedavg", "slow"), sizes((6,), (600,), 1), repeat=3, patience=19)
    assert measured(plan, (file,), clock=counted).skipped[0].reason.startswith("it would take about 20 s here")


def test_a_rule_that_takes_no_update_has_no_time(tmp_path: Path) -> None:
    body = """
from agrbench.plugins.contract import Verdict
def weigh(round):
    return Verdict(torch.zeros(len(round.view)), previous=1e300)
"""
    report = measured(
        BenchPlan(("fedavg", "huge"), (Size(8, 507, 1),), repeat=1), (plugins.rule(tmp_path, "huge", body),)
    )
    assert report.skipped[0].reason == "it took no update: the step is not finite"
