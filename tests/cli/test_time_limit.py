"""A time limit ends a command in order, and says how to go on."""

from __future__ import annotations

import re
import time
from pathlib import Path

import click
import pytest

from agrbench.cli.options import Duration, resumable
from tests.simulation.test_workers import CELLS, gone, running


def test_what_takes_longer_is_ended_with_a_code_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    with pytest.raises(SystemExit) as ended, resumable(0.2):
        time.sleep(60)
    assert ended.value.code == 75
    assert time.monotonic() - began < 30
    assert re.search(r"Time is up .*; finished cells are kept\. To go on: agrbench", capsys.readouterr().err)


def test_what_is_done_in_time_ends_as_always() -> None:
    with resumable(60):
        pass
    with pytest.raises(SystemExit) as ended, resumable(60):
        raise SystemExit(1)
    assert ended.value.code == 1


def test_a_grid_leaves_no_process_and_no_claim(tmp_path: Path) -> None:
    long = ("grid", "-D", "digits", "-d", "median", "-a", "ipm", *CELLS[:-5], "--rounds", "1000000")
    with running(*long, "--time-limit", "6", "--out", tmp_path) as process:
        stdout, stderr = process.communicate(timeout=120)
        assert (process.returncode, stdout) == (75, "")
        assert "To go on: agrbench grid -D digits -d median -a ipm" in stderr
        assert gone(process.pid)
    assert not list(tmp_path.rglob("*.claim"))


@pytest.mark.parametrize(("text", "seconds"), [("5400", 5400), ("1:30:00", 5400), ("2:30", 150), ("0.5", 0.5)])
def test_durations(text: str, seconds: float) -> None:
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "0", "-5", "1:2:3:4", "soon", "nan", "inf", "1e99"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"write seconds such as 5400, or 1:30:00"):
        Duration().convert(text, None, None)
