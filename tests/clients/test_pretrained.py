"""Features from a published network: kept under the checksums that they were made from, and made again if damaged."""

from __future__ import annotations

import copy
import lzma
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from agrbench.clients import pretrained
from agrbench.clients.models import ResNet
from agrbench.data import cifar, files
from agrbench.data.cifar import Part
from agrbench.plugins import File
from agrbench.plugins.registry import Registry
from tests.helpers.cifar import HERE, ROWS, made_batches, put_single, records


@pytest.fixture
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return made_batches(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def weights() -> File:
    file = Registry().dataset("cifar10").record.source.needed[0]
    assert isinstance(file, File)
    if files.find(file) is None:
        pytest.skip("the published network is not at hand")
    return file


@pytest.fixture(scope="module")
def network_path(weights: File) -> Path:
    return files.fetch(weights)


@pytest.fixture(scope="module")
def network(weights: File) -> ResNet:
    return pretrained.network(weights)


@pytest.fixture(scope="module")
def expected(network: ResNet) -> Tensor:
    """Give the features of the made records, normalised and computed in double precision."""
    images = cifar.parse(HERE, records())[0].double() / 255
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).double().view(2, 3, 1, 1)
    found: Tensor = copy.deepcopy(network).double().features((images - mean) / deviation)
    return found.detach().float()


def test_the_network_finds_about_926_of_the_first_1000_official_test_images(network: ResNet) -> None:
    path = Path(os.environ.get(files.FOLDER, "")) / "cifar10" / "test_batch_first1000.bin.xz"
    if not path.is_file():
        pytest.skip("the first 1,000 official test images are not at hand")
    images, labels = cifar.parse(path, lzma.decompress(path.read_bytes()))
    with torch.no_grad():
        scores = [network(pretrained.normalise(chunk)) for chunk in torch.split(images, 125)]
    assert abs(int((torch.cat(scores).argmax(1) == labels).sum()) - 926) <= 2


def test_extracting_is_the_network_chunk_by_chunk_and_leaves_the_threads_alone(
    network: ResNet, expected: Tensor
) -> None:
    images, _ = cifar.parse(HERE, records())
    repeats = pretrained.CHUNK // ROWS + 1
    threads = torch.get_num_threads()
    found = pretrained.extract(network, images.repeat(repeats, 1, 1, 1), "made")
    assert torch.get_num_threads() == threads
    assert torch.allclose(found, expected.repeat(repeats, 1), atol=1e-4)
    assert not found.requires_grad


def test_loading_the_network_draws_no_random_number(weights: File) -> None:
    before = torch.get_rng_state()
    pretrained.network(weights)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture
def part(weights: File, network_path: Path, away: Path, monkeypatch: pytest.MonkeyPatch) -> Part:
    """Give a batch at hand as a single file, with the network in the data folder and nothing in the cache."""
    put_single(away, monkeypatch)
    target = away.parent / weights.path
    target.parent.mkdir()
    target.write_bytes(network_path.read_bytes())
    return cifar.parts([cifar.TEST])[0]


def kept() -> Path:
    (path,) = (files.cache() / "cifar10").glob("*.features")
    return path


def test_features_come_with_their_labels_and_are_kept_under_the_checksums_they_were_made_from(
    part: Part, weights: File, expected: Tensor
) -> None:
    found, labels = pretrained.of(part, weights)
    assert torch.allclose(found, expected, atol=1e-4)
    assert torch.equal(labels, part.read()[1])
    assert labels.dtype == torch.int64
    for said in (part.name, part.sha256[:16], weights.sha256[:16]):
        assert said in kept().name


def test_what_was_kept_is_used_and_is_equal(part: Part, weights: File) -> None:
    first = pretrained.of(part, weights)
    written = kept().stat().st_mtime_ns
    second = pretrained.of(part, weights)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(first, second, strict=True))
    assert kept().stat().st_mtime_ns == written
    pretrained.keep(kept(), torch.ones(2, 65))
    assert pretrained.of(part, weights)[0].tolist() == [[1.0] * 64] * 2


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda whole: b"", id="empty"),
        pytest.param(lambda whole: whole[:-1], id="truncated"),
        pytest.param(lambda whole: whole[:10], id="less than a digest"),
        pytest.param(lambda whole: whole + b"\0", id="longer"),
        pytest.param(lambda whole: whole[:2000] + bytes([whole[2000] ^ 1]) + whole[2001:], id="one bit"),
        pytest.param(lambda whole: bytes([whole[0] ^ 1]) + whole[1:], id="one bit of the digest"),
    ],
)
def test_damaged_features_are_made_again(
    damage: Callable[[bytes], bytes], part: Part, weights: File, expected: Tensor
) -> None:
    pretrained.of(part, weights)
    pretrained.keep(kept(), torch.ones(ROWS, 65))
    kept().write_bytes(damage(kept().read_bytes()))
    assert torch.allclose(pretrained.of(part, weights)[0], expected, atol=1e-4)
    assert pretrained.recall(kept()) is not None


def test_features_of_another_file_are_not_taken_for_this_one_s(part: Part, weights: File) -> None:
    pretrained.of(part, weights)
    pretrained.keep(kept(), torch.ones(2, 65))
    recompressed = lzma.compress(records(), preset=0)
    part.path.write_bytes(recompressed)
    (other,) = cifar.parts([part.name])
    assert len(pretrained.of(other, weights)[1]) == ROWS


def test_only_whole_features_and_the_lock_lie_in_the_cache(part: Part, weights: File) -> None:
    pretrained.of(part, weights)
    assert sorted(path.suffix for path in kept().parent.iterdir()) == [".features", ".lock"]


def test_features_are_the_examples_by_default(part: Part, weights: File) -> None:
    train, test = Registry().dataset("cifar10").record.load()
    found, labels = pretrained.of(part, weights)
    assert torch.equal(test.features, found)
    assert torch.equal(train.features, found.repeat(5, 1))
    assert train.labels.tolist() == labels.tolist() * 5


@pytest.mark.skipif(sys.platform == "win32", reason="files are not locked there")
def test_one_at_a_time_goes_past_a_lock(tmp_path: Path) -> None:
    order = []

    def second() -> None:
        with pretrained.alone(tmp_path / "lock"):
            order.append("second")

    other = threading.Thread(target=second)
    with pretrained.alone(tmp_path / "lock"):
        other.start()
        other.join(0.2)
        order.append("first")
    other.join(5)
    assert order == ["first", "second"]
