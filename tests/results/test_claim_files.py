"""How the file of a claim comes to be: whole or not at all, with links and without."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agrbench.cells import Cell
from agrbench.results.claims import Claims
from agrbench.results.store import Store

CELL = Cell("digits", "krum", "none", rounds=20)
KILLED = """
import pathlib, resource, signal, sys
from agrbench.cells import Cell
from agrbench.results.claims import Claims, Store
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
cell = Cell("digits", "krum", "none", rounds=20)
with Claims(Store(pathlib.Path(sys.argv[1])), [cell]) as claims:
    claims.take(cell)
"""


def test_a_process_that_is_killed_while_it_writes_a_claim_leaves_none(tmp_path: Path) -> None:
    """The system kills a process that writes into a file of the greatest length."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGXFSZ
    with Claims(Store(tmp_path), [CELL]) as claims:
        assert claims.take(CELL)
    Store(tmp_path).prepare()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("error", [PermissionError, FileExistsError])
def test_where_links_fail_or_answer_twice_one_of_two_claimants_wins(
    error: type[OSError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system without links refuses them; one over a network may answer that the link it made exists."""
    link = os.link

    def answer(source: Path, target: Path) -> None:
        if error is FileExistsError:
            link(source, target)
        raise error

    monkeypatch.setattr(os, "link", answer)
    with Claims(Store(tmp_path), [CELL]) as first, Claims(Store(tmp_path), [CELL]) as second:
        assert first.take(CELL)
        assert not second.take(CELL)
        first.release(CELL)
        assert second.take(CELL)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
