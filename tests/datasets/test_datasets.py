"""The datasets: what is read from their published forms, what is refused by name, and how they are described."""

from __future__ import annotations

import gzip
import importlib
import io
import json
import re
import shutil
import struct
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agrbench.clients import models
from agrbench.data import files, summary
from agrbench.data.examples import Examples
from agrbench.errors import AgrbenchError, DataError, SpecError
from agrbench.plugins import Dataset, File
from agrbench.plugins.registry import Registry

femnist, mnist, purchase100, synthetic, texas100 = (
    importlib.import_module(f"agrbench.datasets.{name}")
    for name in ("femnist", "mnist", "purchase100", "synthetic", "texas100")
)
AGRBENCH = str(Path(sys.executable).with_name("agrbench"))
Halves = tuple[Examples, Examples]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty data folder, with an empty user cache and no way out to the network."""
    monkeypatch.setenv(files.FOLDER, str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    return tmp_path


def agrbench(*words: str, ok: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the command in this environment; it must exit with `ok`, and never with a traceback."""
    done = subprocess.run([AGRBENCH, *words], capture_output=True, text=True, check=False)
    assert done.returncode == ok, (words, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done


# MNIST


@pytest.fixture(scope="module")
def published() -> list[Path]:
    return [files.fetch(file) for file in mnist.FILES]


@pytest.fixture(scope="module")
def digits(published: list[Path]) -> Halves:
    return Registry().dataset("mnist").record.load()


def copied(published: list[Path], folder: Path) -> list[Path]:
    (folder / "mnist").mkdir()
    paths = [folder / "mnist" / path.name for path in published]
    for path, copy in zip(published, paths, strict=True):
        shutil.copyfile(path, copy)
    return paths


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
    read = mnist.idx(path)
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
        mnist.idx(path)
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
        mnist.read(tmp_path / "images", tmp_path / "labels")
    assert str(refused.value).startswith(str(tmp_path / named))


# Synthetic


@given(
    rows=st.integers(3, 40),
    test=st.integers(3, 40),
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple),
    classes=st.integers(2, 3),
)
def test_synthetic_has_any_shape_and_even_classes(rows: int, test: int, shape: tuple[int, ...], classes: int) -> None:
    halves = synthetic.load(rows=rows, test=test, shape=shape, classes=classes)
    assert [half.features.shape for half in halves] == [(rows, *shape), (test, *shape)]
    for half in halves:
        counts = half.labels.bincount(minlength=classes)
        assert half.classes == len(counts) == classes
        assert int(counts.max() - counts.min()) <= 1


def model_of(record: Dataset) -> models.Builder:
    return models.named(record.model) if isinstance(record.model, str) else record.model


def test_every_hyperparameter_of_synthetic_is_bound_in_a_spec_and_its_model_fits_the_data() -> None:
    record = Registry().dataset("synthetic(shape=(1, 4, 3), classes=3, rows=7, test=5, spread=0.0)").record
    train, test = record.load()
    assert (train.features.shape, test.features.shape) == ((7, 1, 4, 3), (5, 1, 4, 3))
    assert len(torch.unique(train.features, dim=0)) == 3
    assert model_of(record)((1, 4, 3), 3)(test.features).shape == (5, 3)


@pytest.mark.parametrize(
    ("name", "shape", "classes", "widths"),
    [
        ("mnist", (1, 28, 28), 10, [512, 10]),
        ("femnist", (1, 28, 28), 62, [512, 62]),
        ("purchase100", (600,), 100, [1024, 100]),
        ("texas100", (6169,), 100, [1024, 100]),
    ],
)
def test_a_dataset_s_model_has_its_stated_widths_and_fits_its_rows(
    name: str, shape: tuple[int, ...], classes: int, widths: list[int]
) -> None:
    record = Registry().dataset(name).record
    module = model_of(record)(shape, classes)
    assert [layer.out_features for layer in module.modules() if isinstance(layer, torch.nn.Linear)] == widths
    assert module(torch.zeros(2, *shape)).shape == (2, classes)
    assert record.root_size == 2000


@pytest.mark.oracle("synthetic")
def test_synthetic_rows_are_their_class_s_centre_and_noise_of_the_given_spread() -> None:
    clean, noisy = (synthetic.load(rows=4000, shape=(30,), classes=4, spread=spread)[0] for spread in (0.0, 0.5))
    assert torch.unique(clean.features, dim=0).shape == (4, 30)
    noise = noisy.features - clean.features
    assert float(noise.std()) == pytest.approx(0.5, rel=0.02)
    assert float(noise.mean()) == pytest.approx(0, abs=0.01)
    assert float(torch.unique(clean.features, dim=0).std()) == pytest.approx(1, rel=0.2)


@pytest.mark.trap("synthetic")
def test_synthetic_is_the_same_whatever_the_global_seed_and_its_halves_share_no_row() -> None:
    first = synthetic.load()
    state = torch.get_rng_state()
    torch.manual_seed(12345)
    second = synthetic.load()
    torch.set_rng_state(state)
    assert all(torch.equal(a.features, b.features) for a, b in zip(first, second, strict=True))
    assert len(torch.unique(torch.cat([half.features for half in first]), dim=0)) == 2500


@pytest.mark.trap("synthetic")
@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("shape=()", "write whole sizes above 0"),
        ("shape=(3, 0)", "write whole sizes above 0"),
        ("shape=(2.5,)", "write whole sizes above 0"),
        ("shape=(True,)", "write whole sizes above 0"),
        ("classes=1", "write classes=2 or more"),
        ("classes=-3", "write classes=2 or more"),
        ("rows=9", "write rows=10 or more"),
        ("test=0", "write test=10 or more"),
        ("spread=-1.0", "write 0 or more"),
        ("rows=1000000000000", "write fewer or smaller"),
        ("shape=(100000, 100000)", "write fewer or smaller"),
        ("classes=1000000000000, rows=1000000000000, test=1000000000000", "write fewer or smaller"),
    ],
)
def test_what_synthetic_cannot_make_is_refused_in_one_sentence_that_names_the_value(spec: str, said: str) -> None:
    record = Registry().dataset(f"synthetic({spec})").record
    with pytest.raises(AgrbenchError) as refused:
        record.load()
    assert said in str(refused.value)
    assert "synthetic: " in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_an_ill_typed_parameter_of_synthetic_is_answered_by_the_signature() -> None:
    with pytest.raises(SpecError, match=re.escape("shape: tuple[int, ...] = (20,)")):
        Registry().dataset("synthetic(shape=20)")


# PURCHASE100 and TEXAS100


def archive(path: Path, members: Mapping[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as opened:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            opened.addfile(info, io.BytesIO(content))
    return path


def line(row: list[int]) -> bytes:
    return ",".join(map(str, row)).encode()


def made(rows: int, width: int) -> tuple[list[list[int]], list[int]]:
    rng = torch.Generator().manual_seed(rows)
    table = torch.randint(2, (rows, width), generator=rng).tolist()
    return table, torch.randint(1, 101, (rows,), generator=rng).tolist()


def purchase(path: Path, table: list[list[int]], labels: list[int], end: bytes = b"\n") -> Path:
    lines = [line([label, *row]) + end for label, row in zip(labels, table, strict=True)]
    return archive(path, {"dataset_purchase": b"".join(lines)})


def texas(path: Path, table: list[list[int]], labels: list[int], end: bytes = b"\n") -> Path:
    feats = b"".join(line(row) + end for row in table)
    return archive(
        path, {"texas/100/feats": feats, "texas/100/labels": b"".join(b"%d" % each + end for each in labels)}
    )


WRITERS = [(purchase, purchase100.read, 600), (texas, texas100.read, 6169)]


@pytest.mark.oracle("purchase100", "texas100")
@pytest.mark.parametrize(("write", "read", "width"), WRITERS)
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_every_row_and_label_of_the_archive_is_read_in_order(
    write: Callable[..., Path], read: Callable[[Path], Examples], width: int, end: bytes, tmp_path: Path
) -> None:
    table, labels = made(37, width)
    examples = read(write(tmp_path / "a.tgz", table, labels, end))
    assert examples.features.tolist() == table
    assert (examples.labels + 1).tolist() == labels
    assert examples.classes == 100


@pytest.mark.trap("purchase100", "texas100")
def test_a_last_line_without_its_end_is_read(tmp_path: Path) -> None:
    table, labels = made(2, 600)
    text = b"\n".join(line([label, *row]) for label, row in zip(labels, table, strict=True))
    assert purchase100.read(archive(tmp_path / "a.tgz", {"dataset_purchase": text})).features.tolist() == table


BITS = b"1" + b",0" * 599
TEXAS_BITS = b"1" + b",0" * 6168


@pytest.mark.trap("purchase100")
@pytest.mark.parametrize(
    ("second", "said"),
    [
        (b"7," + BITS[:-2], "line 2 does not end in 600 zeros and ones"),
        (b"7," + BITS + b",0", "line 2 begins with '7,1,'"),
        (b"7," + BITS[:-1] + b"2", "line 2"),
        (b"7," + BITS[:-1], "line 2"),
        (b"7," + BITS.replace(b",", b";"), "line 2"),
        (b"7," + BITS[:100] + b"\xff" + BITS[101:], "line 2"),
        (b"7" + BITS, "line 2 begins with '7', not with a label from 1 to 100 with ',' behind it"),
        (BITS, "line 2 begins with ''"),
        (b"", "line 2"),
        (b"0," + BITS, "line 2 begins with '0,'"),
        (b"101," + BITS, "line 2 begins with '101,'"),
        (b"-1," + BITS, "line 2 begins with '-1,'"),
        (b"x," + BITS, "line 2 begins with 'x,'"),
    ],
)
def test_a_malformed_line_of_purchase100_is_refused_by_name(second: bytes, said: str, tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tgz", {"dataset_purchase": b"1," + BITS + b"\n" + second + b"\n1," + BITS})
    with pytest.raises(DataError, match=re.escape(said)) as refused:
        purchase100.read(path)
    assert str(refused.value).startswith(str(path))


@pytest.mark.trap("texas100")
@pytest.mark.parametrize(
    ("feats", "labels", "said"),
    [
        (TEXAS_BITS[:-2], b"1", "line 1 does not end in 6169 zeros and ones"),
        (TEXAS_BITS + b",0", b"1", "1 labels for 1 lines of 6169 values"),
        (TEXAS_BITS[:-1] + b"3", b"1", "line 1"),
        (TEXAS_BITS, b"1\n2", "2 labels for 1 lines"),
        (TEXAS_BITS, b"", "0 labels for 1 lines"),
        (TEXAS_BITS, b"101", "line 1 begins with '101', not with a label from 1 to 100"),
        (TEXAS_BITS, b"0", "line 1 begins with '0', not with a label from 1 to 100"),
        (TEXAS_BITS, b"1.5", "line 1 begins with '1.5', not with a label from 1 to 100"),
    ],
)
def test_malformed_content_of_texas100_is_refused_by_name(
    feats: bytes, labels: bytes, said: str, tmp_path: Path
) -> None:
    path = archive(tmp_path / "a.tgz", {"texas/100/feats": feats, "texas/100/labels": labels})
    with pytest.raises(DataError, match=re.escape(said)) as refused:
        texas100.read(path)
    assert str(refused.value).startswith(str(path))


@pytest.mark.parametrize(
    ("name", "write", "file", "width"),
    [
        ("purchase100", purchase, purchase100.ARCHIVE, 600),
        ("texas100", texas, texas100.ARCHIVE, 6169),
    ],
)
def test_a_well_formed_archive_of_other_content_is_refused_by_its_git_blob_id(
    name: str, write: Callable[..., Path], file: File, width: int, folder: Path
) -> None:
    path = write(folder / file.path, *made(3, width))
    with pytest.raises(DataError) as refused:
        Registry().dataset(name).record.load()
    git = subprocess.run(["git", "hash-object", str(path)], capture_output=True, text=True, check=True).stdout.strip()
    assert f"{path}: its git blob id is {git}, the publisher's {file.blob}" in str(refused.value)


# FEMNIST


def images(rows: int, seed: int) -> list[list[float]]:
    pixels = torch.randint(256, (rows, 784), generator=torch.Generator().manual_seed(seed))
    return [[value / 255 for value in row] for row in pixels.tolist()]


def leaf(*writers: tuple[str, list[int]]) -> dict[str, Any]:
    """Give the content of one of LEAF's files: writers' names and the labels of their images."""
    return {
        "users": [name for name, _ in writers],
        "num_samples": [len(labels) for _, labels in writers],
        "user_data": {name: {"x": images(len(labels), len(name)), "y": labels} for name, labels in writers},
    }


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def writers(folder: Path) -> Path:
    """Put three files of five writers into the data folder."""
    write(folder / "femnist/train/all_data_0.json", leaf(("a", [3, 61]), ("bb", [0])))
    write(folder / "femnist/train/all_data_1.json", leaf(("ccc", [36, 36, 10]), ("dddd", []), ("a", [5])))
    write(folder / "femnist/test/all_data_0.json", leaf(("eeeee", [1, 2])))
    return folder


@pytest.mark.oracle("femnist")
def test_femnist_has_the_images_labels_and_writers_that_leaf_stores(writers: Path) -> None:
    train, test = Registry().dataset("femnist").record.load()
    assert train.features.shape == (7, 1, 28, 28)
    assert test.features.shape == (2, 1, 28, 28)
    assert train.labels.tolist() == [3, 61, 0, 36, 36, 10, 5]
    assert train.owners is not None
    assert train.owners.tolist() == [0, 0, 1, 2, 2, 2, 0]
    assert test.owners is None
    assert train.classes == test.classes == 62
    torch.testing.assert_close(train.features[3:6].flatten(1), torch.tensor(images(3, 3)))


@pytest.mark.trap("femnist")
@pytest.mark.parametrize("half", ["train", "test"])
def test_a_cut_file_of_femnist_is_refused_by_name_before_anything_runs(half: str, writers: Path) -> None:
    path = writers / f"femnist/{half}/all_data_0.json"
    path.write_bytes(path.read_bytes()[:-10])
    record = Registry().dataset("femnist").record
    for refuse in (record.load, lambda: [files.find(item) for item in record.source.needed]):
        with pytest.raises(DataError) as refused:
            refuse()
        assert str(refused.value) == f"{path}: it was cut, for it does not end in '}}'; make it again"
    assert files.state(record.source) == f"damaged: {refused.value}"
    assert summary.describe("femnist", record.source, record.load) == (None, f"damaged: {refused.value}")


def test_a_file_of_femnist_damaged_in_the_middle_is_refused_by_name(writers: Path) -> None:
    path = writers / "femnist/train/all_data_1.json"
    content = path.read_bytes()
    path.write_bytes(content[:5000] + content[5500:])
    record = Registry().dataset("femnist").record
    with pytest.raises(DataError, match="no whole file of LEAF's") as refused:
        record.load()
    assert str(refused.value).startswith(str(path))
    assert "make it again" in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    assert summary.describe("femnist", record.source, record.load) == (None, f"it cannot be read: {refused.value}")


GOOD = leaf(("w", [1]))
X, Y = GOOD["user_data"]["w"]["x"], GOOD["user_data"]["w"]["y"]


@pytest.mark.trap("femnist")
@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        "text",
        GOOD | {"users": ["v"]},
        GOOD | {"users": []},
        GOOD | {"num_samples": [2]},
        GOOD | {"num_samples": None},
        GOOD | {"user_data": []},
        GOOD | {"user_data": {"w": {"x": X}}},
        *(
            GOOD | {"user_data": {"w": {"x": x, "y": Y}}}
            for x in (
                [X[0][:-1]],
                [*X, X[0][:-1]],
                [X],
                [["0.5"] * 784],
                [[None] * 784],
                [[1.5] * 784],
                [[-0.1] * 784],
                [[float("nan")] * 784],
                [[10**400] * 784],
            )
        ),
        *(GOOD | {"user_data": {"w": {"x": X, "y": y}}} for y in ([62], [-1], [1, 1], [1.0], ["1"], [True], 1)),
    ],
)
def test_malformed_content_of_femnist_is_refused_by_name(content: object, tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", content)
    with pytest.raises(DataError, match="no whole file of LEAF's") as refused:
        femnist.read(tmp_path)
    assert str(refused.value).startswith(str(path))


@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b"\xff\xfe", b"PK\x03\x04"])
def test_a_file_of_femnist_that_is_no_json_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=re.escape(str(tmp_path / "a.json"))):
        femnist.read(tmp_path)


def test_files_of_femnist_without_an_image_are_refused_by_the_folder_s_name(tmp_path: Path) -> None:
    write(tmp_path / "a.json", leaf(("w", [])))
    with pytest.raises(DataError, match=re.escape(f"{tmp_path}: its files hold no image")):
        femnist.read(tmp_path)


@pytest.mark.parametrize("half", ["train", "test"])
def test_femnist_is_absent_while_one_of_its_folders_has_no_json_file(half: str, writers: Path) -> None:
    source = Registry().dataset("femnist").record.source
    assert files.at_hand(source)
    assert files.state(source) == "present"
    for path in (writers / "femnist" / half).iterdir():
        path.rename(path.with_suffix(".txt"))
    assert not files.at_hand(source)
    assert files.state(source) == f"absent: femnist/{half}"
    with pytest.raises(DataError, match=re.escape(f"femnist/{half} is not at hand; make it")):
        Registry().dataset("femnist").record.load()


@pytest.mark.parametrize(
    "words",
    [
        ("data", "get", "femnist"),
        ("data", "path", "femnist"),
        ("grid", "-D", "femnist", "-d", "krum", "-a", "none", "--seeds", "1", "--rounds", "10", "--out"),
    ],
    ids=" ".join,
)
def test_where_femnist_is_absent_every_command_says_how_to_make_it(words: tuple[str, ...], folder: Path) -> None:
    out = (str(folder / "out"),) if words[0] == "grid" else ()
    done = agrbench(*words, *out, ok=2)
    assert "Error: femnist/train is not at hand; make it: " in done.stderr
    assert "./preprocess.sh" in done.stderr
    assert not done.stdout
    assert not list(folder.rglob("*.json"))


def test_the_folders_of_femnist_are_named_where_they_are_at_hand(writers: Path) -> None:
    folders = "".join(f"{writers / 'femnist' / half}\n" for half in ("train", "test"))
    assert agrbench("data", "path", "femnist").stdout == agrbench("data", "get", "femnist").stdout == folders


# Descriptions


def slow_cosine(examples: Examples) -> float:
    """Follow Equation 4 word by word: the mean over classes of the mean cosine of all pairs of their rows."""
    means = []
    for label in range(examples.classes):
        rows = [row for row in examples.features[examples.labels == label].flatten(1).double() if row.any()]
        pairs = [float(a @ b / (a.norm() * b.norm())) for a in rows for b in rows]
        means += [sum(pairs) / len(pairs)] if pairs else []
    return sum(means) / len(means)


@given(st.integers(2, 12), st.integers(1, 4), st.integers(0, 10**6))
def test_the_intra_label_cosine_is_the_mean_over_all_pairs(rows: int, classes: int, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    features = torch.randn(rows, 2, 3, generator=rng) * (torch.rand(rows, generator=rng) > 0.2)[:, None, None]
    features[0] = 1  # one row that is not zero
    examples = Examples(features, torch.randint(classes, (rows,), generator=rng), classes)
    halves = examples.take(torch.arange(rows // 2)), examples.take(torch.arange(rows // 2, rows))
    assert summary.intra_label_cosine(halves) == pytest.approx(slow_cosine(examples), abs=1e-6)


def test_the_intra_label_cosine_does_not_depend_on_how_rows_are_cut_into_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    halves = synthetic.load()
    whole = summary.intra_label_cosine(halves)
    monkeypatch.setattr(summary, "BLOCK", 7 * 20)
    assert summary.intra_label_cosine(halves) == pytest.approx(whole, rel=1e-12)


def test_the_intra_label_cosine_of_equal_rows_is_one_and_of_no_row_is_no_number() -> None:
    labels = torch.tensor([0, 0, 1, 1])
    assert summary.intra_label_cosine([Examples(torch.ones(4, 5), labels, 3)]) == pytest.approx(1)
    assert torch.tensor(summary.intra_label_cosine([Examples(torch.zeros(4, 5), labels, 3)])).isnan()


def test_mnist_and_location30_have_their_measured_intra_label_cosine(digits: Halves) -> None:
    location = Registry().dataset("location30").record.load()
    assert summary.intra_label_cosine(location) == pytest.approx(0.353, abs=5e-4)
    assert summary.intra_label_cosine(digits[1:]) == pytest.approx(0.537, abs=5e-4)


def test_a_summary_counts_rows_and_classes_of_both_halves() -> None:
    train = Examples(torch.ones(3, 2, 4), torch.tensor([0, 1, 1]), 3)
    test = Examples(torch.ones(2, 2, 4), torch.tensor([2, 1]), 3)
    *counts, cosine = summary.summarise(train, test)
    assert counts == [3, 2, (2, 4), 3, 1, 3]
    assert cosine == pytest.approx(1)


def test_a_dataset_whose_loading_fails_is_described_by_the_failure() -> None:
    record: Dataset = Registry().dataset("digits").record

    def load() -> Halves:
        raise RuntimeError("no such column")

    broken = Dataset(load, record.model, record.rate, record.root_size, record.source)
    assert summary.describe("mine", broken.source, broken.load) == (
        None,
        "it cannot be loaded: RuntimeError: no such column",
    )


def test_the_list_tells_present_absent_and_damaged_datasets_apart(writers: Path, published: list[Path]) -> None:
    paths = copied(published, writers)
    paths[3].write_bytes(paths[3].read_bytes()[:-1])
    other = purchase(writers / purchase100.ARCHIVE.path, *made(3, 600))
    done = agrbench("data", "list")
    shown = {words[0]: words[1:] for text in done.stdout.splitlines() if (words := text.split())}
    assert shown["digits"] == ["1,437", "360", "1", "x", "8", "x", "8", "10", "174", "to", "183", "0.822"]
    assert shown["synthetic"] == ["2,000", "500", "20", "10", "250", "to", "250", "0.503"]
    assert shown["femnist"][:8] == ["7", "2", "1", "x", "28", "x", "28", "62"]
    for name in ("mnist", "purchase100", "location30", "texas100"):
        assert shown[name] == ["-"] * 6
    assert f"CC BY-SA 3.0; damaged: {paths[3]}: its sha256 is" in done.stdout
    assert f"none stated; damaged: {other}: its git blob id is" in done.stdout
    assert "absent: location30/dataset_location.tgz; write `agrbench data get location30`" in done.stdout
    assert "absent: texas100/dataset_texas.tgz; write `agrbench data get texas100`" in done.stdout
    assert not done.stderr


def test_a_damaged_file_stops_data_commands_and_the_grid_with_one_sentence(
    writers: Path, published: list[Path]
) -> None:
    paths = copied(published, writers)
    paths[0].write_bytes(paths[0].read_bytes()[:-1000])
    cut = writers / "femnist/test/all_data_0.json"
    cut.write_bytes(cut.read_bytes()[:-10])
    for name, said in (("mnist", f"{paths[0]}: its sha256 is {files.sha256(paths[0])}"), ("femnist", f"{cut}: it was")):
        grid = ("grid", "-D", name, "-d", "krum", "-a", "none", "--seeds", "1", "--out", str(writers / "out"))
        for words in (("data", "path", name), grid):
            assert f"Error: {said}" in agrbench(*words, ok=2).stderr
    assert not list((writers / "out").rglob("*.json"))
