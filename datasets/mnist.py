"""MNIST: 70,000 images of handwritten digits, 28x28 (LeCun et al., Proceedings of the IEEE, 1998)."""

from math import prod
from pathlib import Path

import numpy
import torch
from numpy.typing import NDArray

from agrbench.data.examples import Examples
from agrbench.data.files import corrupt, fetch, unzipped
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
LIMIT = 1 << 26  # bytes: more than 60,000 images


def load() -> tuple[Examples, Examples]:
    """Return the 60,000 training and 10,000 test images `(rows, 1, 28, 28)` as published: ink is 1, paper is 0."""
    paths = [fetch(file) for file in FILES]
    return read(*paths[:2]), read(*paths[2:])


def read(images: Path, labels: Path) -> Examples:
    """Read a file of images and the file of their labels."""
    pixels, digits = idx(images), idx(labels)
    if pixels.shape[1:] != (28, 28):
        raise corrupt(images, f"it holds {pixels.shape}, not rows of 28 x 28")
    if digits.shape != pixels.shape[:1] or (digits > 9).any():
        raise corrupt(labels, f"it does not hold a digit for each of the {len(pixels)} images")
    features = torch.from_numpy(pixels[:, None] / numpy.float32(255))
    return Examples(features, torch.from_numpy(digits.astype(numpy.int64)), 10)


def idx(path: Path) -> NDArray[numpy.uint8]:
    """Read a byte array in idx format: 0, 0, 8 and the number of dimensions; each size in four bytes; the values."""
    content = unzipped(path, LIMIT)
    start = 4 + 4 * content[3] if content[:3] == b"\0\0\x08" and len(content) > 3 else 0
    shape = [int.from_bytes(content[place : place + 4]) for place in range(4, start, 4)]
    if not shape or len(content) != start + prod(shape):
        raise corrupt(path, "it is no whole idx file of bytes")
    return numpy.frombuffer(content, numpy.uint8, offset=start).reshape(shape)


dataset = Dataset(
    load,
    model="mlp(512)",
    rate=1.0,
    root_size=2000,
    source=Source("CC BY-SA 3.0", FILES),
)
