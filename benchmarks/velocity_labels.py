"""FedAvg under velocity-fl's own permutation of labels: does it explain where `label_flip(map='reverse')` differs?

    python benchmarks/velocity_labels.py

Run by hand; it takes about two minutes. docs/validation.md has what it printed.
"""

from __future__ import annotations

import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

from agrbench.plugins.registry import Registry
from agrbench.progress import progress
from agrbench.results.validation import published
from agrbench.simulation.run import simulate

PERMUTED = '''
"""Permuted: train on labels that one permutation without fixed points maps, drawn from seed 137 (velocity-fl)."""

import torch

from agrbench.plugins import Attack

mapped = torch.randperm(10, generator=torch.Generator().manual_seed(137)).tolist()
for label in range(10):
    if mapped[label] == label:
        other = (label + 1) % 10
        mapped[label], mapped[other] = mapped[other], mapped[label]


def poison(shard, rng, attacker):
    """Replace each label by the one that it is mapped to."""
    return shard._replace(labels=torch.tensor(mapped)[shard.labels])


attack = Attack(poison=poison)
'''


def main() -> None:
    """Print the final accuracy of each seed, their mean and their deviation, in percent."""
    suite = published.read("velocity")
    with tempfile.TemporaryDirectory() as folder:
        plugin = Path(folder) / "permuted.py"
        plugin.write_text(PERMUTED, encoding="utf-8")
        registry = Registry([str(plugin)])
        cell = suite.cell(suite.values[0], "permuted", 0, registry)
        found = []
        with progress("seeds", suite.seeds) as report:
            for seed in range(suite.seeds):
                found.append(100 * simulate(replace(cell, seed=seed), registry)["accuracy"][-1])
                report(f"seed {seed}")
    print(cell.defense, "under the published permutation:", " ".join(f"{each:.1f}" for each in found))
    print(f"mean {statistics.fmean(found):.1f}, deviation {statistics.stdev(found):.1f}; published 93.3, 0.9")


if __name__ == "__main__":
    main()
