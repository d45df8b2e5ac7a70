"""What does a pooled view show of an attack, and what do its controls show?

    python benchmarks/views.py digits
    python benchmarks/views.py location30 --clients 50

In rounds 10, 20 and 30 of an unattacked, undefended run, each attack forges its rows from the round's updates. Every
view of all rows is described by three numbers: the mean cosine of honest clients with each other, that of honest with
malicious clients, and how often CosDen prefers the honest one of an honest and a malicious client (50 %: the view does
not separate them, 0 %: it prefers the malicious). CosDen's score is the sum of a row's cosines to its nearest
`n // 2 + 1` rows, itself included. Printed are means over the rounds, with one seed.
"""

from __future__ import annotations

from collections.abc import Iterator

import click
import torch
from tabulate import tabulate
from torch import Tensor

from agrbench.cells import Cell
from agrbench.clients.insider import forge
from agrbench.plugins.registry import Registry
from agrbench.server.geometry import Geometry
from agrbench.server.judge import Judge
from agrbench.simulation.run import Run

ATTACKS = ("gradient_ascent", "flip_ascent", "label_flip", "min_max", "blind_spot")
VIEWS = ("", "amp+", "sample+", "mean_pool+", "amp(shuffle=True)+", "amp(by='magnitude')+")
ROUNDS = (10, 20, 30)


@click.command()
@click.argument("dataset")
@click.option("--clients", default=20, show_default=True)
def main(dataset: str, clients: int) -> None:
    """Print a row for each attack and view."""
    torch.set_num_threads(1)
    registry = Registry()
    rows = []
    for attack in ATTACKS:
        run = Run(Cell(dataset, "fedavg", attack, clients=clients, rounds=40, start=40), registry)
        seen = {view: Judge(registry.stack(f"{view}krum"), run.learner.layout, run.randomness) for view in VIEWS}
        rounds = list(attacked(run))
        for view, judge in seen.items():
            values = torch.tensor([compared(judge.see(updates), run.cohort.malicious) for updates in rounds]).mean(0)
            numbers = [f"{values[0]:.2f}", f"{values[1]:.2f}", f"{100 * values[2]:.0f} %"]
            rows.append([attack, view.removesuffix("+") or "updates", *numbers])
    headers = ["attack", "view", "cosine\nhonest, honest", "cosine\nhonest, malicious", "honest one\npreferred"]
    print(tabulate(rows, headers=headers, disable_numparse=True))


def attacked(run: Run) -> Iterator[Tensor]:
    """Play unattacked rounds, and yield the updates that an attack would send in some of them."""
    for number in range(1, max(ROUNDS) + 1):
        if number in ROUNDS:
            updates = run.clean.train(run.state.model).clone()
            updates[run.cohort.malicious] = forge(run.attack, run.insider(number), updates.shape[1]).to(updates)
            yield updates
        run.round(number)


def compared(view: Tensor, malicious: Tensor) -> list[float]:
    """Return two mean cosines, and the share of pairs of an honest and a malicious client won by the honest one."""
    cosines = Geometry(lambda: view).cosines
    bad = torch.zeros(len(view), dtype=torch.bool).index_fill(0, malicious, True)
    scores = cosines.topk(len(view) // 2 + 1).values.sum(1)
    among = cosines[~bad][:, ~bad]
    others = (among.sum() - among.trace()) / (among.numel() - len(among))
    above = (scores[~bad][:, None] > scores[bad]).double() + 0.5 * (scores[~bad][:, None] == scores[bad]).double()
    return [float(others), float(cosines[~bad][:, bad].mean()), float(above.mean())]


if __name__ == "__main__":
    main()
