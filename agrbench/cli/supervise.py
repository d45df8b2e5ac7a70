"""Watch a command that runs people's plugins: a plugin may end the whole program, or keep it from ending."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import click

from agrbench import processes
from agrbench.plugins.importing import SECONDS, in_progress

PATIENCE = 2.0  # seconds that the program may take to end by itself once its work is done
MOMENT = 0.2  # seconds between looks at whether it still runs


def plugin_files() -> list[str]:
    """List the plugin files that the command line names."""
    return list(dict.fromkeys(word for word in sys.argv[1:] if word.endswith(".py")))


def supervised(run: Callable[[], Any]) -> Any:
    """Run a command that ends by `SystemExit`, in a copy of this process that is watched.

    The exit code is the command's own. If a plugin ended the program by other means, that is said, and the code is 1;
    a program that does not end, because a plugin left a thread or a slow exit function, is ended.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _run(run, writing)
    os.close(writing)
    _pass_on(child)
    code = _told(reading, child)
    if code is not None:
        _wait_for(child, PATIENCE)
        sys.exit(code)
    sys.exit(_say_how_it_ended(child))


def _told(reading: int, child: int) -> int | None:
    """Wait for the exit code that the child tells; `None` if it ends without, or by us for importing for too long."""
    file, since = "", time.monotonic()
    while True:
        ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        if select.select([reading], [], [], 0 if ended else MOMENT)[0]:
            told = os.read(reading, 1)
            return told[0] if told else None
        if ended:
            return None
        if in_progress() != file:
            file, since = in_progress(), time.monotonic()
        if file and time.monotonic() - since > SECONDS + PATIENCE:  # it could not interrupt itself
            os.kill(child, signal.SIGKILL)


def _run(run: Callable[[], Any], writing: int) -> None:
    """Run the command; once its output is flushed, tell its exit code."""
    processes.end_with_parent()
    _keep_standard_output()
    code: object = 0
    try:
        run()
    except SystemExit as ended:
        code = ended.code
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os.write(writing, bytes([code if isinstance(code, int) else 1]))
    sys.exit(code)  # type: ignore[arg-type]


def _keep_standard_output() -> None:
    """Let only `sys.stdout` write to standard output: descriptor 1, which plugins may write to, is standard error."""
    own = os.dup(1)
    os.dup2(2, 1)
    before = sys.stdout
    sys.stdout = os.fdopen(own, "w", encoding=before.encoding, errors=before.errors, closefd=False)


def _pass_on(child: int) -> None:
    """Leave Ctrl-C, which reaches the whole group, to the child, and pass other endings on to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for each in processes.ENDINGS:
        signal.signal(each, lambda number, frame: os.kill(child, number))


def _wait_for(child: int, seconds: float) -> None:
    """Wait for a child process to end, and kill it if it has not after some seconds."""
    end = time.monotonic() + seconds
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return
        time.sleep(0.01)


def _say_how_it_ended(child: int) -> int:
    """Say how the child ended in the middle of its work, and return the exit code for it."""
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    how = f"with exit code {code}" if code >= 0 else f"by {signal.Signals(-code).name}"
    if file := in_progress():
        why = f" (for want of memory, or because it took longer than {SECONDS:g} s)" if code == -signal.SIGKILL else ""
        where = f"while it imported {file}{why}; mend the file and try again"
    else:
        where = f"in the middle of its work, perhaps by a plugin ({', '.join(plugin_files())})"
    click.echo(f"Error: the program was ended {how} {where}; what was computed is kept", err=True)
    return 128 - code if code < 0 and not file else 1
