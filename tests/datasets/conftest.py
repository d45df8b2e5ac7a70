"""Data folders to put files into."""

import importlib
from pathlib import Path

import pytest

from agrbench.data import files
from tests.helpers.datasets import leaf, write_json


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an empty data folder, with an empty user cache and no way out to the network."""
    monkeypatch.setenv(files.FOLDER, str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    return tmp_path


@pytest.fixture(scope="module")
def published() -> list[Path]:
    """Find the published files of MNIST."""
    return [files.fetch(file) for file in importlib.import_module("agrbench.datasets.mnist").FILES]


@pytest.fixture
def writers(folder: Path) -> Path:
    """Put three files of five writers into the data folder, as FEMNIST has them."""
    write_json(folder / "femnist/train/all_data_0.json", leaf(("a", [3, 61]), ("bb", [0])))
    write_json(folder / "femnist/train/all_data_1.json", leaf(("ccc", [36, 36, 10]), ("dddd", []), ("a", [5])))
    write_json(folder / "femnist/test/all_data_0.json", leaf(("eeeee", [1, 2])))
    return folder
