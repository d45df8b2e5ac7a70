"""`agrbench data`: where files are, and one sentence for what is absent or damaged."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.helpers.commands import AGRBENCH, agrbench


def test_absent_data_gives_one_error_with_address_checksum_and_place(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "AGRBENCH_DATA"}
    environment |= {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HTTPS_PROXY": "http://127.0.0.1:9"}
    done = subprocess.run(
        [AGRBENCH, "data", "get", "location30"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    for part in ("https://github.com/privacytrustlab", "927203f85a868f8e", str(tmp_path / "cache"), "--data-dir DIR"):
        assert part in done.stderr


def test_data_commands_find_what_is_at_hand(tmp_path: Path) -> None:
    fetched = agrbench("data", "get", "location30", cwd=tmp_path).stdout
    assert agrbench("data", "path", "location30", cwd=tmp_path).stdout == fetched
    assert Path(fetched.strip()).is_file()
    shown = agrbench("data", "list", cwd=tmp_path).stdout
    assert "embedded, always at hand" in shown
    assert "none stated; present" in shown
    assert "has no files" in agrbench("data", "path", "digits", cwd=tmp_path, ok=2).stderr


def test_damaged_data_is_refused_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "location30"
    folder.mkdir(parents=True)
    shutil.copy(agrbench("data", "get", "location30", cwd=tmp_path).stdout.strip(), folder)
    damaged = folder / "dataset_location.tgz"
    damaged.chmod(0o644)
    damaged.write_bytes(damaged.read_bytes()[:-1000])
    done = agrbench("data", "path", "location30", "--data-dir", tmp_path / "data", cwd=tmp_path, ok=2)
    assert str(damaged) in done.stderr
    assert "the publisher's 927203f85a868f8e" in done.stderr


@pytest.mark.parametrize("command", ["path", "get"])
def test_the_file_of_your_own_that_a_table_reads_is_located(command: str, tmp_path: Path) -> None:
    (tmp_path / "visits.csv").write_text("age,outcome\n1,yes\n2,no\n")
    spec = "table(path='visits.csv',label='outcome')"
    assert agrbench("data", command, spec, cwd=tmp_path).stdout == f"{tmp_path / 'visits.csv'}\n"


@pytest.mark.parametrize("command", ["path", "get"])
def test_a_table_that_is_nowhere_is_refused_with_where_it_was_looked_for(command: str, tmp_path: Path) -> None:
    spec = "table(path='visits.csv',label='outcome')"
    told = agrbench("data", command, spec, "--data-dir", tmp_path, cwd=tmp_path, ok=2).stderr
    assert "visits.csv: there is no such file in the current folder" in told
    assert str(tmp_path) in told
    assert "write table(path=" in agrbench("data", command, "table", cwd=tmp_path, ok=2).stderr
