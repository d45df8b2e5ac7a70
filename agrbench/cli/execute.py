"""Run cells for a person at a terminal: checks and warnings, progress, failures, the table, what to type next."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import click

from agrbench import processes
from agrbench.cells import UNATTACKED, UNDEFENDED, Cell
from agrbench.data import files
from agrbench.errors import AgrbenchError, PluginError
from agrbench.plugins.registry import Registry
from agrbench.progress import progress
from agrbench.results import formats, metrics, stability
from agrbench.results.breaking import Search
from agrbench.results.record import Record, skipped
from agrbench.results.store import Store
from agrbench.results.tables import tables
from agrbench.results.text import LINES, one_line, printable
from agrbench.simulation import execution, grid
from agrbench.simulation.engines import Engine
from agrbench.simulation.grid import Plan


def say(text: str) -> None:
    """Print a message on standard error, in one line; it may quote what a plugin or a record says."""
    click.echo(one_line(text), err=True)


def _silent(text: str) -> None:
    return


@dataclass(frozen=True)
class How:
    """How a person wants cells computed: by which engine, what is said meanwhile, and within how many seconds."""

    engine: Engine
    quiet: bool = False
    verbose: bool = False
    trace: bool = False
    limit: float | None = None

    @property
    def until(self) -> float | None:
        """Return when the program has to end, on the monotonic clock."""
        return None if self.limit is None else processes.since() + self.limit

    @property
    def say(self) -> Callable[[str], None]:
        """Return the function that prints a message on standard error, unless nothing is to be said."""
        return _silent if self.quiet else say


def run(plan: Plan, registry: Registry, store: Store, how: How) -> list[Record]:
    """Say what is noteworthy about a plan, compute what is waiting, and return the records that failed.

    Raises:
        AgrbenchError: see `compute`.
    """
    announce(plan, registry, how.say)
    return compute(plan, registry, store, how, how.say)


def conclude(
    plan: Plan, failures: Sequence[Record], registry: Registry, store: Store, how: How,
    shard: tuple[int, int] | None = None,
) -> int:  # fmt: skip
    """Print the triad of all cells unless they are only a shard, say what to type next, and return the exit code."""
    read = {cell: store.read(cell) for cell in plan.cells}
    records = [record for record in read.values() if record is not None]
    lost = [store.path(cell) for cell, record in read.items() if record is None]
    if lost:
        say(
            f"Lost: {len(lost)} records that were written are no longer in {store.folder}, for example {lost[0]}; "
            "run it again"
        )
    groups = [] if shard else metrics.groups(records, partial(registry.spelled, "dataset"))
    if groups:
        click.echo(formats.write(tables(groups, "triad"), "plain"))
    for warning in filter(None, map(stability.warning, groups)):
        how.say(f"Warning: {warning}")
    report_failures(failures, store, how.trace)
    how.say(f"Records: {store.folder}")
    if shard:
        part = f"{shard[0]}/{shard[1]}"
        how.say(f"Next: once all shards are there ({part} has {len(records)} cells), agrbench merge DIR... --out DIR")
    else:
        how.say(f"Next: agrbench table {store.folder} --metric loss, or agrbench show {store.path(plan.cells[-1])}")
    return 1 if failures or lost else 0


def compute(plan: Plan, registry: Registry, store: Store, how: How, tell: Callable[[str], None]) -> list[Record]:
    """Compute what is waiting, write records of what is skipped, and return the records that failed.

    `tell` is called with each remark on the data and on the engine.

    Raises:
        AgrbenchError: a dataset's files are unavailable, its examples do not suit the settings, or the engine cannot
            compute such cells; then nothing is computed.
    """
    if remark := how.engine.prepare(plan.waiting):
        tell(remark)
    store.prepare()
    for cell, reason in plan.skips.items():
        store.write(skipped(cell, registry, reason))
    failures: list[Record] = []
    for dataset in dict.fromkeys(cell.dataset for cell in plan.waiting):
        for file in registry.dataset(dataset).record.source.needed:
            files.fetch(file)
    _try(plan.waiting, registry, tell)
    with progress("cells", len(plan.waiting), how.quiet or not plan.waiting) as report:
        for record in execution.execute(plan.waiting, registry, store, how.engine, how.until, plan.before):
            cell = Cell.from_json(record["cell"])
            report(str(cell))
            if record["status"] == "failed":
                failures.append(record)
            if how.verbose:
                how.say(f"{record['status']}: {cell}, {1000 * record['time']['round_s']:.1f} ms a round")
    return failures


def search(found: Sequence[Search], registry: Registry, store: Store, how: How) -> list[Record]:
    """Run searches for breaking points side by side, and return the records that failed.

    Raises:
        AgrbenchError: see `compute`.
    """
    failures: list[Record] = []
    tell = cache(how.say)  # each remark once, not once a step
    going = {each.cell.defense: each for each in found}
    while asked := {name: count for name, each in going.items() if (count := each.next) is not None}:
        cells = dict.fromkeys(cell for name, count in asked.items() for cell in going[name].cells(count))
        how.say("Malicious clients: " + ", ".join(f"{name} {count}" for name, count in asked.items()))
        plan = grid.plan(list(cells), registry, store)
        _announce_stale(plan, how.say)
        failures += compute(plan, registry, store, how, tell)
        going = {name: going[name] for name, count in asked.items() if going[name].measure(count, store.read)}
    return failures


def _try(cells: Sequence[Cell], registry: Registry, say: Callable[[str], None]) -> None:
    """Deal out each dataset and build its model once under every setting, to report what is impossible at once.

    What a dataset remarks about itself is said, and which number stands for which class.
    """
    from agrbench.data.summary import told
    from agrbench.simulation.preparation import is_made_to_measure, load, prepare

    by_data: dict[tuple[str, int], list[Cell]] = {}
    for cell in cells:
        clients = cell.clients if is_made_to_measure(registry.dataset(cell.dataset)) else 1
        by_data.setdefault((cell.dataset, clients), []).append(cell)
    for (name, clients), mine in by_data.items():
        dataset = registry.dataset(name)
        try:
            loaded = load(dataset, clients)
            for remark in told(loaded[0]):
                say(remark)
            common: dict[str, Any] = {"defense": UNDEFENDED, "attack": UNATTACKED, "seed": 0, "device": "cpu"}
            for cell in dict.fromkeys(replace(each, **common) for each in mine):
                prepare(cell, dataset, loaded)
        except PluginError as error:
            if isinstance(error.__cause__, AgrbenchError):
                raise  # other faults of the file itself fail only the dataset's own cells


def given(settings: Mapping[str, Any], device: str, choose: Callable[[str], str]) -> dict[str, Any]:
    """Return the settings that were typed, and the device that is chosen unless it is the default."""
    typed = {name: value for name, value in settings.items() if value is not None}
    return typed if device == "cpu" else typed | {"device": choose(device)}


def announce(plan: Plan, registry: Registry, say: Callable[[str], None]) -> None:
    """Say what a plan leaves out, computes again or attacks too late."""
    named = {entry.path for cell in plan.cells for entry in registry.plugins_of(cell)}
    for file in registry.files:
        if file not in named and file.stem not in registry.broken:
            say(f"Warning: nothing names the plugin {file.stem}; write -a, -d or -D {file.stem}")
    for reason in dict.fromkeys(plan.skips.values()):
        names = dict.fromkeys(cell.defense for cell, why in plan.skips.items() if why == reason)
        say(f"Skipped: {', '.join(names)}: {reason}")
    _announce_stale(plan, say)
    late = [cell for cell in plan.cells if cell.first > cell.rounds and cell.attack != UNATTACKED]
    if late:
        say(f"Warning: the attack would start in round {late[0].first} and there are {late[0].rounds}: nobody attacks")
    if not plan.waiting:
        say("Nothing to compute: every cell has its record.")


def _announce_stale(plan: Plan, say: Callable[[str], None]) -> None:
    if not plan.stale:
        return
    names = dict.fromkeys(f"{cell.dataset} {cell.defense} {cell.attack}" for cell in plan.stale)
    kept = "used as they are" if plan.stale[0] in plan.ready else "computed again"
    say(f"Stale, their plugin files have changed; {kept}: {', '.join(names)}")


def report_failures(failures: Sequence[Record], store: Store, trace: bool) -> None:
    """Print what failed, once per reason."""
    by_reason: dict[str, list[Record]] = {}
    for record in failures:
        by_reason.setdefault(record["reason"], []).append(record)
    for reason, records in by_reason.items():
        path: Path = store.path(Cell.from_json(records[0]["cell"]))
        say(f"Failed ({len(records)} cell{'s' * (len(records) > 1)}, for example {path}): {reason}")
        if trace and records[0]["traceback"]:
            click.echo(printable(records[0]["traceback"], keep=LINES), err=True)
