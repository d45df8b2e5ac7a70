"""Claims on cells: one of several processes computes a cell, the dead lose theirs at once, and the living keep them."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agrbench.cells import Cell
from agrbench.plugins.registry import Registry
from agrbench.results import claims as module
from agrbench.results.claims import Claims
from agrbench.results.store import Store, collect
from agrbench.results.writing import Unwritable
from agrbench.simulation import grid
from tests.helpers.race import together
from tests.helpers.records import finished

CELL = Cell("digits", "krum", "none", rounds=20)
CELLS = [Cell("digits", "krum", "none", seed, rounds=20) for seed in range(40)]
HOLD = """
import sys, time, pathlib
from tests.results.test_claims import CELL, Claims, Store
with Claims(Store(pathlib.Path(sys.argv[1])), [CELL], heartbeat=float(sys.argv[2])) as claims:
    print(claims.take(CELL), flush=True)
    time.sleep(600)
"""


def claimed(folder: Path) -> Path:
    return Store(folder).path(CELL).with_suffix(".claim")


def hold(folder: Path, heartbeat: float = 0.05) -> subprocess.Popen[str]:
    """Start a process that claims the cell and holds it until it is killed."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), str(heartbeat)],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    return holder


def kill(holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.communicate()


def compute(folder: Path) -> list[int]:
    """Compute every cell that this process gets, as a grid does; return the seeds."""
    store = Store(folder)
    mine: list[int] = []
    with Claims(store, CELLS) as claims:
        waiting = list(CELLS)
        while waiting:
            later = []
            for cell in waiting:
                if claims.theirs(cell):
                    continue
                if claims.take(cell):
                    time.sleep(0.01)
                    store.write(finished(cell, [0.1, 0.5, 0.5]))
                    claims.release(cell)
                    mine.append(cell.seed)
                else:
                    later.append(cell)
            waiting = later
    return mine


@pytest.mark.parametrize("count", [2, 4])
def test_processes_that_start_at_once_compute_every_cell_once(count: int, tmp_path: Path) -> None:
    found = together([compute] * count, tmp_path)
    assert sorted(seed for mine in found if isinstance(mine, list) for seed in mine) == list(range(len(CELLS))), found
    assert len(list(collect([tmp_path]))) == len(CELLS)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".json"]


def win(folder: Path) -> bool:
    """Try for the cell, and hold it until everybody has tried."""
    with Claims(Store(folder), [CELL]) as claims:
        won = claims.take(CELL)
        time.sleep(1)
    return won


def test_of_four_claimants_one_wins(tmp_path: Path) -> None:
    assert sorted(map(str, together([win] * 4, tmp_path))) == ["False", "False", "False", "True"]


def test_of_four_that_take_over_one_wins(tmp_path: Path) -> None:
    kill(hold(tmp_path))
    assert claimed(tmp_path).exists()
    assert sorted(map(str, together([win] * 4, tmp_path))) == ["False", "False", "False", "True"]


def test_what_is_written_between_planning_and_claiming_is_not_computed_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    plan = grid.plan([CELL], Registry(), store)
    store.write(finished(CELL, [0.1, 0.5, 0.5]))
    with Claims(store, plan.waiting, before=plan.before) as claims:
        assert not claims.take(CELL)
        assert claims.theirs(CELL) is not None
    assert not claimed(tmp_path).exists()


def test_the_claim_of_a_killed_process_is_taken_over_at_once(tmp_path: Path) -> None:
    kill(hold(tmp_path))
    with Claims(Store(tmp_path), [CELL]) as claims:
        assert claims.take(CELL)
    assert not claimed(tmp_path).exists()


def test_the_claim_of_a_dead_process_that_nobody_has_waited_for_is_taken_over_at_once(tmp_path: Path) -> None:
    holder = hold(tmp_path)
    holder.kill()
    while Path(f"/proc/{holder.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
    with Claims(Store(tmp_path), [CELL]) as claims:
        assert claims.take(CELL)
    holder.communicate()


def test_the_claim_of_a_dead_process_goes_even_if_its_record_is_there_and_that_of_a_living_one_stays(
    tmp_path: Path,
) -> None:
    holder = hold(tmp_path)
    Store(tmp_path).write(finished(CELL, [0.1, 0.5, 0.5]))
    with Claims(Store(tmp_path), []):
        assert claimed(tmp_path).exists()
    kill(holder)
    with Claims(Store(tmp_path), []):
        assert not claimed(tmp_path).exists()


def test_a_claim_that_the_disk_has_no_room_for_leaves_no_file(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Claims(Store(tmp_path), [CELL]) as claims:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
        try:
            with pytest.raises(Unwritable):
                claims.take(CELL)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert not claimed(tmp_path).exists()
        assert claims.take(CELL)


def test_a_living_claim_is_kept_however_long_it_takes(tmp_path: Path) -> None:
    holder = hold(tmp_path)
    with Claims(Store(tmp_path), [CELL], abandoned=0.5) as claims:
        until = time.monotonic() + 2
        while time.monotonic() < until:
            assert not claims.take(CELL)
            time.sleep(0.05)
    kill(holder)
    assert claimed(tmp_path).exists()


def test_a_claim_that_nobody_touches_is_taken_over_after_the_stated_time(tmp_path: Path) -> None:
    """A process that is stopped is there and touches nothing, like one of a machine that has lost its power."""
    holder = hold(tmp_path)
    os.kill(holder.pid, signal.SIGSTOP)
    with Claims(Store(tmp_path), [CELL], abandoned=0.5) as claims:
        began = time.monotonic()
        while not claims.take(CELL):
            assert time.monotonic() - began < 5
            time.sleep(0.05)
        assert time.monotonic() - began > 0.5
        ours = claimed(tmp_path).read_bytes()
        os.kill(holder.pid, signal.SIGCONT)
        time.sleep(0.2)
        holder.send_signal(signal.SIGINT)  # it leaves, and removes its own claims only
        holder.communicate()
        assert claimed(tmp_path).read_bytes() == ours
    assert not claimed(tmp_path).exists()


@pytest.mark.parametrize("hours", [-24, 0, 24])
def test_clocks_that_differ_by_a_day_change_nothing(hours: int, tmp_path: Path) -> None:
    """The date of a claim is only ever compared with an earlier date of the same claim."""
    path = claimed(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"host": "another machine", "pid": 1, "started": "1", "token": "t"}))
    with Claims(Store(tmp_path), [CELL], abandoned=0.5) as claims:
        began = time.monotonic()
        for beat in range(20):
            then = time.time() + 3600 * hours + beat
            os.utime(path, (then, then))
            assert not claims.take(CELL)
            time.sleep(0.05)
        assert time.monotonic() - began > 0.5
        time.sleep(0.6)
        assert claims.take(CELL)


@pytest.mark.parametrize("change", [{"host": "another machine"}, {"started": None}])
def test_a_process_that_cannot_be_looked_up_is_given_its_time(change: dict[str, object], tmp_path: Path) -> None:
    kill(hold(tmp_path))
    owner = json.loads(claimed(tmp_path).read_text()) | change
    claimed(tmp_path).write_text(json.dumps(owner))
    with Claims(Store(tmp_path), [CELL], abandoned=60) as claims:
        assert not claims.take(CELL)


def test_a_process_id_that_another_process_has_now_is_not_taken_for_the_owner(tmp_path: Path) -> None:
    kill(hold(tmp_path))
    owner = json.loads(claimed(tmp_path).read_text()) | {"pid": os.getpid()}
    claimed(tmp_path).write_text(json.dumps(owner))
    with Claims(Store(tmp_path), [CELL]) as claims:
        assert claims.take(CELL)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"host": 1}', '{"pid": 1e999}', "\x00" * 9000])
def test_a_claim_that_says_nothing_is_given_its_time(text: str, tmp_path: Path) -> None:
    path = claimed(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with Claims(Store(tmp_path), [CELL], abandoned=0.2) as claims:
        assert not claims.take(CELL)
        time.sleep(0.3)
        assert claims.take(CELL)


def test_a_claim_that_is_a_pipe_keeps_nobody_waiting(tmp_path: Path) -> None:
    claimed(tmp_path).parent.mkdir(parents=True)
    os.mkfifo(claimed(tmp_path))
    with Claims(Store(tmp_path), [CELL]) as claims:
        assert not claims.take(CELL)


def test_only_what_was_written_since_is_another_s_work(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(finished(CELL, [0.1, 0.5, 0.5]) | {"status": "failed"})
    with Claims(store, [CELL]) as claims:
        assert claims.theirs(CELL) is None  # a run that failed before is tried again
        assert claims.take(CELL)
        claims.release(CELL)
        store.write(finished(CELL, [0.1, 0.9, 0.9]))
        assert (claims.theirs(CELL) or {})["accuracy"] == [0.1, 0.9, 0.9]
        assert not claims.take(CELL)
    assert not claimed(tmp_path).exists()


def test_a_claim_that_changed_hands_while_it_was_judged_is_put_back(tmp_path: Path) -> None:
    """Between looking and taking away, another process may have taken the claim over."""
    path = claimed(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text("the abandoned claim")
    look = module._look(path)
    assert look is not None
    path.unlink()
    path.write_text("the claim of one that was faster")
    assert not module._clear(path, look)
    assert path.read_text() == "the claim of one that was faster"
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    path.unlink()
    assert not module._clear(path, look)


def test_where_nothing_can_be_written_nothing_can_be_claimed(tmp_path: Path) -> None:
    (tmp_path / "digits").write_text("a file where a folder should be")
    with Claims(Store(tmp_path), [CELL]) as claims, pytest.raises(Unwritable, match="cannot be written"):
        claims.take(CELL)


def test_a_folder_that_vanishes_takes_its_claims_along_and_is_not_made_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "records")
    store.prepare()
    with Claims(store, [CELL], heartbeat=0.01) as claims:
        assert claims.take(CELL)
        shutil.rmtree(store.folder)
        time.sleep(0.1)
        claims.release(CELL)
        with pytest.raises(Unwritable, match="the folder is gone"):
            claims.take(CELL)
    assert not store.folder.exists()
