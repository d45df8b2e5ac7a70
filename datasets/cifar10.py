"""CIFAR-10: 60,000 photographs in 10 classes, as 64 features from a published network (Krizhevsky, 2009)."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from agrbench.clients import pretrained
from agrbench.clients.models import cnn, mlp
from agrbench.data import cifar
from agrbench.data.cifar import Part
from agrbench.data.examples import Examples
from agrbench.errors import DataError
from agrbench.plugins import Dataset, File, Source

WEIGHTS = File(
    "cifar10-resnet-weights/resnet56-4bfd9763.th",
    "https://github.com/akamaster/pytorch_resnet_cifar10/raw/master/pretrained_models/resnet56-4bfd9763.th",
    "4bfd97631478d6b638d2764fd2baff3edb1d7d82252d54439343b6596b9b5367",
)


def needed() -> tuple[File, ...]:
    """List the network's file, and the archive that the images are read from, if they are not in single files."""
    archive = cifar.archive()
    return (WEIGHTS,) if archive is None else (WEIGHTS, archive)


def load(*, test: Literal["official", "batch5"] = "official", raw: bool = False) -> tuple[Examples, Examples]:
    """Return 50,000 training and the 10,000 official test rows `(rows, 64)`: a ResNet-56's features of each image.

    `test="batch5"` tests on the fifth training batch instead, which leaves 40,000 training rows; `raw=True` returns the
    images `(rows, 3, 32, 32)` from 0 to 1. The network was trained on all five batches, so their features, a held-out
    batch's included, are almost perfectly separable; it misclassifies about 6 in 100 official test images.
    """
    *train, last = (*cifar.TRAINING, cifar.TEST) if test == "official" else cifar.TRAINING
    try:
        parts = cifar.parts([*train, last])
    except DataError as error:
        if test != "official" or cifar.absent(cifar.TRAINING):
            raise
        raise DataError(f'{error}; to hold a training batch out instead, write cifar10(test="batch5")') from error
    return examples(parts[:-1], raw), examples(parts[-1:], raw)


def examples(parts: Sequence[Part], raw: bool) -> Examples:
    """Read and concatenate batches, as images or as features."""
    if raw:
        images, labels = zip(*(part.read() for part in parts), strict=True)
        return Examples(torch.cat(images) / 255, torch.cat(labels), 10)
    rows, labels = zip(*(pretrained.of(part, WEIGHTS) for part in parts), strict=True)
    return Examples(torch.cat(rows), torch.cat(labels), 10)


def model(shape: tuple[int, ...], classes: int) -> nn.Module:
    """Build the model: a convolutional network for images, a perceptron for features."""
    return (mlp(1024) if len(shape) == 1 else cnn())(shape, classes)


dataset = Dataset(
    load,
    model=model,
    rate=0.05,
    root_size=2000,
    source=Source("none stated (images); BSD 2-Clause (network)", needed),
)
