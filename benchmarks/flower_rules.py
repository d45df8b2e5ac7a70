"""How do Flower's robust strategies differ from the rules of their names? python benchmarks/flower_rules.py [DRAWS]

Clients send float32 models: one global model of length |w|, plus updates of length 0.1 in random directions. Each
strategy's step is compared with that of our rule, which sees the updates alone. Steps differ if they are more than a
hundredth of their length apart, which is far more than rounding the step itself costs.
"""

from __future__ import annotations

import gc
import sys
from types import SimpleNamespace

import torch
from tabulate import tabulate
from torch import Tensor

import agrbench
from agrbench import specs
from agrbench.plugins import Defense, Step, elsewhere

CLIENTS, BYZANTINE, WIDTH, LENGTH = 11, 2, 50_000, 0.1
MODELS = (0.0, 1.0, 10.0, 30.0, 100.0)
PAIRS = {
    "flower:Krum(num_malicious_nodes=2)": "krum",
    "flower:MultiKrum(num_malicious_nodes=2,num_nodes_to_select=9)": "multi_krum",
    "flower:Bulyan(num_malicious_nodes=2)": "bulyan",
    "flower:FedMedian": "median",
    "flower:FedTrimmedAvg(beta=0.2)": "trimmed_mean",
}


def main(draws: int) -> None:
    torch.set_num_threads(1)
    gc.freeze()  # Flower's Bulyan collects garbage at each reply
    generator = torch.Generator().manual_seed(0)
    draw = [(directions(CLIENTS, generator) * LENGTH, directions(1, generator)[0]) for _ in range(draws)]
    table = []
    rules = {spec: elsewhere.find("defense", spec.partition("(")[0]).record(specs.parse(spec)[0]) for spec in PAIRS}
    for spec, theirs in rules.items():
        own = [agrbench.aggregate(rows, PAIRS[spec], BYZANTINE) for rows, _ in draw]
        counts = [
            sum(
                differ(theirs, mine, rows, length * direction)
                for mine, (rows, direction) in zip(own, draw, strict=True)
            )
            for length in MODELS
        ]
        table.append((spec, PAIRS[spec], *counts))
    lengths = [f"|w| = {length:g}" for length in MODELS]
    print(tabulate(table, headers=("Flower's", "ours", *lengths)))
    print(f"\nin how many of {draws} draws the step is another; |u| = {LENGTH}, n = {CLIENTS}, f = {BYZANTINE}\n")
    rows = draw[0][0].clone()
    rows[0] = torch.nan
    for spec, theirs in rules.items():
        finite = step(theirs, rows, torch.zeros(WIDTH)).isfinite().all()
        print(f"one client sends NaN: {spec} returns {'finite numbers' if finite else 'NaN'}")


def directions(count: int, generator: torch.Generator) -> Tensor:
    """Draw vectors of length 1."""
    return torch.nn.functional.normalize(torch.randn(count, WIDTH, generator=generator), dim=1)


def differ(theirs: Defense, own: Tensor, rows: Tensor, model: Tensor) -> bool:
    """Return whether a strategy's step differs by more than rounding the step itself can explain."""
    return bool(torch.linalg.vector_norm(step(theirs, rows, model) - own) > 0.01 * torch.linalg.vector_norm(own))


def step(theirs: Defense, rows: Tensor, model: Tensor) -> Tensor:
    """Return how far a strategy moves the global model."""
    server = SimpleNamespace(model=model)
    answer = theirs.weigh(SimpleNamespace(updates=rows, sizes=torch.ones(CLIENTS), server=server, number=1, memory={}))
    assert isinstance(answer, Step)
    return answer.vector


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
