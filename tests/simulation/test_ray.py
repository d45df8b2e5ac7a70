"""A real Ray cluster of two nodes on this machine: the records of a local run, whatever is lost on the way."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agrbench.cells import Cell
from agrbench.errors import AgrbenchError
from agrbench.plugins.registry import Registry
from agrbench.results.places import place
from agrbench.results.record import Record, curves
from agrbench.results.store import Store
from agrbench.simulation.computing import compute
from agrbench.simulation.engines import Engine
from agrbench.simulation.engines.parcels import pack, unpack
from agrbench.simulation.engines.ray import Ray, spread
from agrbench.simulation.execution import execute
from agrbench.simulation.prefixes import Tree
from agrbench.simulation.tuning import pair, tune
from agrbench.simulation.workers import Limits
from tests.helpers.commands import AGRBENCH
from tests.helpers.records import stored

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Ray leaves files and sockets of its processes open
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # which is where these end
]

DEMO = [
    "grid",
    "--suite",
    "demo",
    "--seeds",
    "1",
    "-d",
    "median",
    "-a",
    "label_flip",
    "--clients",
    "6",
    "--rounds",
    "20",
]
KILLER = '''"""Kill the parent of the process that computes it: its Ray worker."""
import os
import signal
from helper import forge
from agrbench.plugins import Attack

attack = Attack(forge=forge)
'''
HELPER = "import os, signal\ndef forge(insider):\n    os.kill(os.getppid(), signal.SIGKILL)\n"
SLEEPER = '''"""Take its time."""
import time
from agrbench.plugins import Attack

attack = Attack(forge=lambda insider: time.sleep(1000))
'''
DIGITS = [
    Cell("digits", defense, attack, clients=6, rounds=20)
    for defense in ("fedavg", "median") for attack in ("none", "ipm", "lie")
]  # fmt: skip


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    node: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    cluster.add_node(**node)
    yield cluster.address
    cluster.shutdown()  # type: ignore[no-untyped-call]


def at_work() -> list[int]:
    """List the Ray workers that compute a branch."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"ray::agrbench branch" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


def computed(
    engine: Engine, cells: Sequence[Cell], registry: Registry, folder: Path, after: Callable[[], object] = lambda: None
) -> dict[str, Record]:
    """Compute cells, call `after` once when the first record is there, and return the records by their paths."""
    Store(folder).prepare()
    with engine:
        for number, _ in enumerate(execute(cells, registry, Store(folder), engine)):
            if number == 0:
                after()
    return stored(folder)


def test_records_equal_those_of_a_local_run_though_a_worker_is_killed_in_the_middle(
    address: str, tmp_path: Path
) -> None:
    registry, killed = Registry(), list[int]()

    def kill() -> None:
        killed.extend(at_work()[:1])
        os.kill(killed[0], signal.SIGKILL)

    there = computed(Ray(registry, address), DIGITS, registry, tmp_path / "ray", kill)
    tree = Tree(registry)
    here = {place(cell).as_posix(): curves(compute(cell, registry, True, tree)) for cell in DIGITS}
    assert killed
    assert {record["status"] for record in there.values()} == {"done"}
    assert {path: curves(record) for path, record in there.items()} == here


def test_a_branch_whose_worker_is_lost_three_times_fails_and_limits_hold_and_others_finish(
    address: str, tmp_path: Path
) -> None:
    (tmp_path / "killer.py").write_text(KILLER)
    (tmp_path / "helper.py").write_text(HELPER)
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    registry = Registry([tmp_path / "killer.py", tmp_path / "sleeper.py"])
    cells = [
        Cell("digits", defense, attack, clients=6, rounds=10)
        for defense, attack in (("median", "killer"), ("fedavg", "none"), ("fedavg", "sleeper"))
    ]
    found = computed(Ray(registry, address, limits=Limits(seconds=15)), cells, registry, tmp_path / "records")
    told = {record["cell"]["attack"]: (record["status"], record["reason"]) for record in found.values()}
    assert told["killer"] == ("failed", "its Ray worker or node was lost, 3 times (WorkerCrashedError)")
    assert told["none"] == ("done", None)
    sleeper = tmp_path / "sleeper.py"
    assert told["sleeper"] == ("failed", f"it took longer than --cell-timeout 15 (it uses {sleeper})")


def test_the_command_prints_the_table_alone_and_can_be_interrupted_and_resumed(address: str, tmp_path: Path) -> None:
    words = [AGRBENCH, *DEMO, "--engine", "ray", "--address", address, "--out", "results"]
    long = [*words, "-d", "krum", "--rounds", "100000", "--cell-timeout", "100"]
    running = subprocess.Popen(
        long, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    while running.poll() is None and not at_work():
        time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    stdout, stderr = running.communicate(timeout=120)
    assert (running.returncode, stdout) == (130, ""), stderr
    assert "To go on: agrbench grid" in stderr
    until = time.monotonic() + 30
    while at_work() and time.monotonic() < until:
        time.sleep(0.1)
    assert not at_work()
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("The triad: digits")
    assert "ray" not in done.stdout.lower()
    assert {record["status"] for record in stored(tmp_path / "results").values()} <= {"done", "skipped"}


def test_rates_are_tuned_on_it_too(address: str) -> None:
    registry = Registry()
    cell = registry.canonical_cell(Cell("digits", "fedavg", "none", clients=5, rounds=10))
    with Ray(registry, address, work=pair) as engine:
        (trial,) = tune(cell, [0.1], engine, 1)
    runs = pair(replace(cell, rate=0.1), Tree(registry), True)
    assert not isinstance(runs, AgrbenchError)
    assert trial.final == runs[0]["accuracy"][-1]


def test_plugin_files_travel_with_their_own_files_to_where_they_are_not(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "killer.py").write_text(KILLER)
    (home / "helper.py").write_text(HELPER)
    registry, cell = Registry([home / "killer.py"]), Cell("digits", "krum", "killer")
    parcel, sources = pack(registry), registry.sources(cell)
    before = Path.cwd()
    try:
        assert unpack(parcel, str(tmp_path / "aside")) == (home / "killer.py",)
        (home / "helper.py").unlink()
        (copy,) = unpack(parcel, str(tmp_path / "aside"))
    finally:
        os.chdir(before)
    assert copy == tmp_path / "aside" / "killer.py"
    assert Registry([copy]).sources(cell) == sources
    assert Registry([copy]).attack("killer").record.forge is not None


def test_settings_and_the_folder_travel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGRBENCH_DATA", "there")
    monkeypatch.setenv("SECRET", "here")
    monkeypatch.chdir(tmp_path)
    parcel = pack(Registry())
    assert "SECRET" not in dict(parcel.settings)
    monkeypatch.setenv("AGRBENCH_DATA", "elsewhere")
    monkeypatch.chdir("/")
    unpack(parcel, str(tmp_path))
    assert os.environ["AGRBENCH_DATA"] == "there"
    assert Path.cwd() == tmp_path
    with pytest.raises(AgrbenchError, match=r"has agrbench .* asks it to compute has 0\.0; install the same"):
        unpack(replace(parcel, version="0.0"), str(tmp_path))


def test_branches_are_halved_until_the_room_is_filled_and_none_is_lost() -> None:
    long, short = tuple(DIGITS[:5]), tuple(DIGITS[5:])
    assert spread([long, short], 2) == [long, short]
    assert [len(each) for each in spread([long, short], 4)] == [2, 1, 2, 1]
    assert spread([long, short], 99) == [(cell,) for cell in DIGITS]
    assert spread([], 3) == []


def test_more_threads_than_a_task_has_cpus_are_refused() -> None:
    from agrbench.simulation.engines.ray import Demands

    with pytest.raises(AgrbenchError, match="write --cpus-per-task 4, or --threads 2"):
        Ray(Registry(), demands=Demands(cpus=2)).prepare([Cell("digits", "krum", "none", threads=4)])


def test_without_ray_the_command_says_what_to_install() -> None:
    blocked = "import sys; sys.modules['ray'] = None; from agrbench.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", blocked, *DEMO, "--engine", "ray"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "Error: --engine ray needs Ray, which is not installed; install agrbench[ray]\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["--jobs", "3", "--engine", "ray"],
            "--jobs 3 is not for --engine ray; write --cpus-per-task, or leave it out",
        ),
        (["--address", "auto"], "--address auto is not for --engine local; write --engine ray, too"),
    ],
)
def test_options_of_the_other_engine_are_refused(words: list[str], told: str) -> None:
    done = subprocess.run([AGRBENCH, *DEMO, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert told in done.stderr
