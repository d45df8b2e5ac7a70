"""Programs that run apart: started warm or cold, killed at any moment, and looked for afterwards."""

from __future__ import annotations

import os
import signal
import sys
import time
import types
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MARK = "AGRBENCH_FAULT"  # the environment variable by which the processes of one try are found
COLD = (sys.executable, "-m", "agrbench")
HANG = 900.0  # seconds after which a program is said to hang
LINGER = 10.0  # seconds that a process may outlive a kill
MOMENT = 0.02  # seconds between two looks


@dataclass(frozen=True)
class Program:
    """A running `agrbench`, in a session of its own, with its streams in files of its folder."""

    pid: int
    mark: str
    folder: Path

    @property
    def ended(self) -> bool:
        """Return whether the program ended; `wait` is still to be called."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def wait(self) -> int | None:
        """Return the exit code, or the negative signal; `None` for a program that hangs, which is then killed."""
        end = time.monotonic() + HANG
        while not (ended := self.ended) and time.monotonic() < end:
            time.sleep(MOMENT)
        kill([] if ended else [self.pid])
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return code if ended else None

    def said(self, stream: str = "err") -> str:
        """Return what the program wrote to a stream."""
        return (self.folder / stream).read_text(encoding="utf-8", errors="replace")

    def workers(self) -> list[int]:
        """List the processes that compute cells."""
        return [pid for pid in marked(self.mark) if parent(pid) == self.pid and b"spawn_main" in _read(pid, "cmdline")]


def warm() -> None:
    """Import what a grid imports."""
    import agrbench.results.tables
    import agrbench.simulation.execution
    import agrbench.simulation.preparation
    import agrbench.simulation.run  # noqa: F401


def start(
    words: Sequence[object], mark: str, folder: Path, before: Sequence[str] | None = None,
    limit: Callable[[], object] | None = None,
) -> Program:  # fmt: skip
    """Start `agrbench` with these words and the current folder `folder`.

    It is a copy of this process, which has imported its modules already; with `before`, a new interpreter that is
    started behind these words, such as `unshare`. `limit` is called in the process first.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    folder.mkdir(parents=True, exist_ok=True)
    pid = os.fork()
    if pid:
        while os.getpgid(pid) != pid:  # so that its group can be killed from the first moment on
            time.sleep(MOMENT / 10)
        return Program(pid, mark, folder)
    code = 99
    try:
        _settle(mark, folder)
        if limit is not None:
            limit()
        command = [str(word) for word in words]
        if before is not None:
            line = [*before, *COLD, *command]
            os.execvp(line[0], line)
        code = _main(command)
    finally:
        os._exit(code)


def _settle(mark: str, folder: Path) -> None:
    """Make this process the leader of a session, with its streams in files."""
    os.setsid()
    os.chdir(folder)
    os.environ[MARK] = mark
    for number, name, flags in ((0, os.devnull, os.O_RDONLY), (1, "out", os.O_WRONLY), (2, "err", os.O_WRONLY)):
        os.dup2(os.open(name, flags | (os.O_CREAT | os.O_TRUNC if number else 0), 0o666), number)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _main(words: list[str]) -> int:
    from agrbench.cli import main

    sys.modules["__main__"] = types.ModuleType("__main__")  # which workers would import
    sys.argv = ["agrbench", *words]
    try:
        main()
    except SystemExit as ended:
        sys.stdout.flush()
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0


def marked(mark: str) -> list[int]:
    """List the living processes that were started with a mark."""
    wanted = f"{MARK}={mark}".encode()
    pids = [int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()]
    return [pid for pid in pids if wanted in _read(pid, "environ").split(b"\0")]


def parent(pid: int) -> int:
    """Return the parent of a process, 0 if it is gone."""
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    return int(fields[1]) if fields else 0


def orphans(program: Program) -> list[str]:
    """Wait for the processes that a program started to end, kill those that do not, and return their command lines."""
    end = time.monotonic() + LINGER
    while (left := marked(program.mark)) and time.monotonic() < end:
        time.sleep(MOMENT)
    lines = [_read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace") for pid in left]
    kill(left)
    return lines


def kill(pids: Sequence[int]) -> None:
    """Kill processes that may be gone."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _read(pid: int, what: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{what}").read_bytes()
    except OSError:
        return b""
