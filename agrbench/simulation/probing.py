"""Measure what cells cost within a given time, on a cut federation: few clients train, and on few examples.

Training is timed on more and more clients and examples until that takes long enough to be timed, and is then taken as
proportional to examples. Server and attackers are timed in a round of all clients, each of which trains on so few
examples that it takes about as long. What they do with examples counts as it would on all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest

import torch

from agrbench import threads
from agrbench.cells import UNATTACKED, UNDEFENDED, Cell
from agrbench.clients.local_training import Trainer
from agrbench.clients.schedules import Schedule
from agrbench.data import files
from agrbench.data.examples import Examples
from agrbench.errors import AgrbenchError
from agrbench.plugins.registry import Registry
from agrbench.simulation.costs import Absent, Fault, Measured, Setup, setup
from agrbench.simulation.preparation import is_made_to_measure, load, prepare
from agrbench.simulation.run import Run
from agrbench.simulation.staged import ENOUGH, Stage, clock, seconds

Work = tuple[int, Callable[[], None]]
"""A number of examples, and work on them."""

FEW = 8  # examples in the smallest batch that is timed


def measure(cells: Sequence[Cell], registry: Registry, until: float) -> Iterator[Measured | Fault | Absent]:
    """Measure what cells cost until the monotonic clock shows `until`, and finish what is then being measured.

    Cells that train alike share their measurements; each such group has an equal share of the time left.
    """
    if cells:
        yield Measured("start", cells[0], time.process_time())
    loaded, alike = _Loaded(registry), dict[Setup, list[Cell]]()
    for cell in cells:
        alike.setdefault(setup(cell), []).append(cell)
    for place, mine in enumerate(alike.values()):
        now, common = time.monotonic(), replace(mine[0], defense=UNDEFENDED, attack=UNATTACKED, seed=0)
        if now > until:
            return
        try:
            with threads.using(common.threads):
                yield from _setup(common, mine, loaded, now + (until - now) / (len(alike) - place))
        except AgrbenchError as error:
            yield Fault("train", common, str(error))


def _setup(common: Cell, cells: Sequence[Cell], loaded: _Loaded, until: float) -> Iterator[Measured | Fault | Absent]:
    """Measure the parts of cells of one setup; `common` is the one without attack and defense."""
    dataset = loaded.registry.dataset(common.dataset)
    if not files.at_hand(dataset.record.source):
        yield _absent(common.dataset)
        return
    spent, data = loaded.get(common)
    began = clock()
    prepared = prepare(common, dataset, data)
    yield Measured("begin", common, spent + clock() - began)
    yield from _parts(Run(common, loaded.registry, prepared), cells, loaded.registry, until)


class _Loaded:
    """The data loaded last, and the seconds that it took."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self._last: tuple[tuple[str, int], float, tuple[Examples, Examples]] | None = None

    def get(self, cell: Cell) -> tuple[float, tuple[Examples, Examples]]:
        """Return the seconds and the data of a cell."""
        dataset = self.registry.dataset(cell.dataset)
        key = cell.dataset, cell.clients if is_made_to_measure(dataset) else 1
        if self._last is None or self._last[0] != key:
            self._last, began = None, clock()
            data = load(dataset, cell.clients)
            self._last = key, clock() - began, data
        return self._last[1:]


def _absent(spec: str) -> Absent:
    name = spec.partition("(")[0]
    return Absent(spec, f"Not counted: {spec}, whose files are not at hand; write `agrbench data get {name}`")


def _parts(run: Run, cells: Sequence[Cell], registry: Registry, until: float) -> Iterator[Measured | Fault]:
    """Measure training and testing, then servers and attacks in turn."""
    train, test = rate(pieces(run)), rate(evaluations(run))
    yield Measured("train", run.cell, train * examples(run))
    yield Measured("test", run.cell, test * len(run.data.test.labels))
    stage = Stage.of(run, registry, train, test, share=ENOUGH / max(train * examples(run), ENOUGH))
    stacks = dict.fromkeys(cell.defense for cell in cells)
    attacks = dict.fromkeys(cell.attack for cell in cells if cell.attack != UNATTACKED)
    servers = [("server", replace(run.cell, defense=defense)) for defense in stacks]
    forgers = [("forge", replace(run.cell, attack=attack)) for attack in attacks]
    turns = [each for pair in zip_longest(servers, forgers) for each in pair if each is not None]
    for part, cell in sorted(turns, key=lambda turn: registry.attack(turn[1].attack).record.queries):
        if time.monotonic() > until:
            return
        try:
            yield from stage.server(cell) if part == "server" else stage.forge(cell)
        except AgrbenchError as error:
            yield Fault(part, cell, str(error))


def rate(works: Iterable[Work]) -> float:
    """Return the seconds for one unit of work, from the first of ever larger works that takes long enough."""
    each, warm = 0.0, False
    for units, work in works:
        if not warm:
            work()  # a first call compiles and allocates
            warm = True
        each = (spent := seconds(work)) / units
        if spent > ENOUGH:
            break
    return each


def examples(run: Run) -> int:
    """Count the examples that the clients of a round train on, in all epochs."""
    return sum(map(run.schedule.examples_of, run.data.shards.sizes[list(run.cohort.clients)].tolist()))


def pieces(run: Run) -> Iterator[Work]:
    """Yield ever larger pieces of a round's training, each with its number of examples.

    One client takes one or two steps on more and more examples of a batch; then more and more clients train whole.
    """
    clients, schedule = run.cohort.clients, run.schedule
    first = run.data.shards[clients[0]]
    short, rows = _short(schedule), FEW
    if schedule.batch is not None:
        yield _piece(run, clients[:1], [first], short)
    while schedule.batch is None and rows * schedule.batches < len(first.labels):
        yield _piece(run, clients[:1], [first.take(torch.arange(rows * short.batches))], short)
        rows *= FEW
    count = 1
    while count < len(clients):
        yield _piece(run, clients[:count], [run.data.shards[client] for client in clients[:count]], schedule)
        count *= 4
    yield _piece(run, clients, [run.data.shards[client] for client in clients], schedule)


def _short(schedule: Schedule) -> Schedule:
    """Shorten a schedule to two steps; one of a single plain step, which is computed in another way, stays."""
    if schedule.is_one_step:
        return schedule
    if schedule.batch is not None:
        return replace(schedule, epochs=1, steps=2)
    return replace(schedule, epochs=1, batches=2) if schedule.batches > 1 else replace(schedule, epochs=2)


def _piece(run: Run, clients: tuple[int, ...], shards: list[Examples], schedule: Schedule) -> Work:
    trainer = Trainer(run.learner, shards, schedule, clients=clients)

    def work() -> None:
        float(trainer.train(run.state.model, 1, run.state.buffers)[-1, -1])

    return sum(schedule.examples_of(len(shard.labels)) for shard in shards), work


def evaluations(run: Run) -> Iterator[Work]:
    """Yield evaluations of more and more test examples, each with their number."""
    rows, every = FEW * FEW, len(run.data.test.labels)
    while rows < every:
        yield _test(run, rows)
        rows *= FEW
    yield _test(run, every)


def _test(run: Run, rows: int) -> Work:
    some = run.data.test.take(torch.arange(rows))

    def work() -> None:
        float(run.learner.logits(run.state.model, some.features, run.state.buffers)[-1, -1])

    return rows, work
