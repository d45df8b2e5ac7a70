"""`rows`: the hyperparameter that every dataset has, unless its plugin declares one of that name.

`mnist(rows=2000)` keeps 2,000 of the training examples and the whole test set. The plugin does not know of it.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

from agrbench.errors import SpecError
from agrbench.plugins import contract
from agrbench.plugins.contract import Dataset, P, Plugin
from agrbench.plugins.source import PluginSource
from agrbench.specs import Term

if TYPE_CHECKING:
    from agrbench.data.examples import Examples

ROWS = "rows"
EXAMPLE = 100  # rows, in messages
ROOT = 10  # the server's root set has at most one in so many of the rows that are kept


def is_for_harness(record: Plugin, name: str) -> bool:
    """Return whether a hyperparameter is `rows` of a dataset that declares no such hyperparameter itself."""
    return name == ROWS and isinstance(record, Dataset) and name not in contract.hyperparameters(record)


def how_to_write(entry: PluginSource, argument: str) -> str:
    """Return an example of `rows`, which no dataset's signature shows, or else the signature."""
    if (entry.kind, argument) == ("dataset", ROWS) and ROWS not in entry.parameters:
        return f"write {entry.name}({ROWS}={EXAMPLE})"
    return f"the signature is {entry.signature}"


def cut(record: P, term: Term) -> P:
    """Return a dataset's record that has only as many training examples as a spec says, drawn by `kept`.

    Its root set has at most a tenth of them, since a root set of the usual size could be all of them.

    Raises:
        SpecError: `rows` is no whole number from 1.
    """
    rows = term.arguments[ROWS]
    assert isinstance(record, Dataset)
    if type(rows) is not int or rows < 1:
        raise SpecError(
            f"{term}: rows is {rows!r}; write a whole number of examples from 1, such as {term.name}({ROWS}={EXAMPLE})"
        )

    @functools.wraps(record.load)
    def load(*clients: Any) -> tuple[Examples, Examples]:
        from agrbench.data.checking import checked_pair
        from agrbench.data.examples import kept

        train, test = checked_pair(record.load(*clients))
        return kept(train, rows), test

    return dataclasses.replace(record, load=load, root_size=min(record.root_size, max(rows // ROOT, 1)))
