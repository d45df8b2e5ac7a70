"""MNIST: 70,000 images of handwritten digits, 28x28 (LeCun et al., Proceedings of the IEEE, 1998)."""

from agrbench.data.examples import Examples
from agrbench.data.idx import halves
from agrbench.plugins import Dataset, File, Source

SUMS = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
FILES = tuple(
    File(f"mnist/{name}", f"https://ossci-datasets.s3.amazonaws.com/mnist/{name}", total)
    for name, total in SUMS.items()
)

MEAN, DEVIATION = 0.1307, 0.3081  # of the training pixels, rounded as everyone rounds them


def load(*, standardized: bool = False) -> tuple[Examples, Examples]:
    """Return the 60,000 training and 10,000 test images `(rows, 1, 28, 28)` as published: ink is 1, paper is 0.

    `standardized=True` subtracts the training pixels' mean, 0.1307, and divides by their deviation, 0.3081, as
    PyTorch's example and many papers' codes do. Triggers still stamp the value 1, which is then grey.
    """
    train, test = halves(FILES)
    return (scaled(train), scaled(test)) if standardized else (train, test)


def scaled(half: Examples) -> Examples:
    """Standardise pixels by the training half's mean and deviation."""
    return half._replace(features=(half.features - MEAN) / DEVIATION)


dataset = Dataset(
    load,
    model="mlp(512)",
    rate=1.0,
    root_size=2000,
    source=Source("CC BY-SA 3.0", FILES),
)
