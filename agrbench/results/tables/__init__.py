"""Tables of records, which `agrbench table --metric` shows; a new one is a module here and a line in `TABLES`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from agrbench.results.formats import Table
from agrbench.results.metrics import Group
from agrbench.results.tables import matrix, pairs, triad, worst

UNDER_ATTACK = ("worst", "pairs")  # tables that need an attack
TABLES: Mapping[str, Callable[[Group, Sequence[str], Sequence[str]], Table]] = {
    "triad": lambda group, demanded, of: triad.table(group),
    "worst": lambda group, demanded, of: worst.table(group, demanded),
    "pairs": lambda group, demanded, of: pairs.table(group, of),
    **{name: partial(lambda name, group, demanded, of: matrix.table(group, name), name) for name in matrix.METRICS},
}


def tables(groups: Iterable[Group], metric: str, demanded: Sequence[str] = (), of: Sequence[str] = ()) -> list[Table]:
    """Make one table per group.

    `demanded` are the attacks that a claim of robustness must survive; `of` are the defenses whose pairs are shown
    (none: all), and groups without any of them have no table.
    """
    wanted = [group for group in groups if group.attacks or metric not in UNDER_ATTACK]
    return [TABLES[metric](group, demanded, of) for group in wanted if not of or set(of) & set(group.defenses)]
