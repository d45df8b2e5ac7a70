"""Grids in one folder, on disks that fill up and folders that vanish, with streams that nobody reads."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.commands import SMALL
from tests.helpers.records import stored

MAIN = [sys.executable, "-c", "from agrbench.cli import main; main()"]
GRID = [*MAIN, "grid", "-d", "median", "-a", "label_flip", "-a", "ipm", *SMALL, "-v"]
CELLS = 9


def start(folder: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*GRID, "--out", str(folder), *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def await_records(folder: Path, count: int) -> None:
    until = time.monotonic() + 60
    while len(list(folder.rglob("*.json"))) < count:
        assert time.monotonic() < until
        time.sleep(0.05)


def test_two_grids_in_one_folder_share_the_cells_and_print_the_same(tmp_path: Path) -> None:
    running = [start(tmp_path / "records") for _ in range(2)]
    told = [each.communicate(timeout=120) for each in running]
    assert [each.returncode for each in running] == [0, 0], told
    assert told[0][0] == told[1][0]
    assert len(stored(tmp_path / "records")) == CELLS
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".json"]


def test_a_grid_takes_over_from_one_that_was_killed(tmp_path: Path) -> None:
    killed, other = start(tmp_path / "records"), start(tmp_path / "records")
    await_records(tmp_path / "records", 3)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    _, told = other.communicate(timeout=120)
    assert other.returncode == 0, told
    assert len(stored(tmp_path / "records")) == CELLS
    assert not list(tmp_path.rglob("*.claim"))


@pytest.mark.parametrize("part", ["", "digits", "digits/fedavg"])
def test_a_folder_that_vanishes_is_told_and_the_exit_code_is_not_0(part: str, tmp_path: Path) -> None:
    running = start(tmp_path / "records")
    await_records(tmp_path / "records", 4)
    (tmp_path / "records" / part).rename(tmp_path / "elsewhere")  # at once, whatever is being written there
    _, told = running.communicate(timeout=120)
    assert running.returncode in (1, 2)
    assert "the folder is gone" in told or "are no longer in" in told or "cannot be written" in told
    assert "Traceback" not in told


def test_a_full_disk_ends_a_grid_with_a_sentence_and_keeps_what_was_computed(tmp_path: Path) -> None:
    words = ["mount", "-t", "tmpfs", "-o", "size=24k", "none", str(tmp_path)]
    if not shutil.which("mount") or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("this user cannot mount a disk")
    try:
        running = start(tmp_path / "records")
        _, told = running.communicate(timeout=120)
        assert running.returncode == 2, told
        assert "No space left on device" in told
        assert "Traceback" not in told
        assert 0 < len(stored(tmp_path / "records")) < CELLS
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.parametrize("out", ["/proc/records", "FILE/records", "x" * 300, "FILE"])
def test_a_folder_that_cannot_be_made_is_told_before_anything_is_computed(out: str, tmp_path: Path) -> None:
    (tmp_path / "FILE").write_text("a file where a folder should be")
    done = subprocess.run([*GRID, "--out", out], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert "Error: " in done.stderr
    assert "done: " not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("ending", ["2>&-", "2>/dev/full", ">&-", ">&- 2>&-", "2>&1 >/dev/null | true"])
def test_a_grid_that_nobody_listens_to_finishes(ending: str, tmp_path: Path) -> None:
    shell = f'set -o pipefail; "$@" {ending}'
    done = subprocess.run(["bash", "-c", shell, "bash", *GRID, "--out", str(tmp_path / "records")], capture_output=True)
    assert done.returncode == 0
    assert len(stored(tmp_path / "records")) == CELLS


def test_a_full_standard_output_ends_in_a_sentence(tmp_path: Path) -> None:
    done = subprocess.run(["bash", "-c", '"$@" > /dev/full', "bash", *MAIN, "list"], stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr == "Error: [Errno 28] No space left on device\n"
