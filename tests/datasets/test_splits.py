"""LOCATION30 and digits: their published shapes, and every row in exactly one half, the same one every time."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from agrbench.data import files
from agrbench.data.examples import Examples
from agrbench.errors import DataError
from agrbench.plugins import File
from agrbench.plugins.registry import Registry
from tests.helpers.datasets import Halves, archive


@pytest.fixture(scope="module")
def at_hand() -> Path:
    (archive,) = Registry().dataset("location30").record.source.needed
    return files.fetch(archive)


@pytest.fixture(scope="module")
def location30(at_hand: Path) -> Halves:
    return Registry().dataset("location30").record.load()


@pytest.fixture(scope="module")
def digits() -> Halves:
    return Registry().dataset("digits").record.load()


def rows(*halves: Examples) -> list[tuple[float, ...]]:
    """List label and features of every row."""
    return [
        (float(label), *features)
        for half in halves
        for label, features in zip(half.labels.tolist(), half.features.flatten(1).tolist(), strict=True)
    ]


@pytest.mark.oracle("location30")
def test_location30_has_its_published_shape(location30: Halves) -> None:
    train, test = location30
    assert train.features.shape == (4300, 446)
    assert test.features.shape == (710, 446)
    assert train.labels.shape == (4300,)
    assert test.labels.shape == (710,)
    assert train.classes == test.classes == 30
    for half in location30:
        assert half.features.dtype == torch.float32
        assert half.labels.dtype == torch.int64
        assert set(half.features.flatten().tolist()) == {0.0, 1.0}
        assert set(half.labels.tolist()) == set(range(30))


def test_location30_has_its_published_class_counts(location30: Halves) -> None:
    counts = torch.cat([half.labels for half in location30]).bincount(minlength=30)
    assert int(counts.sum()) == 5010
    assert int(counts.min()) == 97
    assert int(counts.max()) == 308


@pytest.mark.oracle("location30")
def test_every_published_row_is_in_exactly_one_half_of_location30(location30: Halves, at_hand: Path) -> None:
    """Read the archive by another way and compare as multisets, since some people went to the same places."""
    with tarfile.open(at_hand) as archive:
        stream = archive.extractfile("bangkok")
        assert stream is not None
        published = [line.split(",") for line in stream.read().decode().splitlines()]
    wanted = [(float(int(label.strip('"')) - 1), *map(float, values)) for label, *values in published]
    assert len(wanted) == 5010
    assert sorted(rows(*location30)) == sorted(wanted)


@pytest.mark.oracle("digits")
def test_digits_has_its_published_shape(digits: Halves) -> None:
    train, test = digits
    assert train.features.shape == (1437, 1, 8, 8)
    assert test.features.shape == (360, 1, 8, 8)
    assert train.classes == test.classes == 10
    for half in digits:
        assert half.features.dtype == torch.float32
        assert half.labels.dtype == torch.int64
        assert float(half.features.min()) == 0.0
        assert float(half.features.max()) == 1.0
        assert set(half.labels.tolist()) == set(range(10))


@pytest.mark.oracle("digits")
def test_every_embedded_image_is_in_exactly_one_half_of_digits(digits: Halves) -> None:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    wanted = [(float(label), *(image / 16)) for label, image in zip(labels.tolist(), images, strict=True)]
    assert sorted(rows(*digits)) == sorted(wanted)


@pytest.mark.trap("digits", "location30")
@pytest.mark.parametrize("name", ["digits", "location30"])
def test_loading_twice_gives_the_same_split_whatever_the_global_seed(name: str, request: Any) -> None:
    load: Callable[[], Halves] = Registry().dataset(name).record.load
    first: Halves = request.getfixturevalue(name)
    state = torch.get_rng_state()
    torch.manual_seed(12345)
    second = load()
    torch.set_rng_state(state)
    for ours, theirs in zip(first, second, strict=True):
        assert torch.equal(ours.features, theirs.features)
        assert torch.equal(ours.labels, theirs.labels)


@pytest.mark.trap("location30")
def test_a_location30_archive_of_another_content_is_refused_before_it_is_opened(folder: Path) -> None:
    record = Registry().dataset("location30").record
    (file,) = record.source.needed
    assert isinstance(file, File)
    archive(folder / "dataset_location.tgz", {"bangkok": b'"1",0\n'})
    with pytest.raises(DataError, match=file.sha256):
        record.load()
