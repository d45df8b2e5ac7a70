"""The engine `ray`: each branch is a task on a Ray cluster; a worker or a node that is lost costs its branch a try.

In its Ray worker, a branch is computed by the engine `local` in one process: limits hold, and a plugin costs only its
own cell, as on one machine. That process is kept for later tasks, so it imports torch once.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import time
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing, redirect_stdout, suppress
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

from agrbench.cells import Cell
from agrbench.errors import AgrbenchError
from agrbench.plugins.registry import Registry
from agrbench.simulation.computing import attempt
from agrbench.simulation.engines import Answer, Branch, Lost, Source
from agrbench.simulation.engines.local import UNLIMITED, Local
from agrbench.simulation.engines.parcels import Parcel, pack, unpack
from agrbench.simulation.engines.turns import Turns
from agrbench.simulation.workers import MOMENT, Limits, Work, as_program

RETRIES = 2  # of a branch whose worker or node is lost


@dataclass(frozen=True)
class Demands:
    """What one task takes of a cluster: CPUs (default: the threads of a cell), GPUs, and gigabytes of memory."""

    cpus: int | None = None
    gpus: float | None = None
    gigabytes: float | None = None


@dataclass
class _Task:
    """A branch at work: its answers as they come, the cells that have none yet, and how often it was retried.

    There are no `answers` any more once it is over; if it was lost, `lost` says how.
    """

    answers: Any
    cells: list[Cell]
    retries: int
    lost: str = "its Ray task ended early"


class Ray:
    """A Ray cluster: the one at an address, or else one that runs here, or else one that is started for this program.

    Raises:
        AgrbenchError: Ray is not installed, or there is no cluster at the address.
    """

    def __init__(
        self, registry: Registry, address: str | None = None, demands: Demands = Demands(), limits: Limits = UNLIMITED,
        work: Work = attempt,
    ) -> None:  # fmt: skip
        self.registry, self.address, self.demands = registry, address, demands
        self.limits, self.work = limits, work
        self._ray = _imported()
        self._cpus = demands.cpus or 1
        self._open = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            opened.enter_context(redirect_stdout(sys.stderr))  # Ray prints on standard output what its nodes report
            if not self._ray.is_initialized():
                _connect(self._ray, self.address)
                opened.callback(self._ray.shutdown)
            self._open = opened.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._open.close()

    def prepare(self, cells: Sequence[Cell]) -> str:
        """Choose how many CPUs a task takes, and count the tasks that the cluster has room for."""
        threads = max((cell.threads for cell in cells), default=1)
        self._cpus = self.demands.cpus or threads
        if self._cpus < threads:
            raise AgrbenchError(
                f"--cpus-per-task {self._cpus} is fewer than the {threads} threads of a cell; write --cpus-per-task "
                f"{threads}, or --threads {self._cpus}"
            )
        room = self._room()
        if not room:
            warnings.warn("no node of the Ray cluster has what a task takes; waiting for one that has", stacklevel=2)
        return f"Ray: {room} branches at once"

    def run(self, source: Source) -> Generator[Answer | None, None, None]:
        """Compute all branches of a source as tasks, which Ray queues; the longest are split if there is room left."""
        remote = self._ray.remote(_serve_whole if self._is_client else _serve).options(
            num_returns=1 if self._is_client else "streaming",
            max_retries=0, **self._resources, name="agrbench branch",
        )  # fmt: skip
        parcel, tasks = self._ray.put(pack(self.registry)), list[_Task]()

        def submit(cells: Sequence[Cell], retries: int = 0) -> _Task:
            return _Task(remote.remote(parcel, tuple(cells), self.limits, self.work), list(cells), retries)

        try:
            while True:
                tasks += map(submit, spread(list(iter(source.branch, ())), self._room() - len(tasks)))
                found = list(self._news(tasks))
                for task in [each for each in tasks if each.answers is None]:
                    tasks.remove(task)
                    if task.cells and task.retries < RETRIES:
                        tasks.append(submit(task.cells, task.retries + 1))
                    found += [Answer(cell, Lost(task.lost)) for cell in task.cells if task.retries == RETRIES]
                yield from found or (None,)
        finally:
            for task in tasks:
                with suppress(Exception):  # the cluster may be gone
                    self._ray.cancel(task.answers, force=True)

    @property
    def _is_client(self) -> bool:
        """Return whether the cluster is reached by Ray Client, which passes on what a task returns only at its end."""
        return (self.address or "").startswith("ray://")

    @property
    def _resources(self) -> dict[str, Any]:
        memory = None if self.demands.gigabytes is None else int(self.demands.gigabytes * 1e9)
        return {"num_cpus": self._cpus, "num_gpus": self.demands.gpus, "memory": memory}

    def _room(self) -> int:
        """Count the tasks that the living nodes have room for, whatever else they do."""
        takes = {"CPU": self._cpus, "GPU": self.demands.gpus, "memory": self._resources["memory"]}
        nodes = (node["Resources"] for node in self._ray.nodes() if node["Alive"])
        return sum(int(min(node.get(name, 0) // each for name, each in takes.items() if each)) for node in nodes)

    def _news(self, tasks: Sequence[_Task]) -> Iterator[Answer]:
        """Wait a moment for answers, and yield them."""
        if not tasks:
            time.sleep(MOMENT)
            return
        by_stream = {task.answers: task for task in tasks}
        ready, _ = self._ray.wait(list(by_stream), timeout=MOMENT)
        for task in map(by_stream.__getitem__, ready):
            try:
                if self._is_client:
                    found = self._ray.get(task.answers)
                    task.answers = None
                else:
                    found = [self._ray.get(next(task.answers))]
            except StopIteration:
                task.answers = None
            except self._ray.exceptions.RayTaskError as error:
                raise AgrbenchError(_mistake(error)) from error
            except self._ray.exceptions.RayError as error:
                task.answers = None
                task.lost = f"its Ray worker or node was lost, {RETRIES + 1} times ({type(error).__name__})"
            else:
                for answer in found:
                    task.cells.remove(answer.cell)
                yield from found


def spread(branches: Sequence[Branch], room: int) -> list[Branch]:
    """Halve the longest branches, which then play the rounds before the attack twice, until they fill the room."""
    pieces = list(branches)
    while pieces and len(pieces) < room and len(longest := max(pieces, key=len)) > 1:
        place, middle = pieces.index(longest), len(longest) // 2
        pieces[place : place + 1] = [longest[:middle], longest[middle:]]
    return pieces


_kept: tuple[tuple[object, ...], Local, TemporaryDirectory[str]] | None = None  # from one task to the next


def _serve(parcel: Parcel, cells: Branch, limits: Limits, work: Work) -> Iterator[Answer]:
    """Compute a branch in this Ray worker, and yield its answers as they come."""
    engine, left = _engine(parcel, limits, work), len(cells)
    with closing(engine.run(Turns(cells))) as answers:
        while left:
            with as_program(["grid"]):
                answer = next(answers)
            if answer is not None:
                left -= 1
                yield answer


def _serve_whole(parcel: Parcel, cells: Branch, limits: Limits, work: Work) -> list[Answer]:
    """Compute a branch in this Ray worker, and return its answers."""
    return list(_serve(parcel, cells, limits, work))


def _engine(parcel: Parcel, limits: Limits, work: Work) -> Local:
    """Return this Ray worker's engine, with its process if it had the same parcel, limits, work and GPUs before."""
    global _kept
    key = parcel, limits, work, os.environ.get("CUDA_VISIBLE_DEVICES")
    if _kept is None or _kept[0] != key:
        if _kept is not None:
            _kept[1].__exit__(None, None, None)
        aside = TemporaryDirectory(prefix="agrbench-plugins-")
        registry = Registry(unpack(parcel, aside.name), forgiving=True)
        _kept = key, Local(registry, 1, limits, work, shared=True), aside
    return _kept[1]


def _imported() -> Any:
    """Import Ray, which then sends no usage statistics.

    Raises:
        AgrbenchError: it is not installed.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise AgrbenchError("--engine ray needs Ray, which is not installed; install agrbench[ray]") from error


def _connect(ray: Any, address: str | None) -> None:
    """Connect to a cluster; Ray's handler of SIGTERM makes way for the one that was there."""
    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    before = signal.getsignal(signal.SIGTERM)
    try:
        try:
            ray.init(address=address or "auto", **quiet)
        except ConnectionError:
            if address is not None:
                raise
            ray.init(address="local", include_dashboard=False, **quiet)
    except (OSError, RuntimeError, ValueError, ImportError) as error:
        raise AgrbenchError(
            f"--address {address}: no Ray cluster answers ({type(error).__name__}); start one by `ray start --head`, "
            "or leave --address out"
        ) from error
    finally:
        with suppress(ValueError):  # not in the main thread
            signal.signal(signal.SIGTERM, before)


def _mistake(error: Any) -> str:
    """Say why a task could not begin; what cells do wrong is told by their answers."""
    if isinstance(error.cause, AgrbenchError):
        return str(error.cause)
    last = str(error).strip().splitlines()[-1]
    return f"a Ray worker could not compute ({last}); install the same agrbench on every node"
