"""Tables of records, which `agrbench table --metric` shows; a new one is a module here and a line in `TABLES`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from agrbench.results.formats import Table
from agrbench.results.metrics import Group
from agrbench.results.tables import matrix, triad, worst

TABLES: Mapping[str, Callable[[Group, Sequence[str]], Table]] = {
    "triad": lambda group, demanded: triad.table(group),
    "worst": worst.table,
    **{name: partial(lambda name, group, demanded: matrix.table(group, name), name) for name in matrix.METRICS},
}


def tables(groups: Iterable[Group], metric: str, demanded: Sequence[str] = ()) -> list[Table]:
    """Make one table per group; `demanded` are the attacks that a claim of robustness must survive."""
    wanted = [group for group in groups if group.attacks or metric != "worst"]
    return [TABLES[metric](group, demanded) for group in wanted]
