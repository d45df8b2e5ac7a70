"""Processes: one that is started by a program which dies at once ends without a word."""

from __future__ import annotations

import os
import subprocess
from contextlib import nullcontext
from multiprocessing import spawn

import pytest

from agrbench.processes import born_quietly


@pytest.mark.parametrize("said", [b"", b"\x80\x04\x95"], ids=["nothing", "a part"])
@pytest.mark.parametrize("quietly", [True, False])
def test_a_process_whose_parent_died_before_it_said_what_to_do_ends_without_a_traceback(
    quietly: bool, said: bytes
) -> None:
    here, there = os.pipe()
    os.write(there, said)
    os.close(there)
    with born_quietly() if quietly else nullcontext():
        words = spawn.get_command_line(tracker_fd=here, pipe_handle=here)
    done = subprocess.run([spawn.get_executable(), *words[1:]], pass_fds=[here], capture_output=True, text=True)
    os.close(here)
    assert done.returncode == 1
    assert ("Traceback" in done.stderr) == (not quietly)
    assert quietly == (done.stderr == "")
