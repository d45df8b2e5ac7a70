"""Fashion-MNIST and EMNIST: made IDX files read as they were written, turned upright, and refused if malformed."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from agrbench.data import files
from agrbench.data.idx import examples, gzipped
from agrbench.errors import DataError, SpecError
from agrbench.plugins.cut import cut
from agrbench.plugins.registry import Registry
from agrbench.specs import Term
from tests.helpers.datasets import idx, zipped

fashion_mnist = importlib.import_module("agrbench.datasets.fashion_mnist")
emnist = importlib.import_module("agrbench.datasets.emnist")
SPLITS = {"balanced": 47, "byclass": 62, "bymerge": 47, "letters": 26, "digits": 10, "mnist": 10}
Bytes = NDArray[np.uint8]


def drawn(rows: int, seed: int = 0) -> Bytes:
    return np.random.default_rng(seed).integers(0, 256, (rows, 28, 28), dtype=np.uint8)


def packed(folder: Path, split: str, images: Bytes, labels: list[int], half: str = "train") -> Path:
    """Write an archive as NIST's, with one half of one split."""
    contents = {"images-idx3": images, "labels-idx1": np.array(labels, np.uint8)}
    members = {f"gzip/emnist-{split}-{half}-{kind}-ubyte.gz": idx(array) for kind, array in contents.items()}
    return zipped(folder / "emnist/gzip.zip", members)


@pytest.mark.oracle("fashion_mnist")
def test_fashion_mnist_is_read_pixel_by_pixel(tmp_path: Path) -> None:
    pixels, labels = drawn(5), [9, 0, 3, 3, 1]
    for name, array in (("images", pixels), ("labels", np.array(labels, np.uint8))):
        (tmp_path / name).write_bytes(idx(array))
    read = examples(gzipped(tmp_path / "images"), gzipped(tmp_path / "labels"))
    assert read.features.dtype == torch.float32
    assert read.features.shape == (5, 1, 28, 28)
    assert all(
        read.features[row, 0, y, x] == np.float32(pixels[row, y, x]) / np.float32(255)
        for row in range(5) for y in (0, 1, 27) for x in (0, 13, 27)
    )  # fmt: skip
    assert (read.labels.tolist(), read.classes) == (labels, 10)


@pytest.mark.trap("fashion_mnist")
def test_fashion_mnist_refuses_files_of_mnist_under_its_names(folder: Path, published: list[Path]) -> None:
    target = folder / "fashion_mnist"
    target.mkdir()
    for path in published:
        (target / path.name).symlink_to(path)
    with pytest.raises(DataError, match=f"train-images.*{fashion_mnist.FILES[0].sha256}"):
        Registry().dataset("fashion_mnist").record.load()


@pytest.mark.oracle("emnist")
@pytest.mark.parametrize("split", SPLITS)
def test_a_split_of_emnist_has_its_classes_and_its_images_upright(split: Any, tmp_path: Path) -> None:
    pixels, first = drawn(4), 1 if split == "letters" else 0
    stored = [first, first + SPLITS[split] - 1, first, first + 1]
    path = packed(tmp_path, split, pixels, stored, "test")
    read = emnist.read(path, split, "test")
    assert read.features.shape == (4, 1, 28, 28)
    assert read.features.is_contiguous()
    assert all(
        read.features[row, 0, y, x] == np.float32(pixels[row, x, y]) / np.float32(255)
        for row in range(4) for y in (0, 1, 27) for x in (0, 13, 27)
    )  # fmt: skip
    assert (read.labels.tolist(), read.classes) == ([0, SPLITS[split] - 1, 0, 1], SPLITS[split])


@pytest.mark.trap("emnist")
@pytest.mark.parametrize(("split", "label"), [("balanced", 47), ("letters", 0), ("letters", 27), ("digits", 10)])
def test_a_label_that_a_split_does_not_have_is_refused_with_its_file(split: Any, label: int, tmp_path: Path) -> None:
    path = packed(tmp_path, split, drawn(2), [1, label])
    with pytest.raises(DataError, match="no label from") as refused:
        emnist.read(path, split, "train")
    assert str(refused.value).startswith(f"{path}/gzip/emnist-{split}-train-labels-idx1-ubyte.gz: ")


@pytest.mark.trap("emnist")
def test_a_member_that_is_missing_or_damaged_is_refused_by_name(tmp_path: Path) -> None:
    path = packed(tmp_path, "digits", drawn(2), [1, 2])
    with pytest.raises(DataError, match=r"gzip.zip: 'gzip/emnist-letters-train-images-idx3-ubyte.gz' cannot be read"):
        emnist.read(path, "letters", "train")
    name = "gzip/emnist-digits-train-images-idx3-ubyte.gz"
    for content in (b"<html>gone</html>", idx(drawn(2))[:-50]):
        with pytest.raises(DataError, match=f"'{name}' cannot be read"):
            emnist.read(zipped(path, {name: content}), "digits", "train")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match="BadZipFile"):
        emnist.read(path, "digits", "train")


@pytest.mark.trap("emnist")
def test_an_archive_of_another_content_is_refused_before_it_is_opened(folder: Path) -> None:
    path = packed(folder, "balanced", drawn(2), [1, 2])
    with pytest.raises(DataError) as refused:
        Registry().dataset("emnist(split='letters')").record.load()
    for said in (str(path), files.sha256(path), emnist.ARCHIVE.sha256):
        assert said in str(refused.value)


@pytest.mark.trap("emnist")
def test_another_split_is_refused_with_those_there_are() -> None:
    with pytest.raises(SpecError, match="'balanced', 'byclass', 'bymerge', 'letters', 'digits', 'mnist'"):
        Registry().dataset("emnist(split='capitals')")


def test_rows_cut_the_training_images_only(tmp_path: Path) -> None:
    path = packed(tmp_path, "balanced", drawn(40), list(range(40)))
    half = emnist.read(path, "balanced", "train")
    record = replace(emnist.dataset, load=lambda: (half, half))
    train, test = cut(record, Term("emnist", {"rows": 30})).load()
    assert (len(train.labels), len(test.labels)) == (30, 40)
    assert all(torch.equal(image, half.features[label]) for image, label in zip(*train[:2], strict=True))
    assert Registry().dataset("emnist(split='letters', rows=30)").record.root_size == 3
