"""Who is hurt: how often the last model is right on each class, and on the data of each honest client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from agrbench.cells import Cell
from agrbench.clients.federation import Federation
from agrbench.data.examples import Examples

MOST = 1000  # clients, the lowest numbers, so that a record stays small
Score = Callable[[Examples], Tensor]
"""`examples -> (rows, classes)` scores"""


def by_subgroup(score: Score, data: Federation, cell: Cell, chunk: int) -> dict[str, Any]:
    """Count examples and right answers by class and by honest client, as a record stores them.

    Classes are those of the test set. A client that is a natural owner is measured on its own test rows if every honest
    one has some, and otherwise, like any other client, on its own training rows. Rows are scored `chunk` at a time.
    """

    def right(examples: Examples) -> Tensor:
        rows = torch.arange(len(examples.labels))
        parts = (examples.take(part) for part in torch.split(rows, chunk))
        return torch.cat([score(part).argmax(1) == part.labels for part in parts]).cpu()

    return {"classes": _classes(right, data.test), "clients": _clients(right, data, cell)}


def _classes(right: Callable[[Examples], Tensor], test: Examples) -> dict[str, Any]:
    found: dict[str, Any] = _counts(right(test), test.labels.cpu(), test.classes)
    return found | ({"names": list(test.about.classes)} if test.about.classes else {})


def _clients(right: Callable[[Examples], Tensor], data: Federation, cell: Cell) -> dict[str, Any]:
    honest = data.honest[:MOST]
    tested = _own_test_rows(data, honest) if cell.partition == "natural" else None
    own = [data.shards.hands[client] for client in honest] if tested is None else tested
    examples = (data.shards.examples if tested is None else data.test).take(torch.cat(own))
    sizes = torch.tensor([len(rows) for rows in own])
    found = _counts(right(examples), torch.arange(len(honest)).repeat_interleave(sizes), len(honest))
    names = {"names": [data.shards.owners[client] for client in honest]} if cell.partition == "natural" else {}
    return {"of": "train" if tested is None else "test", "ids": list(honest), **found, **names}


def _own_test_rows(data: Federation, honest: tuple[int, ...]) -> list[Tensor] | None:
    """Find the test rows of each client, which is a natural owner; `None` if one has no such rows."""
    owners, numbers = data.test.owners, data.shards.owner_numbers
    if owners is None or not numbers:
        return None
    rows = [(owners == numbers[client]).nonzero().flatten().cpu() for client in honest]
    return rows if all(map(len, rows)) else None


def _counts(right: Tensor, group: Tensor, groups: int) -> dict[str, list[int]]:
    """Count each group's examples and the right answers among them."""
    return {
        "rows": group.bincount(minlength=groups).tolist(),
        "hits": group[right].bincount(minlength=groups).tolist(),
    }
