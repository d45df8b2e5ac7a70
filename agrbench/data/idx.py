"""Read images and labels in IDX, the format of MNIST and of the datasets that are published in its form."""

from __future__ import annotations

import gzip
import zipfile
import zlib
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy
import torch
from numpy.typing import NDArray

from agrbench.data.examples import Examples
from agrbench.data.files import corrupt, fetch, unzipped
from agrbench.data.sources import File

LIMIT = 1 << 30  # bytes: more than the 697,932 images of EMNIST's largest split


class Content(NamedTuple):
    """The bytes of an IDX file, and the path that error messages name."""

    path: Path
    bytes: bytes


def halves(files: Sequence[File]) -> tuple[Examples, Examples]:
    """Return the training and test images of a dataset published in MNIST's four files, fetched unless they are there.

    `files` are the training images, their labels, the test images and their labels, each a gzip file.

    Raises:
        DataError: a file is unavailable, damaged or too large.
    """
    images, labels, test_images, test_labels = (gzipped(fetch(file)) for file in files)
    return examples(images, labels), examples(test_images, test_labels)


def gzipped(path: Path) -> Content:
    """Read a gzip file.

    Raises:
        DataError: it is damaged, or too large.
    """
    return Content(path, unzipped(path, LIMIT))


def zipped(path: Path, name: str) -> Content:
    """Read a gzip file that is a member of a zip archive.

    Raises:
        DataError: the archive or its member is damaged, missing or too large.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(name) as member, gzip.open(member) as stream:
            content = stream.read(LIMIT + 1)
    except (zipfile.BadZipFile, KeyError, EOFError, OSError, RuntimeError, zlib.error) as error:
        raise corrupt(path, f"{name!r} cannot be read from it ({type(error).__name__})") from error
    if len(content) > LIMIT:
        raise corrupt(path, f"its member {name!r} holds more than {LIMIT} bytes")
    return Content(path / name, content)


def examples(
    images: Content, labels: Content, classes: int = 10, *, first: int = 0, transposed: bool = False
) -> Examples:
    """Convert images `(rows, 28, 28)` and their labels to examples `(rows, 1, 28, 28)` from 0 to 1.

    Labels are counted from `first`. `transposed` images are stored column by column.

    Raises:
        DataError: they are no such arrays, or do not fit each other.
    """
    pixels, numbers = array(images), array(labels)
    if pixels.shape[1:] != (28, 28):
        raise corrupt(images.path, f"it holds {pixels.shape}, not rows of 28 x 28")
    if numbers.shape != pixels.shape[:1] or (numbers < first).any() or (numbers >= first + classes).any():
        raise corrupt(
            labels.path, f"it has no label from {first} to {first + classes - 1} for each of the {len(pixels)} images"
        )
    upright = numpy.ascontiguousarray(pixels.transpose(0, 2, 1)) if transposed else pixels
    features = torch.from_numpy(upright[:, None] / numpy.float32(255))
    return Examples(features, torch.from_numpy(numbers.astype(numpy.int64) - first), classes)


def array(content: Content) -> NDArray[numpy.uint8]:
    """Read an array of bytes: 0, 0, 8 and the number of dimensions; each size in four bytes; the values.

    Raises:
        DataError: it is no such array.
    """
    path, held = content
    start = 4 + 4 * held[3] if held[:3] == b"\0\0\x08" and len(held) > 3 else 0
    shape = [int.from_bytes(held[place : place + 4]) for place in range(4, start, 4)]
    if not shape or len(held) != start + prod(shape):
        raise corrupt(path, "it is no whole idx file of bytes")
    return numpy.frombuffer(held, numpy.uint8, offset=start).reshape(shape)
