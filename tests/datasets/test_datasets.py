"""All datasets: their models, and what the data commands say of present, absent and damaged files."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch

from agrbench.clients import models
from agrbench.data import files
from agrbench.plugins import Dataset
from agrbench.plugins.registry import Registry
from tests.helpers.commands import agrbench
from tests.helpers.datasets import bits, copied, purchase

purchase100 = importlib.import_module("agrbench.datasets.purchase100")


def model_of(record: Dataset) -> models.Builder:
    return models.named(record.model) if isinstance(record.model, str) else record.model


@pytest.mark.parametrize(
    ("name", "shape", "classes", "widths"),
    [
        ("mnist", (1, 28, 28), 10, [512, 10]),
        ("fashion_mnist", (1, 28, 28), 10, [512, 10]),
        ("emnist", (1, 28, 28), 47, [512, 47]),
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


def test_the_list_tells_present_absent_and_damaged_datasets_apart(writers: Path, published: list[Path]) -> None:
    paths = copied(published, writers)
    paths[3].write_bytes(paths[3].read_bytes()[:-1])
    other = purchase(writers / purchase100.ARCHIVE.path, *bits(3, 600))
    done = agrbench("data", "list")
    shown = {words[0]: words[1:] for text in done.stdout.splitlines() if (words := text.split())}
    assert shown["digits"] == ["1,437", "360", "1x8x8", "10", "174", "to", "183", "0.822"]
    assert shown["synthetic"] == ["2,000", "500", "20", "10", "250", "to", "250", "0.503"]
    assert shown["femnist"][:4] == ["7", "2", "1x28x28", "62"]
    for name in ("mnist", "fashion_mnist", "emnist", "purchase100", "location30", "texas100"):
        assert shown[name] == ["-"] * 6
    assert f"CC BY-SA 3.0; damaged: {paths[3]}: its sha256 is" in done.stdout
    assert f"none stated; damaged: {other}: its git blob id is" in done.stdout
    assert "absent: location30/dataset_location.tgz; write `agrbench data get location30`" in done.stdout
    assert "absent: emnist/gzip.zip; write `agrbench data get emnist`" in done.stdout
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
