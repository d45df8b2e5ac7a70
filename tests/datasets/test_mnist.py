"""MNIST: its published images and labels, and damaged or malformed files refused by name."""

from __future__ import annotations

import gzip
import importlib
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agrbench.data import files
from agrbench.data import idx as reading
from agrbench.errors import DataError
from agrbench.plugins.registry import Registry
from tests.helpers.datasets import Halves, copied

mnist = importlib.import_module("agrbench.datasets.mnist")


@pytest.fixture(scope="module")
def digits(published: list[Path]) -> Halves:
    return Registry().dataset("mnist").record.load()


@pytest.mark.oracle("mnist")
def test_mnist_has_its_published_shape_and_class_counts(digits: Halves) -> None:
    assert [half.features.shape for half in digits] == [(60_000, 1, 28, 28), (10_000, 1, 28, 28)]
    assert [half.labels.bincount().tolist() for half in digits] == [
        [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
        [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
    ]
    for half in digits:
        assert half.features.dtype == torch.float32
        assert half.labels.dtype == torch.int64
        assert (float(half.features.min()), float(half.features.max())) == (0.0, 1.0)


def test_standardized_training_pixels_have_mean_0_and_deviation_1(published: list[Path]) -> None:
    train, test = Registry().dataset("mnist(standardized=True)").record.load()
    assert abs(train.features.mean()) < 1e-3 and abs(train.features.std() - 1) < 1e-3
    plain = Registry().dataset("mnist").record.load()[1]
    torch.testing.assert_close(test.features * 0.3081 + 0.1307, plain.features)


@pytest.mark.oracle("mnist")
def test_every_pixel_of_mnist_is_the_published_byte_over_255(digits: Halves, published: list[Path]) -> None:
    for half, path in zip(digits, published[::2], strict=True):
        pixels = gzip.decompress(path.read_bytes())[16:]
        assert (half.features * 255).round().to(torch.uint8).numpy().tobytes() == pixels


def test_each_label_of_mnist_stands_by_its_image(digits: Halves) -> None:
    """Classify by the nearest of the training classes' mean images: 82 % is known, chance is 10 %."""
    train, test = (half.features.flatten(1) for half in digits)
    means = torch.stack([train[digits[0].labels == digit].mean(0) for digit in range(10)])
    assert float((torch.cdist(test, means).argmin(1) == digits[1].labels).float().mean()) > 0.8


def damage_by_cutting(content: bytes) -> bytes:
    return content[:-1000]


def damage_by_flipping(content: bytes) -> bytes:
    return content[:2000] + bytes([content[2000] ^ 1]) + content[2001:]


@pytest.mark.trap("mnist")
@pytest.mark.parametrize("damage", [damage_by_cutting, damage_by_flipping, lambda content: b""])
@pytest.mark.parametrize("which", range(4))
def test_a_damaged_file_of_mnist_is_refused_by_name_with_its_sha256(
    which: int, damage: Callable[[bytes], bytes], folder: Path, published: list[Path]
) -> None:
    paths = copied(published, folder)
    paths[which].write_bytes(damage(paths[which].read_bytes()))
    with pytest.raises(DataError) as refused:
        Registry().dataset("mnist").record.load()
    for said in (str(paths[which]), f"its sha256 is {files.sha256(paths[which])}", mnist.FILES[which].checksum):
        assert said in str(refused.value)


def idx(*sizes: int, values: bytes = b"", kind: bytes = b"\0\0\x08") -> bytes:
    return kind + bytes([len(sizes)]) + struct.pack(f">{len(sizes)}I", *sizes) + values


@given(sizes=st.lists(st.integers(0, 5), min_size=1, max_size=4), random=st.randoms())
def test_an_idx_file_is_read_as_it_was_written(
    sizes: list[int], random: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("idx") / "a.gz"
    values = random.randbytes(int(torch.tensor(sizes).prod()))
    path.write_bytes(gzip.compress(idx(*sizes, values=values)))
    read = reading.array(reading.gzipped(path))
    assert list(read.shape) == sizes
    assert read.tobytes() == values


@pytest.mark.trap("mnist")
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\0\0\x08", id="no sizes"),
        pytest.param(idx(), id="no dimension"),
        pytest.param(idx(3, values=b"ab"), id="too few values"),
        pytest.param(idx(3, values=b"abcd"), id="too many values"),
        pytest.param(idx(3, 2)[:-2], id="a size cut"),
        pytest.param(idx(1 << 31, 1 << 31, 1 << 31), id="sizes beyond all memory"),
        pytest.param(idx(4, values=b"abcd", kind=b"\0\0\x0d"), id="floating values"),
        pytest.param(b"<html>gone</html>", id="another format"),
    ],
)
def test_what_is_no_idx_file_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(content))
    with pytest.raises(DataError, match="no whole idx file") as refused:
        reading.array(reading.gzipped(path))
    assert str(path) in str(refused.value)


@pytest.mark.trap("mnist")
@pytest.mark.parametrize(
    ("images", "labels", "named"),
    [
        (idx(2, 28, 27, values=bytes(2 * 28 * 27)), idx(2, values=b"\1\2"), "images"),
        (idx(2, values=b"\1\2"), idx(2, values=b"\1\2"), "images"),
        (idx(2, 28, 28, values=bytes(2 * 784)), idx(1, values=b"\1"), "labels"),
        (idx(2, 28, 28, values=bytes(2 * 784)), idx(2, 1, values=b"\1\2"), "labels"),
        (idx(2, 28, 28, values=bytes(2 * 784)), idx(2, values=b"\1\x0a"), "labels"),
    ],
)
def test_images_and_labels_that_do_not_fit_are_refused_by_name(
    images: bytes, labels: bytes, named: str, tmp_path: Path
) -> None:
    for name, content in (("images", images), ("labels", labels)):
        (tmp_path / name).write_bytes(gzip.compress(content))
    with pytest.raises(DataError) as refused:
        reading.examples(reading.gzipped(tmp_path / "images"), reading.gzipped(tmp_path / "labels"))
    assert str(refused.value).startswith(str(tmp_path / named))
