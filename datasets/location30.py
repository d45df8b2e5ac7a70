"""LOCATION30: Foursquare check-ins, 5,010 people x 446 places in 30 classes (Shokri et al., S&P 2017)."""

import torch

from agrbench.data.examples import Examples, split
from agrbench.data.files import corrupt, fetch, member
from agrbench.plugins import Dataset, File, Source
from agrbench.randomness import generator

ARCHIVE = File(
    "location30/dataset_location.tgz",
    "https://github.com/privacytrustlab/datasets/raw/169de9de00de049dd2e571cf7279e64698ac046a/dataset_location.tgz",
    "927203f85a868f8ee17a0ded1dc61699efe602167beabe34fbf45b4b1de94b33",
)


def load() -> tuple[Examples, Examples]:
    """Return 4,300 training and 710 test rows `(rows, 446)` of zeros and ones, split once at random."""
    path = fetch(ARCHIVE)
    lines = member(path, "bangkok").decode().split()
    rows = [line.replace('"', "").split(",") for line in lines]
    if {len(row) for row in rows} != {447}:
        raise corrupt(path, "its rows do not have a label and 446 values each")
    table = torch.tensor([[int(value) for value in row] for row in rows])
    examples = Examples(table[:, 1:].float(), table[:, 0] - 1, 30)
    return split(examples, 710, generator(0, "location30"))


dataset = Dataset(
    load,
    model="mlp(512)",
    rate=2.0,
    root_size=300,
    source=Source("none stated", (ARCHIVE,)),
)
