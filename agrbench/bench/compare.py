"""Compare two outputs of `agrbench bench --format json` by times relative to fedavg's, never by seconds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from agrbench.bench.report import BENCH_SCHEMA
from agrbench.cells import UNDEFENDED
from agrbench.errors import AgrbenchError, RecordError
from agrbench.results import store
from agrbench.results.gate.compare import BETTER, LOST, NEW, SAME, WORSE, Comparison, Notice, Row
from agrbench.specs import LARGEST

TOLERANCE = 1.5  # a slowdown by more than this factor is red
SIZE = ("clients", "parameters", "byzantine", "dtype")
ALIKE = ("device", "threads")  # ratios to fedavg can be compared only if these match
Bench = dict[str, Any]


def read(path: Path) -> Bench:
    """Read and check a bench output.

    Raises:
        RecordError: the file is damaged, is no bench output, or has a newer schema.
    """
    bench = store.load(path, "write it again with `agrbench bench --format json`")
    if not isinstance(bench, dict) or bench.get("kind") != "bench" or type(bench.get("schema")) is not int:
        raise RecordError(f"{path}: not an output of `agrbench bench --format json`; name one, or a folder of records")
    if bench["schema"] > BENCH_SCHEMA:
        raise RecordError(
            f"{path}: written in schema {bench['schema']}, this version reads {BENCH_SCHEMA}; upgrade agrbench"
        )
    try:
        _check(bench)
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError(f"{path}: not a complete bench output ({error}); write it again") from error
    return bench


def _check(bench: Bench) -> None:
    """Check the fields that a comparison reads."""
    if type(bench["environment"]) is not dict or not all(type(bench[name]) is list for name in ("rows", "skipped")):
        raise ValueError("environment, rows or skipped is of the wrong type")
    for name in ("rows", "skipped"):
        for row in bench[name]:
            if type(row["defense"]) is not str or not row["defense"].isprintable():
                raise ValueError(f"a defense is named {row['defense']!r:.80}")
            for count in ("clients", "parameters"):
                if type(row[count]) is not int or not 0 < row[count] < LARGEST:
                    raise ValueError(f"{count} is {row[count]!r:.80}")
    for row in bench["rows"]:
        if type(row["byzantine"]) is not int or type(row["dtype"]) is not str or not row["dtype"].isprintable():
            raise ValueError("byzantine or dtype is of the wrong type")
        low, middle, high = (_ratio(row[name]) for name in ("ratio_low", "ratio", "ratio_high"))
        if not low <= middle <= high:
            raise ValueError("a ratio lies outside its range")


def _ratio(value: object) -> float:
    if type(value) not in (int, float) or not isinstance(value, (int, float)) or not 1e-9 < value < 1e9:
        raise ValueError(f"a ratio is {value!r:.80}")
    return float(value)


def compare_benches(base: Bench, head: Bench) -> Comparison:
    """Compare the ratios of every defense and size that both sides have measured.

    Raises:
        AgrbenchError: the two sides ran on different devices or with different numbers of threads.
    """
    for name in ALIKE:
        sides = [bench["environment"].get(name) for bench in (base, head)]
        if sides[0] != sides[1]:
            raise AgrbenchError(
                f"{name} is {sides[0]} in BASE and {sides[1]} in HEAD, and ratios to fedavg change with it; "
                f"measure both with the same --{name}"
            )
    before, now = _by_size(base), _by_size(head)
    rows = [_row(row, now[key]) for key, row in before.items() if key in now and row["defense"] != UNDEFENDED]
    cpus = [bench["environment"].get("cpu") for bench in (base, head)]
    remarks = () if cpus[0] == cpus[1] else ("BASE and HEAD ran on other processors, which ratios change with.",)
    return Comparison(tuple(rows), tuple(_findings(before, now, head, bool(rows))), TOLERANCE, remarks=remarks)


def _by_size(bench: Bench) -> dict[tuple[Any, ...], dict[str, Any]]:
    return {(row["defense"], *(row[name] for name in SIZE)): row for row in bench["rows"]}


def _row(base: Mapping[str, Any], head: Mapping[str, Any]) -> Row:
    """Divide HEAD's ratio by BASE's; they differ only if the ranges of both sides' repetitions do not overlap.

    With five repetitions a side, chance separates them once in 126 times, however times are distributed.
    """
    change = head["ratio"] / base["ratio"]
    low, high = head["ratio_low"] / base["ratio_high"], head["ratio_high"] / base["ratio_low"]
    verdict = WORSE if low > 1 else BETTER if high < 1 else SAME
    return Row(
        None, {name: base[name] for name in SIZE}, base["defense"], "server time", None, base["ratio"], head["ratio"],
        change, low, high, None, "ranges of repetitions", verdict, verdict == WORSE and change > TOLERANCE,
    )  # fmt: skip


def _findings(before: Mapping[Any, Any], now: Mapping[Any, Any], head: Bench, compared: bool) -> Iterator[Notice]:
    skipped = {(row["defense"], row["clients"], row["parameters"]): row.get("reason") for row in head["skipped"]}
    for key in dict.fromkeys((*before, *now)):
        defense, clients, parameters, byzantine, dtype = key
        place = f"{clients} clients ({byzantine} malicious), {parameters:,} parameters, {dtype}"
        if key not in now:
            reason = skipped.get((defense, clients, parameters))
            yield Notice(LOST, place, defense, None, str(reason or "no row in HEAD"), compared or reason is not None)
        elif key not in before:
            yield Notice(NEW, place, defense, None, "no row in BASE")
