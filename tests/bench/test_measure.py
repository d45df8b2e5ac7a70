"""What a defense costs: ratios of counted work, fits of planted times, memory of known size, and what is left out."""

from __future__ import annotations

import csv
import json
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
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

import agrbench
from agrbench import machine
from agrbench.bench import byzfl as peers
from agrbench.bench import measure
from agrbench.bench import report as costs
from agrbench.bench.measure import BenchPlan
from agrbench.bench.report import Cost, Ratios, Report
from agrbench.bench.workload import CLASSES, EACH, Size, Workload, nearest, sizes
from agrbench.cli import main
from agrbench.errors import AgrbenchError
from agrbench.plugins.registry import Registry

SMALL = ("--clients", "8", "--parameters", "600", "--repeat", "2", "--threads", "1")
CPU = torch.device("cpu")
ROW = [
    "defense", "clients", "parameters", "byzantine", "dtype", "seconds", "ratio", "ratio_low", "ratio_high",
    "peak_bytes", "peak_ratio",
]  # fmt: skip


def run(*words: str | Path, ok: int = 0) -> Result:
    done = CliRunner().invoke(main, ["bench", *map(str, words)])
    assert done.exit_code == ok, done.stderr
    return done


def plugin(folder: Path, name: str, body: str) -> Path:
    path = folder / f"{name}.py"
    lines = (
        '"""A rule under test."""', "import torch", "from agrbench.plugins import Defense", body,
        "defense = Defense(weigh, amplifier=None)",
    )  # fmt: skip
    path.write_text("\n".join(lines) + "\n")
    return path


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
    report = measured(plan, (plugin(tmp_path, "slow", body),), clock=counted)
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


# ---------------------------------------------------------------- what is timed


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
    report = measured(BenchPlan(("fedavg", "cold"), (Size(6, nearest(600), 1),)), (plugin(tmp_path, "cold", body),))
    assert not report.skipped
    assert [row.defense for row in report.rows] == ["fedavg", "cold"]


def test_malicious_clients_are_a_share_or_a_number() -> None:
    assert [size.byzantine for size in sizes((20, 50), (600,), 0.2)] == [4, 10]
    assert [size.byzantine for size in sizes((20, 50), (600,), 3)] == [3, 3]
    assert len(sizes((20,), (600, 601), 3)) == 1  # one model is nearest to both
    for wrong in (20, 1.0, -1, "bernoulli(share=0.3)"):
        with pytest.raises(AgrbenchError, match="--byzantine"):
            sizes((20,), (600,), wrong)


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
    fedavg, hungry = measured(plan, (plugin(tmp_path, "hungry", body),)).rows
    assert fedavg.peak_bytes is not None and hungry.peak_ratio is not None
    assert fedavg.peak_bytes == pytest.approx(40 * nearest(200_000) * 4, rel=0.1)
    assert fedavg.peak_ratio == pytest.approx(1, rel=0.1)
    assert hungry.peak_ratio == pytest.approx(4, rel=0.1)


# ---------------------------------------------------------------- growth

POWERS = st.floats(-1, 3)
AXIS = st.lists(st.integers(2, 10**6), min_size=2, max_size=4, unique=True)


@given(AXIS, AXIS, POWERS, POWERS)
def test_exponents_of_a_power_law_are_its_own(clients: list[int], parameters: list[int], a: float, b: float) -> None:
    taken = {(n, p): 3e-9 * n**a * p**b for n in clients for p in parameters}
    assert costs.exponents(taken) == pytest.approx((a, b), abs=1e-6)
    one = {size: seconds for size, seconds in taken.items() if size[0] == clients[0]}
    assert costs.exponents(one)[0] is None
    assert costs.exponents(one)[1] == pytest.approx(b, abs=1e-6)
    one = {size: seconds for size, seconds in taken.items() if size[1] == parameters[0]}
    assert costs.exponents(one)[0] == pytest.approx(a, abs=1e-6)
    assert costs.exponents(one)[1] is None


def test_exponents_are_unknown_where_sizes_do_not_tell_them_apart() -> None:
    assert costs.exponents({}) == (None, None)
    assert costs.exponents({(10, 1000): 1.0}) == (None, None)
    assert costs.exponents({(10, 1000): 1.0, (20, 2000): 4.0}) == (None, None)
    assert costs.exponents({(10, 1000): 1.0, (20, 2000): 8.0, (20, 1000): 4.0}) == pytest.approx((2.0, 1.0))


def test_time_at_another_size_is_guessed_from_the_fit_and_grows_at_least_in_proportion() -> None:
    assert costs.expected({}, 10, 1000) is None
    assert costs.expected({(10, 1000): 1.0}, 20, 3000) == pytest.approx(2**2 * 3)  # nothing tells: pairs of rows
    cubic = {(n, p): n**3 * p / 1e6 for n in (10, 20) for p in (1000, 2000)}
    assert costs.expected(cubic, 40, 4000) == pytest.approx(40**3 * 4000 / 1e6)
    wild = {(n, p): n**9.0 * p**9 for n in (10, 20) for p in (1000, 2000)}
    assert costs.expected(wild, 40, 4000) == pytest.approx(20.0**9 * 2000.0**9 * 2**3 * 2**2)
    flat = {(n, p): 1.0 for n in (10, 20) for p in (1000, 2000)}
    assert costs.expected(flat, 40, 4000) == pytest.approx(4)


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
    file = plugin(tmp_path, "slow", body)
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
    report = measured(BenchPlan(("fedavg", "huge"), (Size(8, 507, 1),), repeat=1), (plugin(tmp_path, "huge", body),))
    assert report.skipped[0].reason == "it took no update: the step is not finite"


def test_a_broken_plugin_is_named_and_the_others_are_measured(tmp_path: Path) -> None:
    file = plugin(tmp_path, "broken", "def weigh(round):\n    raise ValueError('no')\n")
    done = run(*SMALL, "--plugin", file, "-d", "broken", "-d", "median", "--format", "json", ok=1)
    found = json.loads(done.stdout)
    assert [row["defense"] for row in found["rows"]] == ["fedavg", "median", "amp+median"]
    (skip,) = found["skipped"]
    assert skip["defense"] == "broken"
    assert str(file) in skip["reason"]


# ---------------------------------------------------------------- what is printed


def test_json_is_one_object_of_the_documented_form() -> None:
    done = run(*SMALL, "-d", "krum", "-d", "bulyan", "--clients", "8,12", "--format", "json")
    found = json.loads(done.stdout)
    assert list(found) == ["schema", "kind", "environment", "repeat", "rows", "exponents", "skipped"]
    assert (found["schema"], found["kind"], found["repeat"]) == (1, "bench", 2)
    assert list(found["environment"]) == ["agrbench", "torch", "numpy", "python", "cpu", "threads", "device"]
    stacks = ["fedavg", "krum", "amp+krum", "bulyan", "amp+bulyan"]
    assert [row["defense"] for row in found["rows"]] == [*stacks[:3], *stacks]
    for row in found["rows"]:
        assert list(row) == ROW
        assert (row["parameters"], row["byzantine"], row["dtype"]) == (nearest(600), 2, "float32")
        assert 0 < row["ratio_low"] <= row["ratio"] <= row["ratio_high"]
        assert row["seconds"] > 0
        assert isinstance(row["peak_bytes"], int)
        assert row["peak_bytes"] >= 4 * row["clients"] * row["parameters"]
    assert [row["defense"] for row in found["exponents"]] == stacks
    for row in found["exponents"]:
        assert list(row) == ["defense", "clients", "parameters"]
        assert row["parameters"] is None
        assert (row["clients"] is None) == ("bulyan" in row["defense"])
    assert [list(skip) for skip in found["skipped"]] == [["defense", "clients", "parameters", "reason"]] * 2


def test_csv_has_a_line_a_row_and_a_line_a_skip() -> None:
    rows = list(csv.DictReader(run(*SMALL, "-d", "krum", "-d", "bulyan", "--format", "csv").stdout.splitlines()))
    assert [row["defense"] for row in rows] == ["fedavg", "krum", "amp+krum", "bulyan", "amp+bulyan"]
    assert [bool(row["seconds"]) for row in rows] == [True] * 3 + [False] * 2
    assert [bool(row["reason"]) for row in rows] == [False] * 3 + [True] * 2


def cost(defense: str, ratio: float, **others: Any) -> Cost:
    given = {"peak_bytes": 1 << 30, "peak_ratio": 1.5, "peer": None, **others}
    return Cost(defense, 10, 507, 2, "float32", ratio / 1000, Ratios(ratio, ratio / 2, ratio * 2), **given)


def test_base_stands_beside_amplified_and_what_has_neither_has_a_line() -> None:
    names = ("fedavg", "krum", "amp+krum", "amp(kernel=3)+krum", "amp+median")
    rows = tuple(cost(name, place + 1.0) for place, name in enumerate(names))
    (table,) = costs.tables(Report({"device": "cpu", "threads": 2}, 5, rows, ()))
    lines = [[entry.lines[0] for entry in row] for row in table.rows]
    assert lines[1] == ["krum", "2", "2 [1, 4]", "1.50", "3", "3 [1.5, 6]", "1.50", "1.5"]
    assert [line[0] for line in lines] == ["fedavg", "krum", "amp(kernel=3)+krum", "amp+median"]
    assert lines[3][4:] == ["-"] * 4


def test_memory_is_shown_where_it_is_known_and_more_than_the_kernel_miscounts() -> None:
    small, unknown = cost("krum", 2, peak_bytes=6 << 20), cost("krum", 2, peak_bytes=None, peak_ratio=None)
    for row, shown in ((cost("krum", 2), "1.50"), (small, "1.50"), (unknown, "-")):
        (table,) = costs.tables(Report({"device": "cpu", "threads": 2}, 5, (row,), ()))
        assert table.rows[0][3].lines == (shown,)
    (table,) = costs.tables(Report({"device": "cpu", "threads": 2}, 5, (cost("krum", 2, peak_bytes=5 << 20),), ()))
    assert table.rows[0][3].lines == ("-",)
    assert cost("krum", 2, peak_bytes=None, peak_ratio=None).as_json()["peak_bytes"] is None


MISTAKES = {"-d kurm": "krum", "--clients ten": "20,50", "--clients 0": "20,50", "--help": "Usage:"}


def test_mistakes_are_told_without_torch() -> None:
    code = (
        "import sys; from agrbench.cli import main\n"
        f"for words in {list(MISTAKES)!r}:\n"
        "    try: main(['bench', *words.split()])\n"
        "    except SystemExit as error: print(error.code)\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    for words, told in MISTAKES.items():
        assert told in run(*words.split(), ok=0 if words == "--help" else 2).output


def test_a_model_that_is_too_small_or_a_device_that_is_absent_is_told() -> None:
    assert "507" in run("--parameters", "5", ok=2).stderr
    if not torch.cuda.is_available():
        assert "--device cpu" in run("--device", "cuda", ok=2).stderr


# ---------------------------------------------------------------- byzfl


@pytest.fixture(scope="module")
def byzfl() -> Any:
    return peers.load()


def test_without_byzfl_one_sentence_says_how_to_get_it() -> None:
    code = (
        "import sys; sys.modules['byzfl'] = None\n"  # what Python itself raises ModuleNotFoundError on
        f"from agrbench.cli import main; main(['bench', *{[*SMALL, '--against', 'byzfl']!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("Error: byzfl cannot be imported (")
    assert "pip install --no-deps byzfl" in done.stderr
    assert done.stderr.count("\n") == 1


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


def test_against_byzfl_adds_its_ratio_and_says_what_differs() -> None:
    words = (*SMALL, "-d", "krum", "-d", "lasa", "-d", "mda", "--against", "byzfl")
    rows = {row["defense"]: row for row in json.loads(run(*words, "--format", "json").stdout)["rows"]}
    for name, row in rows.items():
        extra = ["byzfl_ratio", "byzfl_ratio_low", "byzfl_ratio_high"] if name in ("fedavg", "krum", "amp+krum") else []
        assert list(row) == [*ROW, *extra], name
    shown = run(*words).stdout
    assert "n - f - 1 neighbours" in shown
    assert "tries every subset" in shown
