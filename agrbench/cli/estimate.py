"""`agrbench grid --dry-run`: print what a grid would compute, and estimate how long it takes."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import click

from agrbench.cells import UNATTACKED, Cell
from agrbench.cli.execute import chosen_jobs
from agrbench.data import files
from agrbench.errors import AgrbenchError
from agrbench.plugins.registry import Registry
from agrbench.progress import duration, progress
from agrbench.simulation.computing import compute
from agrbench.simulation.grid import Plan

PROBE = 2  # rounds that are timed to estimate a whole run
PATIENCE = 20.0  # seconds after which no further stack is timed


def preview(plan: Plan, registry: Registry, jobs: int | None, quiet: bool) -> None:
    """Print the cells, what is skipped and why, and roughly how long the rest takes."""
    waiting = set(plan.waiting)
    for cell in plan.cells:
        state = f"skip: {plan.skips[cell]}" if cell in plan.skips else "compute" if cell in waiting else "there"
        click.echo(f"{cell}: {state}")
    jobs = chosen_jobs(plan.cells, jobs, quiet)
    total, how = _estimate(plan.waiting, registry, quiet)
    seconds = total / min(jobs, max(len(plan.waiting), 1))
    click.echo(
        f"{len(plan.cells)} cells: {len(plan.waiting)} to compute, {len(plan.ready)} there, {len(plan.skips)} skipped; "
        f"about {duration(seconds)} in {jobs} process{'es' if jobs > 1 else ''} ({how})"
    )


def _estimate(cells: Sequence[Cell], registry: Registry, quiet: bool) -> tuple[float, str]:
    """Time two rounds of each stack until patience runs out; the other stacks are assumed to take the mean.

    Only attacks that rehearse the stack are timed.
    """
    absent = {
        name for name in {cell.dataset for cell in cells} if not files.at_hand(registry.dataset(name).record.source)
    }
    for name in sorted(absent):
        click.echo(f"No estimate for {name}: its files are not at hand; write `agrbench data get {name}`", err=True)
    cells = [cell for cell in cells if cell.dataset not in absent]
    kinds = list(dict.fromkeys(_kind(cell, registry) for cell in cells))
    seconds: dict[Cell, float] = {}
    began = time.perf_counter()
    with progress("estimating", len(kinds), quiet) as report:
        for kind in _in_turns(kinds):
            if time.perf_counter() - began > PATIENCE:
                break
            seconds[kind] = _probe(kind, registry)
            report(str(kind))
    total, played = 0.0, set[Cell]()
    for cell in cells:
        own = 1.0 if cell.trunk not in played else 1 - min(cell.first - 1, cell.rounds) / cell.rounds
        total += own * _expected(_kind(cell, registry), seconds)
        played.add(cell.trunk)
    return total, f"from {PROBE} rounds of {len(seconds)} of {len(kinds)} stacks"


def _kind(cell: Cell, registry: Registry) -> Cell:
    """Drop from a cell what hardly changes how long it takes."""
    rehearses = registry.attack(cell.attack).record.rehearses
    return replace(cell, attack=cell.attack if rehearses else UNATTACKED, seed=0)


def _in_turns(kinds: Sequence[Cell]) -> list[Cell]:
    """Interleave stacks: each dataset with its settings and attack has its first before any has its second."""
    groups: dict[str, list[Cell]] = {}
    for kind in kinds:
        groups.setdefault(_group(kind), []).append(kind)
    return [kind for turn in itertools.zip_longest(*groups.values()) for kind in turn if kind is not None]


def _expected(kind: Cell, seconds: Mapping[Cell, float]) -> float:
    """Return what such a cell took, or else the mean over its dataset, settings and attack, or else over all."""
    alike = [spent for other, spent in seconds.items() if _group(other) == _group(kind)]
    return seconds.get(kind, statistics.fmean(alike or list(seconds.values()) or [0.0]))


def _group(kind: Cell) -> str:
    return f"{kind.dataset} {kind.settings} {kind.attack}"


def _probe(kind: Cell, registry: Registry) -> float:
    """Estimate the seconds that a cell takes from its first rounds."""
    began = time.perf_counter()
    try:
        record = compute(replace(kind, rounds=PROBE, start=None), registry, alone=True)
        forging = 0.0 if kind.attack == UNATTACKED else _forging(kind, registry)
    except AgrbenchError as error:
        click.echo(f"{kind} will fail: {error}", err=True)
        return 0.0
    rounds: float = record["time"]["round_s"]
    attacked = max(kind.rounds - kind.first + 1, 0)
    return time.perf_counter() - began + rounds * (kind.rounds - PROBE) + forging * attacked


def _forging(kind: Cell, registry: Registry) -> float:
    """Return the seconds that an attack takes to forge the rows of one round."""
    from agrbench.clients.insider import forge
    from agrbench.simulation.run import Run

    run = Run(kind, registry)
    run.round(1)
    began = time.perf_counter()
    forge(run.attack, run.insider(1), run.learner.layout.parameters)
    return time.perf_counter() - began
