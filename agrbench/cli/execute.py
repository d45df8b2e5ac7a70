"""Carry a plan out for a person at a terminal: progress, interruption, the table, and what to type next."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import click

from agrbench.cells import UNATTACKED, UNDEFENDED, Cell
from agrbench.data import files as data
from agrbench.errors import AgrbenchError, PluginError
from agrbench.plugins.registry import Registry
from agrbench.progress import duration, progress
from agrbench.results import formats, metrics, tables
from agrbench.results.breaking import Search
from agrbench.results.store import Record, Store
from agrbench.simulation import execution, grid
from agrbench.simulation.grid import Plan

PROBE = 2  # rounds that stand for all where time is estimated
PATIENCE = 20.0  # seconds after which no further stack is timed


def _say(text: str) -> None:
    click.echo(text, err=True)


def _silent(text: str) -> None:
    return


def run(
    plan: Plan,
    registry: Registry,
    store: Store,
    jobs: int | None,
    quiet: bool,
    verbose: bool,
    trace: bool,
) -> int:
    """Compute what is waiting, print the triad of all cells, and give the exit code.

    Raises:
        AgrbenchError: see `compute`.
    """
    say = _silent if quiet else _say
    _announce(plan, registry, say)
    jobs = _jobs(plan.cells, jobs, say)
    failures = compute(plan, registry, store, jobs, quiet, verbose)
    records = [kept for cell in plan.cells if (kept := store.read(cell)) is not None]
    groups = metrics.groups(records)
    if groups:
        click.echo(formats.write(tables.tables(groups, "triad"), "plain"))
    report_failures(failures, store, trace)
    say(f"Records: {store.folder}")
    say(f"Next: agrbench table {store.folder} --metric loss, or agrbench show {store.path(plan.cells[-1])}")
    return 1 if failures else 0


def compute(
    plan: Plan, registry: Registry, store: Store, jobs: int | None, quiet: bool, verbose: bool = False
) -> list[Record]:
    """Compute what is waiting, write the skips down, and give the records that failed.

    Raises:
        AgrbenchError: a dataset's files are not to be had, its examples do not suit the settings, or a cell wants more
            threads than there are cores; then nothing is computed.
    """
    _check_threads(plan.waiting)
    for cell, reason in plan.skips.items():
        store.write(execution.skipped(cell, registry, reason))
    failures: list[Record] = []
    for dataset in dict.fromkeys(cell.dataset for cell in plan.waiting):
        for file in registry.dataset(dataset).record.source.files:
            data.fetch(file)
    _try(plan.waiting, registry)
    with progress("cells", len(plan.waiting), quiet or not plan.waiting) as report:
        for record in execution.execute(plan.waiting, registry, store, _jobs(plan.waiting, jobs)):
            cell = Cell.from_json(record["cell"])
            report(str(cell))
            if record["status"] == "failed":
                failures.append(record)
            if verbose and not quiet:
                _say(f"{record['status']}: {cell}, {1000 * record['time']['round_s']:.1f} ms a round")
    return failures


def search(found: Sequence[Search], registry: Registry, store: Store, jobs: int | None, quiet: bool) -> list[Record]:
    """Carry searches for breaking points out side by side, and give the records that failed.

    Raises:
        AgrbenchError: see `compute`.
    """
    failures: list[Record] = []
    jobs = _jobs([each.cell for each in found], jobs, _silent if quiet else _say)
    going = {each.cell.defense: each for each in found}
    while asked := {name: count for name, each in going.items() if (count := each.next) is not None}:
        cells = dict.fromkeys(cell for name, count in asked.items() for cell in going[name].cells(count))
        if not quiet:
            _say("Malicious clients: " + ", ".join(f"{name} {count}" for name, count in asked.items()))
        plan = grid.plan(list(cells), registry, store)
        if not quiet:
            _announce_stale(plan)
        failures += compute(plan, registry, store, jobs, quiet)
        going = {name: going[name] for name, count in asked.items() if going[name].measure(count, store)}
    return failures


def _try(cells: Sequence[Cell], registry: Registry) -> None:
    """Deal out each dataset and build its model once under every setting, so that what cannot be is said at once."""
    from agrbench.simulation.run import load, prepare

    by_dataset: dict[str, list[Cell]] = {}
    for cell in cells:
        by_dataset.setdefault(cell.dataset, []).append(cell)
    for name, mine in by_dataset.items():
        dataset = registry.dataset(name)
        try:
            loaded = load(dataset)
            for cell in dict.fromkeys(replace(each, defense=UNDEFENDED, attack=UNATTACKED, seed=0) for each in mine):
                prepare(cell, dataset, loaded)
        except PluginError as error:
            if isinstance(error.__cause__, AgrbenchError):
                raise  # a fault of the file itself costs the dataset's own cells


def describe(plan: Plan, registry: Registry, jobs: int | None, quiet: bool) -> None:
    """Print the cells, what is skipped and why, and about how long the rest takes."""
    waiting = set(plan.waiting)
    for cell in plan.cells:
        state = f"skip: {plan.skips[cell]}" if cell in plan.skips else "compute" if cell in waiting else "there"
        click.echo(f"{cell}: {state}")
    jobs = _jobs(plan.cells, jobs, _silent if quiet else _say)
    total, how = _estimate(plan.waiting, registry, quiet)
    seconds = total / min(jobs, max(len(plan.waiting), 1))
    click.echo(
        f"{len(plan.cells)} cells: {len(plan.waiting)} to compute, {len(plan.ready)} there, {len(plan.skips)} skipped; "
        f"about {duration(seconds)} in {jobs} process{'es' if jobs > 1 else ''} ({how})"
    )


def device(name: str) -> str:
    """Choose the device that a cell names: `auto` is CUDA where there is one.

    Raises:
        AgrbenchError: CUDA was asked for and there is none.
    """
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if name == "cuda":
        raise AgrbenchError("--device cuda: torch finds no CUDA device here; write --device cpu")
    return "cpu"


def _jobs(cells: Sequence[Cell], jobs: int | None, say: Callable[[str], None] = _silent) -> int:
    """Choose how many processes compute cells: as many as were asked for, so long as each thread has its core."""
    threads, cores = max((cell.threads for cell in cells), default=1), execution.cores()
    most = max(cores // threads, 1)
    if jobs is not None and jobs > most:
        say(f"--jobs {jobs} x {threads} thread(s) would be more than the {cores} core(s) here: {most} at once")
    return min(jobs or most, most)


def _check_threads(cells: Sequence[Cell]) -> None:
    threads, cores = max((cell.threads for cell in cells), default=1), execution.cores()
    if threads > cores:
        raise AgrbenchError(f"threads is {threads} and there are {cores} cores here; write --threads {cores} or less")


def _estimate(cells: Sequence[Cell], registry: Registry, quiet: bool) -> tuple[float, str]:
    """Time two rounds of each stack, for as long as patience lasts; the others take the mean.

    Of attacks only those are timed that rehearse the stack.
    """
    absent = {
        name for name in {cell.dataset for cell in cells} if not data.at_hand(registry.dataset(name).record.source)
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
    """Leave out what hardly changes how long a cell takes."""
    rehearses = registry.attack(cell.attack).record.rehearses
    return replace(cell, attack=cell.attack if rehearses else UNATTACKED, seed=0)


def _in_turns(kinds: Sequence[Cell]) -> list[Cell]:
    """Order stacks so that every dataset under every settings has its first before one has its second."""
    groups: dict[str, list[Cell]] = {}
    for kind in kinds:
        groups.setdefault(_group(kind), []).append(kind)
    return [kind for turn in itertools.zip_longest(*groups.values()) for kind in turn if kind is not None]


def _expected(kind: Cell, seconds: Mapping[Cell, float]) -> float:
    """Give what such a cell took, or the mean of its dataset, settings and attack, or of all."""
    alike = [spent for other, spent in seconds.items() if _group(other) == _group(kind)]
    return seconds.get(kind, statistics.fmean(alike or list(seconds.values()) or [0.0]))


def _group(kind: Cell) -> str:
    return f"{kind.dataset} {kind.settings} {kind.attack}"


def _probe(kind: Cell, registry: Registry) -> float:
    """Give the seconds that a cell takes, from its first rounds."""
    began = time.perf_counter()
    try:
        record = execution.compute(replace(kind, rounds=PROBE, start=None), registry, alone=True)
        forging = 0.0 if kind.attack == UNATTACKED else _forging(kind, registry)
    except AgrbenchError as error:
        click.echo(f"{kind} will fail: {error}", err=True)
        return 0.0
    rounds: float = record["time"]["round_s"]
    attacked = max(kind.rounds - kind.first + 1, 0)
    return time.perf_counter() - began + rounds * (kind.rounds - PROBE) + forging * attacked


def _forging(kind: Cell, registry: Registry) -> float:
    """Give the seconds that an attack takes to forge the rows of one round."""
    from agrbench.server.judge import forge
    from agrbench.simulation.run import Run

    run = Run(kind, registry)
    run.round(1)
    began = time.perf_counter()
    forge(run.attack, run.insider(1), run.learner.layout.parameters)
    return time.perf_counter() - began


def _announce(plan: Plan, registry: Registry, say: Callable[[str], None]) -> None:
    named = {entry.path for cell in plan.cells for entry in registry.plugins_of(cell)}
    for file in registry.files:
        if file not in named and file.stem not in registry.broken:
            say(f"Warning: nothing names the plugin {file.stem}; write -a, -d or -D {file.stem}")
    for reason in dict.fromkeys(plan.skips.values()):
        names = dict.fromkeys(cell.defense for cell, why in plan.skips.items() if why == reason)
        say(f"Skipped: {', '.join(names)}: {reason}")
    if say is _say:
        _announce_stale(plan)
    late = [cell for cell in plan.cells if cell.first > cell.rounds and cell.attack != UNATTACKED]
    if late:
        say(f"Warning: the attack would start in round {late[0].first} and there are {late[0].rounds}: nobody attacks")
    if not plan.waiting:
        say("Nothing to compute: every cell has its record.")


def _announce_stale(plan: Plan) -> None:
    if not plan.stale:
        return
    names = dict.fromkeys(f"{cell.dataset} {cell.defense} {cell.attack}" for cell in plan.stale)
    kept = "used as they are" if plan.stale[0] in plan.ready else "computed again"
    _say(f"Stale, their plugin files have changed; {kept}: {', '.join(names)}")


def report_failures(failures: Sequence[Record], store: Store, trace: bool) -> None:
    """Name what failed, once a reason."""
    by_reason: dict[str, list[Record]] = {}
    for record in failures:
        by_reason.setdefault(record["reason"], []).append(record)
    for reason, records in by_reason.items():
        path: Path = store.path(Cell.from_json(records[0]["cell"]))
        click.echo(f"Failed ({len(records)} cell{'s' * (len(records) > 1)}, for example {path}): {reason}", err=True)
        if trace and records[0]["traceback"]:
            click.echo(records[0]["traceback"], err=True)
