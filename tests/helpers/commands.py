"""The command line, run as a person runs it or within this process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from click.testing import CliRunner, Result

from agrbench.cli import main

AGRBENCH = str(Path(sys.executable).with_name("agrbench"))
SMALL = ("--seeds", "1", "--clients", "10", "--rounds", "20", "--jobs", "1")
"""A grid that takes a few seconds."""


def agrbench(*words: str | Path, cwd: Path | None = None, ok: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the command in a process; it must exit with `ok`, and never with a traceback."""
    done = subprocess.run([AGRBENCH, *words], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == ok, (words, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr or "--traceback" in words
    return done


def ask(*words: object) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(main, [str(word) for word in words])


def invoke(*words: object, ok: int = 0) -> Result:
    """Run the command in this process; it must exit with `ok`."""
    done = ask(*words)
    assert done.exit_code == ok, done.output
    return done


def interrupt(words: list[str], folder: Path) -> None:
    """Interrupt a command once it has a record, and check that it says how to go on."""
    running = subprocess.Popen(
        [AGRBENCH, *words],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    )
    while running.poll() is None and not list((folder / "results").rglob("*.json")):
        time.sleep(0.1)
    os.kill(running.pid, signal.SIGINT)
    _, told = running.communicate(timeout=60)
    assert running.returncode == 130
    assert f"To go on: agrbench {' '.join(words)}" in told
