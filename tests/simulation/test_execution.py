"""Many cells in processes: each once, trunks together, nobody idle while cells wait, and no cell costs another."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from agrbench import processes
from agrbench.cells import Cell
from agrbench.cli import main
from agrbench.machine import cores
from agrbench.plugins.registry import Registry
from agrbench.results import owners
from agrbench.results.store import Store
from agrbench.simulation.engines.local import Local
from agrbench.simulation.engines.turns import Turns
from agrbench.simulation.execution import execute
from agrbench.simulation.run import simulate
from agrbench.simulation.workers import Limits, end_left_behind

KILLER = '''"""Kill the process that computes it."""
import os
import signal
from agrbench.plugins import Attack

attack = Attack(forge=lambda insider: os.kill(os.getpid(), signal.SIGKILL))
'''


def cells(trunks: Iterable[int]) -> list[Cell]:
    """Make so many cells of each trunk."""
    return [
        Cell("digits", "krum", f"attack_{number}", seed) for seed, count in enumerate(trunks) for number in range(count)
    ]


@given(trunks=st.lists(st.integers(1, 6), max_size=6), places=st.lists(st.integers(0, 3), max_size=60))
def test_every_cell_has_its_turn_once_whoever_asks_when(trunks: list[int], places: list[int]) -> None:
    wanted = cells(trunks)
    turns = Turns(wanted)
    given_out = [found for place in places if (found := turns.next(place))]
    if len(places) >= len(wanted):  # nobody was sent away while a cell waited
        assert len(given_out) == len(wanted)
    while found := turns.next(0):
        given_out.append(found)
    assert sorted(given_out, key=str) == sorted(wanted, key=str)


@given(trunks=st.lists(st.integers(1, 6), max_size=6))
def test_alone_a_process_takes_cells_in_their_order(trunks: list[int]) -> None:
    turns = Turns(cells(trunks))
    assert [turns.next(0) for _ in range(sum(trunks))] == cells(trunks)


def test_a_trunk_stays_in_one_process_while_there_are_others() -> None:
    turns = Turns(cells([3, 2, 2]))
    seeds: dict[int, list[int]] = {0: [], 1: []}
    for place in (0, 1, 0, 1, 0, 1, 1):
        found = turns.next(place)
        assert found is not None
        seeds[place].append(found.seed)
    assert seeds == {0: [0, 0, 0], 1: [1, 1, 2, 2]}


def test_the_last_trunk_is_split_among_those_that_have_nothing() -> None:
    turns = Turns(cells([6]))
    assert [found.attack for place in (0, 1, 0, 1, 0, 1) if (found := turns.next(place))] == [
        f"attack_{number}" for number in (0, 3, 1, 4, 2, 5)
    ]
    assert turns.next(0) is turns.next(1) is None


def test_a_process_that_is_killed_in_a_branch_costs_that_cell_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "killer.py"
    path.write_text(KILLER)
    registry, store = Registry([path]), Store(tmp_path / "results")
    store.prepare()
    wanted = [
        Cell("digits", "foolsgold", attack, clients=10, rounds=20, start=10)
        for attack in ("none", "killer", "mimic", "ipm")
    ]
    with Local(registry, 1) as engine:
        records = {record["cell"]["attack"]: record for record in execute(wanted, registry, store, engine)}
    assert {name: record["status"] for name, record in records.items()} == {
        "none": "done", "killer": "failed", "mimic": "done", "ipm": "done",
    }  # fmt: skip
    assert [records[name]["shared_rounds"] for name in ("none", "mimic", "ipm")] == [0, 9, 9]
    assert str(path) in str(records["killer"]["reason"]), "the plugin that it uses is named"
    for cell in wanted:
        kept = store.read(cell)
        assert kept is not None
        assert kept["status"] == records[cell.attack]["status"]
        if kept["status"] == "done":
            assert kept["accuracy"] == simulate(cell, registry)["accuracy"]


@pytest.mark.usefixtures("patient")
def test_more_jobs_than_cores_are_cut_to_what_fits_and_said(tmp_path: Path) -> None:
    words = ["grid", "-D", "digits", "-d", "fedavg", "-a", "none", "--seeds", "1", "--dry-run", "--out", str(tmp_path)]
    words += ["--threads", str(cores())]
    done = CliRunner().invoke(main, [*words, "--jobs", "999"])
    assert f"--jobs 999 x {cores()} thread(s) would be more than the {cores()} core(s) here: 1 at once" in done.stderr
    assert " with --jobs 1" in done.stdout
    assert "would be more" not in CliRunner().invoke(main, [*words, "--jobs", "1"]).stderr


def test_more_threads_than_cores_are_refused_before_anything_is_computed(tmp_path: Path) -> None:
    words = ["grid", "-D", "digits", "-d", "fedavg", "-a", "none", "--seeds", "1", "--out", str(tmp_path / "results")]
    done = CliRunner().invoke(main, [*words, "--threads", str(cores() + 1)])
    assert done.exit_code == 2
    assert (
        f"threads is {cores() + 1} and there are {cores()} cores here; write --threads {cores()} or less" in done.stderr
    )
    assert not (tmp_path / "results").exists()


def test_what_a_killed_program_left_behind_is_ended_and_what_a_living_one_runs_is_not() -> None:
    dead = subprocess.run(
        [sys.executable, "-c", "from agrbench.results import owners; print(owners.tag())"],
        check=True, text=True, stdout=subprocess.PIPE,
    ).stdout.strip()  # fmt: skip
    marks = (f"{dead}-0", f"{owners.tag()}-0", "of another version", f"{dead.partition('-')[0]}-a-b-c")
    left = [subprocess.Popen(["sleep", "1000"], env=os.environ | {processes.MARK: mark}) for mark in marks]
    try:
        end_left_behind()
        assert left[0].wait(10) == -signal.SIGKILL
        assert [each.poll() for each in left[1:]] == [None] * 3
    finally:
        for each in left:
            each.kill()
            each.wait()


def test_cells_that_exceed_their_limit_do_not_end_the_grid(tmp_path: Path) -> None:
    cells = [Cell("synthetic", "median", "none", seed, clients=6, rounds=20000) for seed in range(3)]
    registry = Registry()
    with Local(registry, 2, Limits(seconds=0.01)) as engine:
        found = list(execute(cells, registry, Store(tmp_path), engine))
    assert [record["status"] for record in found] == ["failed"] * 3
    assert {record["reason"] for record in found} == {"it took longer than --cell-timeout 0.01"}
