"""Records as tidy rows, one a cell or one an evaluation, and as typed results for Python (docs/records.md)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agrbench.cells import UNATTACKED, Cell
from agrbench.errors import AgrbenchError
from agrbench.results import store
from agrbench.results.metrics import base_of, known_mean
from agrbench.results.record import Record

if TYPE_CHECKING:
    from pandas import DataFrame

CURVES = ("accuracy", "loss", "success", "success_untriggered")
RATES = ("malicious_share", "precision", "recall")
COUNTS = ("rejected", "rejected_honest", "empty_steps", "shared_rounds")
EACH = ("cell", "evaluation")  # what a row can stand for


@dataclass(frozen=True)
class Result:
    """One record: its cell, whether it is `"done"`, `"failed"` or `"skipped"`, and `record`, all of its fields.

    `rounds` are the measured rounds, and `accuracy`, from 0 to 1, `loss` and a targeted attack's `success` have a value
    for each of them (`None` where nothing was measured).
    """

    cell: Cell
    status: str
    record: Record = dataclasses.field(repr=False)

    @property
    def rounds(self) -> list[int]:
        """Return the measured rounds."""
        return list(self.record["rounds"])

    @property
    def accuracy(self) -> list[float]:
        """Return the test accuracy in each measured round."""
        return list(self.record["accuracy"])

    @property
    def loss(self) -> list[float | None]:
        """Return the mean cross-entropy on the test set in each measured round."""
        return list(self.record["loss"])

    @property
    def success(self) -> list[float | None]:
        """Return the success of a targeted attack in each measured round; an empty list for other attacks."""
        return list(self.record["success"] or [])


class Results(list[Result]):
    """A list of results."""

    def frame(self, each: str = "evaluation") -> DataFrame:
        """Return a pandas frame with a row for each `"evaluation"` or for each `"cell"`; see `rows`.

        Raises:
            AgrbenchError: pandas is not installed, or `each` is neither.
        """
        try:
            import pandas
        except ImportError as error:
            raise AgrbenchError("a frame needs pandas, which is not installed; write pip install pandas") from error
        return pandas.DataFrame(list(rows((result.record for result in self), each)))


def load(*sources: str | Path) -> Results:
    """Read the records in folders and packed files (default: `results`), with a warning for each that is damaged.

    Raises:
        AgrbenchError: there is no such folder or file, or two hold different results for one cell.
    """
    found = store.readable(list(map(Path, sources)) or [Path("results")])
    return Results(Result(Cell.from_json(record["cell"]), record["status"], record) for _, record in found)


def rows(records: Iterable[Record], each: str = "evaluation") -> Iterator[dict[str, Any]]:
    """Yield flat rows: what was run, every setting with the value that it stands for, and what was measured.

    A row for each `"cell"` has accuracy, loss and success after the last round, means of accuracy and success over the
    evaluated rounds from the first attacked one, means of the rates of trust, counts, times and memory. A row for each
    `"evaluation"` has the values of one measured round; cells that are not done have no such row. Accuracies, successes
    and rates are from 0 to 1, times in seconds, memory in bytes.

    Raises:
        AgrbenchError: `each` is neither.
    """
    if each not in EACH:
        raise AgrbenchError(f"a row is for each {each!r}; write {' or '.join(EACH)}")
    for record in records:
        known = _identity(record)
        if each == "cell":
            yield known | _summary(record, known["start"])
        elif record["status"] == "done":
            yield from (known | measured for measured in _evaluations(record, known["start"]))


def _identity(record: Record) -> dict[str, Any]:
    """Return what was run, under which settings, by which version of the protocol."""
    cell = Cell.from_json(record["cell"])
    settings = dataclasses.asdict(cell) | {"malicious": cell.count, "byzantine": cell.bound, "start": cell.first}
    names = {name: settings.pop(name) for name in ("dataset", "defense", "attack", "seed")}
    base = base_of(cell.defense)
    training = record.get("training") or {}
    rate = {"rate": training.get("rate", cell.rate), "parameters": training.get("parameters")}
    told = record.get("resolved") or {}
    known = {name: told.get(name, value) if value is None else value for name, value in settings.items()}
    amplified = {"base": base, "amplified": base != cell.defense}
    known |= {"malicious": str(cell.count), "sample": "" if cell.sample is None else str(cell.sample)}
    counts = {"attackers": cell.attackers, "participants": cell.participants}
    return names | amplified | known | counts | rate | {"protocol": record["protocol"], "status": record["status"]}


def _summary(record: Record, first: int) -> dict[str, Any]:
    """Return one row's measurements of a whole run."""
    late = [place for place, number in enumerate(record["rounds"]) if number >= first]
    last = {name: record[name][-1] if record[name] else None for name in CURVES}
    means = {
        f"mean_{name}": known_mean([record[name][place] for place in late] if record[name] else [])
        for name in ("accuracy", "success")
    }
    trust = {rate: known_mean(record["trust"][rate]) for rate in RATES}
    counts = {name: record[name] for name in COUNTS}
    costs = {**record["time"], "peak_bytes": record["peak_bytes"]}
    return {"reason": record["reason"], "classes": record["classes"], **last, **means, **trust, **counts, **costs}


def _evaluations(record: Record, first: int) -> Iterator[dict[str, Any]]:
    """Yield the measurements of each measured round, and whether the attack has begun by then."""
    attacked = record["cell"]["attack"] != UNATTACKED
    curves = {name: record[name] or [None] * len(record["rounds"]) for name in CURVES}
    rates = {name: record["trust"][name] for name in RATES}
    for place, number in enumerate(record["rounds"]):
        begun = {"round": number, "attack_begun": attacked and number >= first}
        curve = {name: values[place] for name, values in curves.items()}
        trust = {name: values[place] if place < len(values) else None for name, values in rates.items()}
        yield begun | curve | trust
