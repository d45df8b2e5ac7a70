"""TEXAS100: hospital stays, 67,330 patients x 6,169 attributes in 100 procedures (Shokri et al., S&P 2017)."""

from pathlib import Path

import torch

from agrbench.data.bits import bits, halves, labels
from agrbench.data.examples import Examples
from agrbench.data.files import corrupt, fetch, member
from agrbench.plugins import Dataset, File, Source
from agrbench.randomness import generator

ARCHIVE = File(
    "texas100/dataset_texas.tgz",
    "https://github.com/privacytrustlab/datasets/raw/169de9de00de049dd2e571cf7279e64698ac046a/dataset_texas.tgz",
    blob="966f7ff40b24cf5912ff84759aab9adb8c25f30e",
)


def load() -> tuple[Examples, Examples]:
    """Return 57,330 training and 10,000 test rows `(rows, 6169)` of zeros and ones, split once at random."""
    return halves(read(fetch(ARCHIVE)), 10_000, generator(0, "texas100"))


def read(path: Path) -> Examples:
    """Read the rows as bytes: lines of 6,169 comma-separated bits, and one label from 1 to 100 for each line."""
    table, beginnings = bits(path, member(path, "texas/100/feats"), 6169)
    classes = labels(path, member(path, "texas/100/labels").split(), 100)
    if any(beginnings) or len(classes) != len(table):
        raise corrupt(path, f"it has {len(classes)} labels for {len(table)} lines of 6169 values")
    return Examples(torch.from_numpy(table), torch.tensor(classes), 100)


dataset = Dataset(
    load,
    model="mlp(1024)",
    rate=1.0,
    root_size=2000,
    source=Source("none stated", (ARCHIVE,)),
)
