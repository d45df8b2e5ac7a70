"""Measure what defenses cost the server, by clients and parameters: time and memory relative to fedavg's in one run."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from agrbench import machine, processes, threads
from agrbench.bench import byzfl, report
from agrbench.bench.report import Cost, Ratios, Report, Skip
from agrbench.bench.workload import Size, Workload
from agrbench.cells import UNDEFENDED
from agrbench.errors import AgrbenchError, Inapplicable, PluginError
from agrbench.plugins.ambient import foreign
from agrbench.plugins.registry import Registry
from agrbench.plugins.stack import Stack
from agrbench.progress import Tick, duration

SHORT = 5e-3  # seconds that a sample must last: shorter rounds are played several times
T = TypeVar("T")
Clock = Callable[[], float]
Side = Callable[[], float]
"""Take one sample and return the seconds per round."""


@dataclass(frozen=True)
class BenchPlan:
    """What to measure, `repeat` times each; a defense that would take over `patience` seconds at a size is left out.

    `defenses` are canonical and begin with fedavg. `peer` is the module byzfl, or `None` to measure ours alone.
    """

    defenses: tuple[str, ...]
    sizes: tuple[Size, ...]
    repeat: int = 5
    patience: float = 20.0
    dtype: str = "float32"
    device: str = "cpu"
    threads: int = 1
    peer: Any = None

    @property
    def points(self) -> int:
        """Count the pairs of a defense and a size."""
        return len(self.defenses) * len(self.sizes)


def run(plan: BenchPlan, registry: Registry, tell: Tick, clock: Clock = time.perf_counter) -> Report:
    """Measure every defense at every size, smallest first, and restore torch's number of threads.

    Raises:
        AgrbenchError: nothing could be measured.
    """
    rows: list[Cost] = []
    skips: list[Skip] = []
    noise = machine.noise()
    remarks: list[str] = [noise] if noise else []
    with threads.using(plan.threads):
        for size in sorted(plan.sizes, key=lambda size: size.clients * size.parameters):
            remarks += _measure(Bench(plan, size, registry, clock), rows, skips, tell)
    if not rows:
        raise AgrbenchError(f"nothing could be measured: {skips[0].reason}")
    if plan.peer:
        remarks = [*byzfl.remarks(plan.defenses), *remarks]
    environment = machine.environment(plan.device, plan.threads)
    return Report(environment, plan.repeat, tuple(rows), tuple(skips), tuple(remarks))


def _measure(bench: Bench, rows: list[Cost], skips: list[Skip], tell: Tick) -> list[str]:
    """Add each defense's cost at one size, or the reason why it has none; return remarks about the peer."""
    for spec in bench.plan.defenses:
        clients, parameters, _ = bench.size
        try:
            rows.append(bench.measure(spec, report.expected(report.times(rows, spec), clients, parameters)))
        except AgrbenchError as error:
            skips.append(Skip(spec, clients, parameters, str(error), isinstance(error, PluginError)))
        tell(f"{spec}, {clients} x {parameters:,}")
    return bench.unpaired


class Bench:
    """The measurements at one size: its updates, and the baseline that every defense is timed against."""

    def __init__(self, plan: BenchPlan, size: Size, registry: Registry, clock: Clock) -> None:
        self.plan, self.size, self.registry, self.clock = plan, size, registry, clock
        self.device = torch.device(plan.device)
        self.work = Workload(size, getattr(torch, plan.dtype), self.device)
        self.updates: Tensor = self.work.updates
        self.unpaired: list[str] = []

    @cached_property
    def baseline(self) -> Side:
        """Return fedavg's sampler, which has no time limit."""
        return self._side(self._rounds(self.registry.stack(UNDEFENDED)), math.inf)

    @cached_property
    def least(self) -> int | None:
        """Measure fedavg's peak memory."""
        return self._peak(self.registry.stack(UNDEFENDED))

    def measure(self, spec: str, likely: float | None = None) -> Cost:
        """Time a defense and fedavg in turns, and measure its memory; `likely` is a guess of its seconds per round.

        Raises:
            Inapplicable: it is not defined for this size, would take too long, or combined no update.
            PluginError: its file is faulty.
        """
        stack = self.registry.stack(spec)
        stack.check(self.size.clients, self.size.byzantine)
        self._afford(likely or 0.0, self.plan.patience)
        samples = self._samples(spec, stack)
        mean, own, *other = ([sample[place] for sample in samples] for place in range(len(samples[0])))
        peak, least = self._patiently(stack, lambda: self._peak(stack)), self.least
        return Cost(
            spec, *self.size, self.plan.dtype, statistics.median(own), Ratios.of(own, mean), peak,
            None if peak is None or least is None else peak / least, Ratios.of(other[0], own) if other else None,
        )  # fmt: skip

    def _samples(self, spec: str, stack: Stack) -> list[tuple[float, ...]]:
        """Sample fedavg, the defense and, if it has one, its peer, `repeat` times."""
        own = self._patiently(stack, lambda: self._side(self._rounds(stack), self.plan.patience))
        sides = [self.baseline, lambda: self._patiently(stack, own)]
        columns = [stage.name.partition("(")[0] for stage in stack.stages if stage.record.columns is not None]
        rule = byzfl.rule(self.plan.peer, spec, self.size.byzantine, columns) if self.plan.peer else None
        if rule is not None:
            try:
                sides.append(self._side(lambda: self._waited(rule(self.updates)), self.plan.patience))
            except Exception as error:  # ours is timed even if the other library fails
                self.unpaired.append(f"Not beside byzfl: {spec} at {self._shape}: {type(error).__name__}: {error}.")
        return alternate(sides, self.plan.repeat)

    @property
    def _shape(self) -> str:
        return f"{self.size.clients} x {self.size.parameters:,}"

    def _rounds(self, stack: Stack) -> Callable[[], object]:
        play = self.work.rounds(self.work.judge(stack))

        def checked() -> None:
            outcome = play()
            if outcome.empty:
                raise Inapplicable(f"it took no update: {outcome.empty}")

        return checked

    def _side(self, play: Callable[[], object], patience: float) -> Side:
        """Play a round to warm up and to estimate its time, and return a function that samples it.

        Raises:
            Inapplicable: the repetitions would take longer than `patience` seconds.
        """
        first = sample(play, 1, self.clock)
        self._afford(first, patience)
        if first < 10 * SHORT:
            first = sample(play, 1, self.clock)  # the first also allocated buffers and started threads
        calls = max(math.ceil(SHORT / first), 1) if first > 0 else 1
        return lambda: sample(play, calls, self.clock)

    def _afford(self, seconds: float, patience: float) -> None:
        spent = seconds * (self.plan.repeat + 2)
        if spent > patience:
            raise Inapplicable(
                f"it would take about {duration(spent)} here; write --patience {math.ceil(1.5 * spent)} to wait for it"
            )

    def _patiently(self, stack: Stack, work: Callable[[], T]) -> T:
        """Return what some work with a stack returns, but interrupt it after `patience` seconds."""
        late = f"a round takes longer than --patience {self.plan.patience:g}; write more seconds to wait for it"
        paths = [path for path in (*(stage.path for stage in stack.stages), stack.defense.path) if foreign(path)]
        error = PluginError(f"{paths[0]}: {late}") if paths else Inapplicable(late)
        with processes.within(self.plan.patience, error):
            return work()

    def _peak(self, stack: Stack) -> int | None:
        """Measure the peak memory of the updates, a new judge and its first round together."""
        grown = machine.growth(lambda: self.work.rounds(self.work.judge(stack))(), self.plan.device)
        return None if grown is None else grown + self.updates.nbytes

    def _waited(self, answer: object) -> object:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return answer


def sample(play: Callable[[], object], calls: int, clock: Clock) -> float:
    """Return the mean seconds per round over `calls` rounds."""
    began = clock()
    for _ in range(calls):
        play()
    return (clock() - began) / calls


def alternate(sides: Sequence[Side], repeat: int) -> list[tuple[float, ...]]:
    """Sample all sides back to back, reversing the order each time: drift then affects all of them equally."""
    samples = []
    for turn in range(repeat):
        order = list(range(len(sides)))[:: -1 if turn % 2 else 1]
        taken = {place: sides[place]() for place in order}
        samples.append(tuple(taken[place] for place in range(len(sides))))
    return samples
