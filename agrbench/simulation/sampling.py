"""Who takes part in a round: all clients, or some of them, drawn anew for every round by the run's seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from agrbench.cells import Cell
from agrbench.clients.federation import Federation
from agrbench.randomness import Randomness


class Cohort(NamedTuple):
    """The clients that take part in a round, ascending, and which of their rows are honest and which malicious."""

    clients: tuple[int, ...]
    honest: Tensor
    malicious: Tensor

    @property
    def attackers(self) -> tuple[int, ...]:
        """List the malicious clients that take part, ascending."""
        return tuple(self.clients[row] for row in self.malicious.tolist())


Draw = Callable[[int], Cohort]
"""`round number -> Cohort`"""


def draws(cell: Cell, data: Federation, randomness: Randomness, device: torch.device) -> Draw:
    """Return the function that draws a round's clients; it returns the same for the same number.

    A number of clients is drawn without replacement: uniformly, or client after client with probabilities proportional
    to the numbers of examples of those not drawn yet (successive sampling).
    """
    sampling = cell.sampling
    if sampling is None:
        everybody = _cohort(torch.arange(len(data.shards)), data, device)
        return lambda number: everybody
    by_size, sizes = sampling.arguments["by"] == "size", data.shards.sizes.double()

    def draw(number: int) -> Cohort:
        rng = randomness("sample", number)
        if by_size:
            drawn = torch.multinomial(sizes, cell.participants, generator=rng)
        else:
            drawn = torch.randperm(len(sizes), generator=rng)[: cell.participants]
        return _cohort(drawn.sort().values, data, device)

    return draw


def _cohort(clients: Tensor, data: Federation, device: torch.device) -> Cohort:
    malicious = data.is_malicious[clients]
    honest_rows, malicious_rows = ((mark.nonzero().flatten().to(device)) for mark in (~malicious, malicious))
    return Cohort(tuple(clients.tolist()), honest_rows, malicious_rows)
