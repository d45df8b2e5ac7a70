"""A time limit ends a command in order, and says how to go on."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from agrbench.cli.options import Duration
from tests.simulation.test_workers import CELLS, gone, running


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
