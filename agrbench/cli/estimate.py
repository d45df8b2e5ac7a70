"""`agrbench grid --dry-run`: say what a grid would compute, and estimate how long it takes, within twenty seconds.

A process of its own plans the grid and measures costs; when time is up it is killed, whatever it is doing, and what it
has told until then is the answer.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import click

from agrbench import processes
from agrbench.cells import Cell
from agrbench.cli import execute
from agrbench.data.columns import listed
from agrbench.errors import AgrbenchError
from agrbench.plugins.registry import Registry
from agrbench.progress import duration, progress
from agrbench.results.store import Store
from agrbench.simulation import grid, shards, workers
from agrbench.simulation.costs import Costs, Fault, Measured
from agrbench.simulation.engines.local import fitting
from agrbench.simulation.grid import Grid, Plan

PATIENCE = 15.0  # seconds from the program's start until measuring ends; a busy machine takes the others to end
PARTS = {"train": "training setups", "server": "stacks", "forge": "attacks"}


@dataclass(frozen=True)
class Asked:
    """What a person asks about: grids, and where plugins and records are."""

    grids: tuple[Grid, ...]
    plugins: tuple[Path, ...]
    out: Path
    keep_stale: bool
    shard: tuple[int, int] | None = None


@dataclass(frozen=True)
class Planned:
    """The plan of what was asked, and why some of its specs are left out."""

    plan: Plan
    broken: tuple[str, ...]


def preview(asked: Asked, jobs: int | None, quiet: bool, verbose: bool) -> None:
    """Print how many cells there are, how long those that wait will take, and if `verbose` every cell.

    Raises:
        AgrbenchError: the grid cannot be planned.
    """
    with contextlib.closing(_answers(asked)) as answers:
        planned = next(answers, None)
        if not isinstance(planned, Planned):
            click.echo(f"No estimate: the grid could not be planned within {PATIENCE:.0f} s")
            return
        for error in planned.broken:
            click.echo(f"Left out: {error}", err=True)
        plan, registry = planned.plan, Registry(asked.plugins, forgiving=True)
        if not quiet:
            execute.announce(plan, registry, lambda text: click.echo(text, err=True))
        jobs, remark = fitting(plan.cells, jobs)
        if remark and not quiet:
            execute.say(remark)
        costs = _collect(answers, plan.waiting, quiet)
    for line in told(plan, costs, jobs):
        click.echo(line)
    waiting = set(plan.waiting)
    for cell in plan.cells if verbose else ():
        state = f"skip: {plan.skips[cell]}" if cell in plan.skips else "compute" if cell in waiting else "there"
        click.echo(f"{cell}: {state}")


def _answers(asked: Asked) -> Generator[Any, None, None]:
    """Yield the plan and what is measured, as a process tells them, until it is done or time is up."""
    until = processes.since() + PATIENCE  # a busy machine takes seconds to import what has been imported by now
    here, there = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=_serve, args=(there, os.getpid(), asked, until), daemon=True)
    with processes.born_quietly():
        process.start()
    there.close()
    try:
        while here.poll(max(until - time.monotonic(), 0.0)) and (answer := here.recv()) is not None:
            if isinstance(answer, AgrbenchError):
                raise answer
            yield answer
    except (EOFError, OSError):
        click.echo("The process that measures ended early, perhaps for want of memory.", err=True)
    finally:
        process.kill()
        process.join()
        here.close()


def _serve(driver: Connection, parent: int, asked: Asked, until: float) -> None:
    """Tell the plan, then what is measured, then `None`."""
    workers.begin(parent)
    from agrbench.simulation.probing import measure

    registry = Registry(asked.plugins, forgiving=True)
    try:
        grids, broken = grid.sound(asked.grids, registry)
        cells = shards.part(grid.expand(grids, registry), registry, asked.shard)
        plan = grid.plan(cells, registry, Store(asked.out), asked.keep_stale)
        driver.send(Planned(plan, tuple(map(str, broken))))
        for found in measure(plan.waiting, registry, until):
            driver.send(found)
        driver.send(None)
    except AgrbenchError as error:
        driver.send(AgrbenchError(str(error)))


def _collect(answers: Iterator[Any], cells: Sequence[Cell], quiet: bool) -> Costs:
    """Collect what cells cost, and say which of them will fail."""
    costs = Costs()
    total = sum(len(costs.sort(part, cells)[1]) for part in PARTS)
    with progress("measuring", total, quiet) as report:
        for found in answers:
            costs.add(found)
            if isinstance(found, Fault):
                click.echo(f"{found.cell} will fail: {found.reason}", err=True)
            elif isinstance(found, Measured) and found.part in PARTS:
                report(str(found.cell))
    return costs


def told(plan: Plan, costs: Costs, jobs: int) -> Iterator[str]:
    """Say how many cells there are, how long they take, what that was measured on, and what was not measured."""
    yield f"{len(plan.cells)} cells: {len(plan.waiting)} to compute, {len(plan.ready)} there, {len(plan.skips)} skipped"
    cells = [cell for cell in plan.waiting if not costs.fails(cell)]
    if not cells:
        yield from costs.absent.values()
        return
    if not costs.known["train"]:
        yield f"No estimate: nothing could be measured within {PATIENCE:.0f} s"
        return
    found = {what: costs.sort(part, cells) for part, what in PARTS.items()}
    yield _about(found).format(f"{duration(costs.seconds(cells, jobs))} with --jobs {jobs}")
    yield from costs.absent.values()
    counts = ", ".join(f"{len(had)} of {len(had) + len(left)} {what}" for what, (had, left) in found.items())
    yield f"Measured on few clients and examples, and scaled: {counts}"
    for what, (had, left) in found.items():
        if left:
            names = listed([*dict.fromkeys(_name(cell, what) for cell in left)])
            how = f"taken as the mean of the measured {what}" if had else "left out"
            yield f"Not measured in time, and {how}: {names}"


def _about(found: Mapping[str, tuple[list[Cell], list[Cell]]]) -> str:
    """Say how far to trust a time; it is too short if nothing was measured of some part."""
    if any(left and not had for had, left in found.values()):
        return "At least {}"
    if any(left for _, left in found.values()):
        return "Roughly {}, since not everything was measured"
    return "About {} on a machine that is otherwise idle, within a factor of 2"


def _name(cell: Cell, what: str) -> str:
    if what == PARTS["train"]:
        return " ".join([cell.dataset, *(f"{name}={value}" for name, value in cell.settings.items())])
    return cell.defense if what == PARTS["server"] else cell.attack
