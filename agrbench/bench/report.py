"""Report what defenses cost: measured times and memory, how they grow, and their tables; nothing is run here."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from agrbench.cells import AMPLIFIER, UNDEFENDED
from agrbench.results.formats import NONE, Entry, Table, with_interval

BENCH_SCHEMA = 1
LEAST = 4 << 20  # bytes; if fedavg used less, no ratio is shown, because the kernel counts to about a MiB
LIKELY = 2.0, 1.0  # exponents of clients and parameters if unknown: those of a rule that compares pairs of rows
STEEPEST = 3.0, 2.0  # steeper growth is noise: a fit of three small sizes can yield anything
Times = Mapping[tuple[int, int], float]
"""Seconds by `(clients, parameters)`."""


@dataclass(frozen=True)
class Ratios:
    """The median of the ratios of paired repetitions, with the smallest and the largest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, above: Sequence[float], below: Sequence[float]) -> Ratios:
        """Divide the repetitions pairwise."""
        ratios = [one / other for one, other in zip(above, below, strict=True)]
        return cls(statistics.median(ratios), min(ratios), max(ratios))

    def __str__(self) -> str:
        return with_interval(self.median, self.low, self.high, ".3g")


@dataclass(frozen=True)
class Cost:
    """What one defense cost at one size: seconds per round, their ratio to fedavg's, and peak memory.

    `peak_bytes` counts the updates and everything else that the server holds, `None` if the system does not report it;
    `peer` is the other library's time over ours.
    """

    defense: str
    clients: int
    parameters: int
    byzantine: int
    dtype: str
    seconds: float
    ratio: Ratios
    peak_bytes: int | None
    peak_ratio: float | None
    peer: Ratios | None = None

    def as_json(self) -> dict[str, Any]:
        """Return one flat row, without the peer's ratio if there is none."""
        flat: dict[str, Any] = {}
        for name, value in ((each.name, getattr(self, each.name)) for each in dataclasses.fields(self)):
            if name == "peer" and value is None:
                continue
            if isinstance(value, Ratios):
                label = "ratio" if name == "ratio" else "byzfl_ratio"
                flat |= {label: value.median, f"{label}_low": value.low, f"{label}_high": value.high}
            else:
                flat[name] = value
        return flat


@dataclass(frozen=True)
class Skip:
    """A defense that was not measured at a size, and why; `failed` if its own file is faulty."""

    defense: str
    clients: int
    parameters: int
    reason: str
    failed: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return all fields but `failed`."""
        return {name: value for name, value in vars(self).items() if name != "failed"}


@dataclass(frozen=True)
class Report:
    """Everything that one run measured."""

    environment: Mapping[str, Any]
    repeat: int
    rows: tuple[Cost, ...]
    skipped: tuple[Skip, ...]
    remarks: tuple[str, ...] = field(default=())

    @cached_property
    def exponents(self) -> dict[str, tuple[float | None, float | None]]:
        """Fit how each defense's time grows with clients and with parameters."""
        return {name: exponents(times(self.rows, name)) for name in dict.fromkeys(row.defense for row in self.rows)}

    def as_json(self) -> dict[str, Any]:
        """Return the whole report as one object (docs/bench.md)."""
        return {
            "schema": BENCH_SCHEMA,
            "kind": "bench",
            "environment": dict(self.environment),
            "repeat": self.repeat,
            "rows": [row.as_json() for row in self.rows],
            "exponents": [{"defense": name, "clients": a, "parameters": b} for name, (a, b) in self.exponents.items()],
            "skipped": [skip.as_json() for skip in self.skipped],
        }


def times(rows: Sequence[Cost], defense: str) -> dict[tuple[int, int], float]:
    """Return a defense's seconds by size."""
    return {(row.clients, row.parameters): row.seconds for row in rows if row.defense == defense}


def exponents(taken: Times) -> tuple[float | None, float | None]:
    """Fit `seconds ~ clients^a * parameters^b` by least squares in logarithms: `(a, b)`.

    An exponent is `None` if its variable has a single value; both are `None` if the sizes do not separate them.
    """
    if not taken:
        return None, None
    logs = np.log(np.array(list(taken), dtype=float))
    varies = [len(set(column)) > 1 for column in logs.T]
    unknowns = np.column_stack([np.ones(len(logs)), logs[:, varies]])
    if np.linalg.matrix_rank(unknowns) < unknowns.shape[1]:
        return None, None
    found = iter(np.linalg.lstsq(unknowns, np.log(list(taken.values())), rcond=None)[0][1:].tolist())
    clients, parameters = (next(found) if known else None for known in varies)
    return clients, parameters


def expected(taken: Times, clients: int, parameters: int) -> float | None:
    """Extrapolate the seconds to another size, growing at least in proportion; return `None` without measurements."""
    if not taken:
        return None
    fits = zip(exponents(taken), LIKELY, STEEPEST, strict=True)
    powers = [likely if fit is None else min(max(fit, 1.0), most) for fit, likely, most in fits]
    (n, p), seconds = max(taken.items(), key=lambda known: math.prod(known[0]))
    return float(seconds * (clients / n) ** powers[0] * (parameters / p) ** powers[1])


def tables(report: Report) -> list[Table]:
    """Make one table per size, base next to amplified, one of exponents if there are any, and notes below the last."""
    sizes = dict.fromkeys((row.clients, row.parameters) for row in report.rows)
    made = [_of_size(report, [row for row in report.rows if (row.clients, row.parameters) == size]) for size in sizes]
    if any(fit != (None, None) for fit in report.exponents.values()):
        made.append(_of_growth(report))
    last = made.pop()
    data = (*last.data, *(skip.as_json() for skip in report.skipped))
    return [*made, dataclasses.replace(last, notes=tuple(_notes(report)), data=data)]


def pairs(defenses: Sequence[str]) -> dict[str, str | None]:
    """Map each defense to its measured amplified form, if any; a form listed with its base has no entry itself."""
    amplified = {name: f"{AMPLIFIER}+{name}" for name in defenses}
    beside = {other for other in amplified.values() if other in defenses}
    return {name: other if other in beside else None for name, other in amplified.items() if name not in beside}


def _of_size(report: Report, rows: Sequence[Cost]) -> Table:
    known = {row.defense: row for row in rows}
    first = rows[0]
    against = any(row.peer for row in rows)
    sides = ("ms", "x fedavg", "memory", *(("byzfl / ours",) if against else ()))
    headers = ("defense", *sides, *(f"{AMPLIFIER}+\n{side}" for side in sides), f"{AMPLIFIER}+\n/ base")
    lines = []
    for name, other in pairs(list(known)).items():
        base, amplified = known[name], known[other] if other else None
        gain = f"{amplified.ratio.median / base.ratio.median:.3g}" if amplified else NONE
        texts = (name, *_texts(base, against), *_texts(amplified, against), gain)
        lines.append(tuple(Entry((text,)) for text in texts))
    title = (
        f"Server: {first.clients} clients, {first.byzantine} malicious, {first.parameters:,} parameters, "
        f"{first.dtype}, {report.environment['device']}, {_plural(report.environment['threads'], 'thread')}"
    )
    growth = {name: {"clients_exponent": a, "parameters_exponent": b} for name, (a, b) in report.exponents.items()}
    return Table(title, headers, tuple(lines), (), tuple({**row.as_json(), **growth[row.defense]} for row in rows))


def _texts(row: Cost | None, against: bool) -> list[str]:
    if row is None:
        return [NONE] * (3 + against)
    known = row.peak_bytes and row.peak_ratio and row.peak_bytes / row.peak_ratio >= LEAST
    peak = f"{row.peak_ratio:.2f}" if known else NONE
    return [f"{1000 * row.seconds:.3g}", str(row.ratio), peak, *([str(row.peer or NONE)] if against else [])]


def _of_growth(report: Report) -> Table:
    growth, lines = ("clients ^", "parameters ^"), []
    for name, other in pairs(list(report.exponents)).items():
        figures = (*report.exponents[name], *(report.exponents[other] if other else (None, None)))
        texts = (name, *(NONE if figure is None else f"{figure:.2f}" for figure in figures))
        lines.append(tuple(Entry((text,)) for text in texts))
    headers = ("defense", *growth, *(f"{AMPLIFIER}+\n{each}" for each in growth))
    return Table("How time grows", headers, tuple(lines), (), ())


def _notes(report: Report) -> Iterator[str]:
    yield (
        f"ms: the server's time for a round that it knows nothing of before, median of {report.repeat}. "
        f"x {UNDEFENDED}: the median [least, largest] ratio to {UNDEFENDED}, timed in turns; its own shows the noise."
    )
    yield (
        f"memory: the most that the updates and the server took, over the same of {UNDEFENDED}, where that is at least "
        f"{LEAST >> 20} MiB."
    )
    alone = [what for what in ("clients", "parameters") if len({getattr(row, what) for row in report.rows}) < 2]
    yield "Growth: time ~ clients^a parameters^b, least squares in logarithms" + (
        f"; there is no exponent for one number of {' or '.join(alone)}: give several." if alone else "."
    )
    if any(row.peak_bytes is None for row in report.rows):
        yield "Memory was not measured: only Linux, and CUDA, tell a peak."
    yield from report.remarks
    for reason in dict.fromkeys(skip.reason for skip in report.skipped):
        alike = [skip for skip in report.skipped if skip.reason == reason]
        sizes = dict.fromkeys(f"{skip.clients} x {skip.parameters:,}" for skip in alike)
        yield f"Left out: {', '.join(dict.fromkeys(skip.defense for skip in alike))} at {', '.join(sizes)}: {reason}."


def _plural(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"
