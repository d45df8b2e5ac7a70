"""EMNIST: handwritten digits and letters, 28x28, in MNIST's form (Cohen, Afshar, Tapson and van Schaik, IJCNN 2017)."""

from pathlib import Path
from typing import Literal

from agrbench.data.examples import Examples
from agrbench.data.files import fetch
from agrbench.data.idx import examples, zipped
from agrbench.plugins import Dataset, File, Source

ARCHIVE = File(
    "emnist/gzip.zip",
    "https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip",
    "fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e",
)
CLASSES = {"balanced": 47, "byclass": 62, "bymerge": 47, "letters": 26, "digits": 10, "mnist": 10}


def load(
    *, split: Literal["balanced", "byclass", "bymerge", "letters", "digits", "mnist"] = "balanced"
) -> tuple[Examples, Examples]:
    """Return the published training and test images `(rows, 1, 28, 28)` of a split, upright: ink is 1, paper is 0.

    Labels are 0-9, A-Z, a-z for `split="byclass"` (62 classes). `"balanced"` and `"bymerge"` count 15 letters whose two
    cases look alike as one class each (47). `"letters"` has A-Z in either case (26), `"digits"` and `"mnist"` 0-9.
    """
    path = fetch(ARCHIVE)
    return read(path, split, "train"), read(path, split, "test")


def read(path: Path, split: str, half: Literal["train", "test"]) -> Examples:
    """Read one half of a split: its images are stored column by column, and the labels of letters count from 1."""
    images, labels = (
        zipped(path, f"gzip/emnist-{split}-{half}-{kind}-ubyte.gz") for kind in ("images-idx3", "labels-idx1")
    )
    return examples(images, labels, CLASSES[split], first=int(split == "letters"), transposed=True)


dataset = Dataset(
    load,
    model="mlp(512)",
    rate=0.1,
    root_size=2000,
    source=Source("none stated", (ARCHIVE,)),
)
