"""PURCHASE100: shopping histories, 197,324 people x 600 products in 100 classes (Shokri et al., S&P 2017)."""

from pathlib import Path

import torch

from agrbench.data.bits import bits, halves, labels
from agrbench.data.examples import Examples
from agrbench.data.files import fetch, member
from agrbench.plugins import Dataset, File, Source
from agrbench.randomness import generator

ARCHIVE = File(
    "purchase100/dataset_purchase.tgz",
    "https://github.com/privacytrustlab/datasets/raw/169de9de00de049dd2e571cf7279e64698ac046a/dataset_purchase.tgz",
    blob="3efa7476ad5ed7ac3e558d28585a186b38fc5f19",
)


def load() -> tuple[Examples, Examples]:
    """Return 187,324 training and 10,000 test rows `(rows, 600)` of zeros and ones, split once at random."""
    return halves(read(fetch(ARCHIVE)), 10_000, generator(0, "purchase100"))


def read(path: Path) -> Examples:
    """Read the rows as bytes: each line is a label from 1 to 100 and 600 bits, separated by commas."""
    table, beginnings = bits(path, member(path, "dataset_purchase"), 600)
    return Examples(torch.from_numpy(table), torch.tensor(labels(path, beginnings, 100, end=b",")), 100)


dataset = Dataset(
    load,
    model="mlp(1024)",
    rate=1.0,
    root_size=2000,
    source=Source("none stated", (ARCHIVE,)),
)
