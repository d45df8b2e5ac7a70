"""FEMNIST: what LEAF writes is read in order, and anything else is refused by the file's name."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import torch

from agrbench.data import files, summary
from agrbench.errors import DataError
from agrbench.plugins.registry import Registry
from tests.helpers.commands import agrbench
from tests.helpers.datasets import images, leaf, write_json

femnist = importlib.import_module("agrbench.datasets.femnist")


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
    path = write_json(tmp_path / "a.json", content)
    with pytest.raises(DataError, match="no whole file of LEAF's") as refused:
        femnist.read(tmp_path)
    assert str(refused.value).startswith(str(path))


@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b"\xff\xfe", b"PK\x03\x04"])
def test_a_file_of_femnist_that_is_no_json_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=re.escape(str(tmp_path / "a.json"))):
        femnist.read(tmp_path)


def test_files_of_femnist_without_an_image_are_refused_by_the_folder_s_name(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", leaf(("w", [])))
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
