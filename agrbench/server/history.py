"""What a rule remembers of each client: a table with one row a client, whoever is heard in a round."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from agrbench.errors import Inapplicable
from agrbench.server.rounds import Round


class Kept(NamedTuple):
    """A table `(clients, features)`, written in place, and the rows of it that this round's clients have."""

    table: Tensor
    ids: Tensor


def kept_rows(round: Round, name: str, fill: float) -> Kept:
    """Give the table that `round.memory` keeps under `name`, with rows of `fill` for clients not heard before.

    Raises:
        Inapplicable: nobody knows whose the rows are, since a stage regrouped them.
    """
    if round.clients is None:
        raise Inapplicable("it remembers what each client sent, and a stage before it regrouped them")
    ids = torch.tensor(round.clients, device=round.view.device)
    table = round.memory.get(name, round.view.new_empty(0, round.view.shape[1]))
    missing = int(ids.max()) + 1 - len(table)
    if missing > 0:
        table = round.memory[name] = torch.cat([table, table.new_full((missing, table.shape[1]), fill)])
    return Kept(table, ids)
