"""Workers and the program that drives them: hostile plugins, limits, and ends of every kind, with real processes."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agrbench.cells import Cell
from agrbench.plugins.registry import Registry
from agrbench.results.store import Store
from agrbench.simulation.engines.local import Local
from agrbench.simulation.execution import execute
from agrbench.simulation.run import simulate
from agrbench.simulation.workers import Limits, Worker
from tests.helpers.commands import AGRBENCH

CELLS = ("--clients", "6", "--malicious", "1", "--rounds", "10", "--start", "10", "--seeds", "1", "--only-base")
LONG = ("grid", "-D", "digits", "-d", "fang", "-a", "adaptive", "--clients", "20", "--rounds", "2000", "--seeds", "4")

BENCH = ("--clients", "8", "--parameters", "600", "--repeat", "1", "--threads", "1")

KEEP = "round.norms >= 0"
DEFENSES = {
    "exits": ("", "exit(0)"),
    "exits_hard": ("import os", "os._exit(0)"),
    "interrupts": ("def stop(): raise KeyboardInterrupt", "stop()"),
    "ends": ("class End(BaseException): pass\ndef stop(): raise End", "stop()"),
    "leaves": ("def stop(): raise GeneratorExit", "stop()"),
    "mute": ("class Mute(Exception): __str__ = lambda self: 1 / 0\ndef stop(): raise Mute", "stop()"),
    "escapes": ("def stop(): raise ValueError('\\x1b[2J')", "stop()"),
    "crashes": ("import os, signal", "os.kill(os.getpid(), signal.SIGSEGV)"),
    "writes": ("", "round.view.mul_(2.0).norm(dim=1) >= 0"),
    "spins": ("", "[None for _ in iter(int, 1) if _]"),
    "no_room": ("import resource", "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)) or round.norms >= 0"),
    "fills": ("", "bytearray(b'x') * (3 * 10**9) and [None for _ in iter(int, 1) if _]"),
}
LINGERS = """
    atexit.register(time.sleep, 1000)
    threading.Thread(target=time.sleep, args=(1000,)).start()
    subprocess.Popen(["sleep", "1000"])
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
    if not os.fork():
        os.setsid()
        time.sleep(1000)
    os.chdir("/")
    print("noise")
"""
CHANGES = """
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(3)
    torch.set_num_threads(2)
    random.random()
"""


def defense(folder: Path, name: str, head: str, body: str, value: str = KEEP) -> Path:
    path = folder / f"{name}.py"
    path.write_text(
        f'"""Hostile."""\nfrom agrbench.plugins import Defense\n{head}\n'
        f"def weigh(round):\n    {body.strip() or 'pass'}\n    return {value}\n\ndefense = Defense(weigh)\n"
    )
    return path


def hostile(folder: Path) -> dict[str, Path]:
    made = {name: defense(folder, name, head, "", value) for name, (head, value) in DEFENSES.items()}
    imports = "import atexit, os, random, subprocess, threading, time, torch"
    made["lingers"] = defense(folder, "lingers", imports, LINGERS)
    made["changes"] = defense(folder, "changes", imports, CHANGES)
    patched = f"{imports}\ntorch.Tensor.sort = torch.Tensor.argsort = lambda *_, **__: 1 / 0"
    made["needs"] = defense(folder, "needs", "", "")
    needing = made["needs"].read_text().replace("Defense(weigh)", "Defense(weigh, requires=lambda n, f: exit(0))")
    made["needs"].write_text(needing)
    made["patches"] = defense(folder, "patches", patched, "")
    return made


def in_session(session: int) -> list[int]:
    """List the living processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            state, _, _, own = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(own) == session and state not in "ZX":
                found.append(int(entry.name))
    return found


def started_with(variable: str) -> list[int]:
    """List the living processes whose environment began with a variable, in whatever session they are."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if variable.encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def gone(session: int, seconds: float = 10) -> bool:
    """Wait until no process of a session is left."""
    end = time.monotonic() + seconds
    while in_session(session) and time.monotonic() < end:
        time.sleep(0.1)
    return not in_session(session)


def at_work(process: subprocess.Popen[str], least: int) -> None:
    """Wait until a command has so many processes, and a moment more: into its workers' imports, or first rounds."""
    end = time.monotonic() + 60
    while len(in_session(process.pid)) < least and time.monotonic() < end:
        time.sleep(0.1)
    time.sleep(2)
    assert process.poll() is None


@contextlib.contextmanager
def running(*words: object, prepare: Callable[[], object] | None = None) -> Iterator[subprocess.Popen[str]]:
    """Run the command in a session of its own, of which nothing is left at the end."""

    def begin() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if prepare:
            prepare()

    process = subprocess.Popen(
        [AGRBENCH, *map(str, words)], text=True, start_new_session=True, preexec_fn=begin,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        for pid in in_session(process.pid):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        process.communicate()


def test_hostile_plugins_cost_their_own_cells_are_named_and_leave_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGRBENCH_TEST", str(tmp_path))
    made = hostile(tmp_path)
    plugins = [word for path in made.values() for word in ("--plugin", path)]
    wanted = [word for name in (*made, "median", "krum") for word in ("-d", name)]
    limits = ("--cell-timeout", "12", "--cell-memory", "1")
    out = tmp_path / "out"
    words = ("-D", "digits", *wanted, "-a", "none", *plugins, *CELLS, *limits, "--out", os.path.relpath(out))
    with running("grid", *words) as process:
        stdout, stderr = process.communicate(timeout=300)
        assert gone(process.pid)
        assert not started_with(f"AGRBENCH_TEST={tmp_path}")
    assert process.returncode == 1, stderr
    assert "Traceback" not in stderr
    assert "noise" not in stdout
    assert "\x1b" not in stderr
    records = [json.loads(path.read_text()) for path in out.rglob("*.json")]
    status = {record["cell"]["defense"]: record["status"] for record in records}
    fine = {"fedavg", "median", "krum", "lingers", "changes", "patches", "no_room"}
    assert {name for name, told in status.items() if told == "done"} == fine
    assert set(status) == {*made, "fedavg", "median", "krum"}
    for record in records:
        name = record["cell"]["defense"]
        if record["status"] == "failed":
            assert f"{name}.py" in record["reason"]
            assert f"{name}.py" in stderr
        elif name in ("fedavg", "median", "krum"):
            assert record["accuracy"] == simulate(Cell.from_json(record["cell"]), Registry())["accuracy"]
    reasons = {record["cell"]["defense"]: record["reason"] for record in records}
    assert "weigh raised SystemExit" in reasons["exits"]
    assert "requires raised SystemExit" in reasons["needs"]
    assert "ended with exit code 0" in reasons["exits_hard"]
    assert "SIGSEGV" in reasons["crashes"]
    assert "weigh raised Mute" in reasons["mute"]
    assert "wrote into what it was given" in reasons["writes"]
    assert "--cell-timeout 12" in reasons["spins"]
    assert "--cell-memory 1" in reasons["fills"]
    assert "lingers.py changed the working directory" in stderr
    for what in ("default dtype", "number of threads", "global generator", "random's generator"):
        assert f"changes.py changed {what}" in stderr.replace("torch's ", "")


@pytest.mark.parametrize("plugin", [False, True], ids=["shipped", "foreign"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL], ids=lambda each: each.name)
def test_workers_end_with_their_driver(tmp_path: Path, number: signal.Signals, plugin: bool) -> None:
    foreign = ("--plugin", defense(tmp_path, "mine", "", ""), "-d", "mine") if plugin else ()
    with running(*LONG, *foreign, "--out", tmp_path / "out") as process:
        at_work(process, 3 + plugin)
        process.send_signal(number)
        assert gone(process.pid)
        assert "Traceback" not in process.communicate()[1]


def test_a_second_interruption_prints_no_traceback(tmp_path: Path) -> None:
    with running(*LONG, "--out", tmp_path / "out") as process:
        at_work(process, 3)
        for _ in range(5):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            time.sleep(0.02)
        _, stderr = process.communicate(timeout=20)
        assert gone(process.pid)
    assert process.returncode == 130
    assert "Traceback" not in stderr
    assert "To go on: agrbench grid" in stderr


def test_a_program_that_a_plugin_ends_by_force_says_so(tmp_path: Path) -> None:
    path = defense(tmp_path, "gone", "import os", "os._exit(0)")
    with running("check", path, "--examples", "3") as process:
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert not stdout
    assert f"ended with exit code 0 in the middle of its work, perhaps by a plugin ({path})" in stderr


def test_a_file_that_ends_the_program_when_it_is_imported_is_named(tmp_path: Path) -> None:
    fine, path = defense(tmp_path, "fine", "", ""), defense(tmp_path, "gone", "import os\nos._exit(0)", "")
    plugins = ("--plugin", fine, "-d", "fine", "--plugin", path, "-d", "gone")
    with running("grid", "-D", "synthetic", "-a", "none", *plugins, *CELLS, "--out", tmp_path / "out") as process:
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert not stdout
    assert f"ended with exit code 0 while it imported {path}; mend the file" in stderr
    assert str(fine) not in stderr


def test_what_a_file_writes_to_descriptor_1_is_not_the_result(tmp_path: Path) -> None:
    path = defense(
        tmp_path, "noisy", "import os\nos.write(1, b'noise')\nos.system('echo noise')", "os.write(1, b'noise')"
    )
    with running("bench", "--plugin", path, "-d", "noisy", *BENCH, "--format", "json") as process:
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert "noise" in stderr
    assert json.loads(stdout)["rows"]


def test_a_program_does_not_wait_for_what_a_plugin_leaves_running(tmp_path: Path) -> None:
    head = "import atexit, threading, time\nthreading.Thread(target=time.sleep, args=(1000,)).start()"
    path = defense(tmp_path, "stays", f"{head}\natexit.register(time.sleep, 1000)", "")
    with running("check", path, "--examples", "3", "-q") as process:
        stdout, _ = process.communicate(timeout=60)
        assert gone(process.pid)
    assert "stays" in stdout
    assert process.returncode in (0, 1)


def test_too_little_address_space_is_refused_because_libraries_would_hang(tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (700 << 20, 700 << 20))

    words = ("grid", "-D", "digits", "-d", "median", "-a", "none", *CELLS, "--out", tmp_path / "out")
    with running(*words, prepare=limit) as process:
        _, stderr = process.communicate(timeout=90)
        assert gone(process.pid)
    assert process.returncode == 2
    assert stderr.startswith("Error: this process may map 0.7 GB of memory")
    assert "ulimit -v" in stderr


def test_a_worker_that_dies_between_two_cells_is_replaced(tmp_path: Path) -> None:
    cells = [Cell("digits", "median", "none", seed, clients=5, rounds=10) for seed in range(3)]
    seen: list[dict[str, Any]] = []
    registry = Registry()
    with Local(registry, 1) as engine:
        for record in execute(cells, registry, Store(tmp_path), engine):
            seen.append(record)
            for pid in in_session(os.getsid(0)):
                told = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
                if int(told[1]) == os.getpid() and b"multiprocessing.spawn" in command:
                    os.kill(pid, signal.SIGKILL)
    assert len(seen) == 3
    assert seen[0]["status"] == "done"


def test_limits_are_those_of_one_cell() -> None:
    worker = Worker(())
    try:
        worker.start(Cell("digits", "median", "none", clients=5, rounds=10))
        assert worker.exceeded(Limits()) is None
        assert worker.exceeded(Limits(seconds=0.0)) is None, "its process has not begun"
        end = time.monotonic() + 60
        exceeded = None
        while (record := worker.record()) is None and time.monotonic() < end:
            exceeded = exceeded or worker.exceeded(Limits(seconds=0.0))
        assert exceeded == "it took longer than --cell-timeout 0"
        assert record is not None
        assert record["status"] == "done"
        assert worker.cell is None
    finally:
        worker.kill()
