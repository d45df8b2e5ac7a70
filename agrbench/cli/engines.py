"""Options that say where cells are computed: in processes of this machine, or on a Ray cluster, and within what."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import click

from agrbench.errors import AgrbenchError

if TYPE_CHECKING:
    from agrbench.plugins.registry import Registry
    from agrbench.simulation.engines import Engine
    from agrbench.simulation.workers import Work

POSITIVE = click.FloatRange(min=0, min_open=True)
OPTIONS = (
    click.option("--jobs", type=click.IntRange(min=1), help="Cells computed at once (default: cores / threads)."),
    click.option(
        "--cell-timeout", "seconds", type=POSITIVE, metavar="SECONDS",
        help="Most time that one cell may take; then it has failed.",
    ),
    click.option(
        "--cell-memory", "gigabytes", type=POSITIVE, metavar="GB",
        help="Most memory that the process of one cell may take; then it has failed.",
    ),
    click.option(
        "--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True,
        help="Where cells are computed: in processes here, or on a Ray cluster (docs/cluster.md).",
    ),
    click.option(
        "--address", metavar="auto|ray://HOST:10001",
        help="The Ray cluster (default: the one that runs here, or else a new one on this machine).",
    ),
    click.option(
        "--cpus-per-task", "cpus", type=click.IntRange(min=1), help="CPUs that a Ray task takes (default: its threads)."
    ),
    click.option("--gpus-per-task", "gpus", type=POSITIVE, metavar="F", help="GPUs that a Ray task takes, or a part."),
    click.option("--memory-per-task", "memory", type=POSITIVE, metavar="GB", help="Memory that a Ray task takes."),
)  # fmt: skip


@dataclass(frozen=True)
class Where:
    """Where a person wants cells computed, and what one may take."""

    jobs: int | None
    seconds: float | None
    gigabytes: float | None
    engine: str
    address: str | None
    cpus: int | None
    gpus: float | None
    memory: float | None

    def __post_init__(self) -> None:
        ours = {"--jobs": self.jobs}
        rays = {
            "--address": self.address, "--cpus-per-task": self.cpus, "--gpus-per-task": self.gpus,
            "--memory-per-task": self.memory,
        }  # fmt: skip
        for name, value in (ours if self.engine == "ray" else rays).items():
            if value is not None:
                raise AgrbenchError(
                    f"{name} {value} is not for --engine {self.engine}; "
                    + ("write --cpus-per-task, or leave it out" if name in ours else "write --engine ray, too")
                )

    def open(self, registry: Registry, work: Work | None = None) -> Engine:
        """Return the engine, to be used in a `with` block; a local one begins at once to import what it needs.

        Raises:
            AgrbenchError: it is not installed.
        """
        from agrbench.simulation.computing import attempt
        from agrbench.simulation.workers import Limits

        limits = Limits(self.seconds, self.gigabytes)
        if self.engine == "local":
            from agrbench.simulation.engines.local import Local

            return Local(registry, self.jobs, limits, work or attempt)
        from agrbench.simulation.engines.ray import Demands, Ray

        demands = Demands(self.cpus, self.gpus, self.memory)
        return Ray(registry, self.address, demands, limits, work or attempt)

    def device(self, name: str) -> str:
        """Choose the device that a cell names: `auto` is CUDA if it is available, or if a Ray task takes a GPU.

        Raises:
            AgrbenchError: CUDA was requested and is not available.
        """
        if self.engine == "ray":
            return "cuda" if name == "cuda" or self.gpus else "cpu"
        return chosen(name)


def chosen(name: str) -> str:
    """Choose the device that a cell names: `auto` is CUDA if it is available.

    Raises:
        AgrbenchError: CUDA was requested and is not available.
    """
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if name == "cuda":
        raise AgrbenchError("--device cuda: torch finds no CUDA device here; write --device cpu")
    return "cpu"


def engine_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options to a command, which receives them as `where`."""

    @functools.wraps(command)
    def run(**given: Any) -> None:
        command(where=Where(**{each.name: given.pop(each.name) for each in fields(Where)}), **given)

    for option in reversed(OPTIONS):
        run = option(run)
    return run
