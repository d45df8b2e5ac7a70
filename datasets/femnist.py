"""FEMNIST: handwritten digits and letters, 28x28, with their writers as owners (LEAF, Caldas et al., 2018)."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy
import torch
from numpy.typing import NDArray

from agrbench.data.examples import Examples
from agrbench.data.files import FOLDER, cache, fetch
from agrbench.errors import DataError
from agrbench.plugins import Dataset, Folder, Source

HOW = (
    "make it: in data/femnist of https://github.com/TalwalkarLab/leaf run `./preprocess.sh -s niid --sf 0.05 -k 0 "
    "-t sample`, put its data/train and data/test at DIR/femnist/train and DIR/femnist/test, and write --data-dir DIR"
)
FOLDERS = tuple(Folder(f"femnist/{half}", "*.json", HOW, end=b"}") for half in ("train", "test"))
Writer = tuple[str, NDArray[numpy.float32], NDArray[numpy.int64]]


def load() -> tuple[Examples, Examples]:
    """Return the training and test images `(rows, 1, 28, 28)` as LEAF stores them: ink is 0, paper is 1.

    Labels are 0-9, A-Z, a-z. Owners are the writers of the training images, in the order of LEAF's files.
    """
    train, test = (read(fetch(folder)) for folder in FOLDERS)
    return train, test._replace(owners=None)


def reads() -> Sequence[Path]:
    """List the JSON files, which users make themselves, without opening them; none of a folder that is missing."""
    return [path for folder in FOLDERS for path in listed(folder)]


def listed(folder: Folder) -> list[Path]:
    """List the files of a folder, sorted by name, where `fetch` finds it."""
    named = os.environ.get(FOLDER)
    for root in ([Path(named)] if named else []) + [cache()]:
        if found := sorted((root / folder.path).glob(folder.pattern)):
            return found
    return []


def read(folder: Path) -> Examples:
    """Read every JSON file of a folder, sorted by name."""
    parts = [writer for path in sorted(folder.glob("*.json")) for writer in writers(path)]
    if not parts:
        raise DataError(f"{folder}: its files hold no image; {HOW}")
    numbers = {name: number for number, name in enumerate(dict.fromkeys(name for name, _, _ in parts))}
    owners = [numbers[name] for name, _, labels in parts for _ in labels]
    images = numpy.concatenate([images for _, images, _ in parts]).reshape(-1, 1, 28, 28)
    labels = numpy.concatenate([labels for _, _, labels in parts])
    return Examples(torch.from_numpy(images), torch.from_numpy(labels), 62, torch.tensor(owners))


def writers(path: Path) -> list[Writer]:
    """Read the writers of one file, without those who have no images."""
    try:
        content = json.loads(path.read_bytes())
        sizes = zip(content["users"], content["num_samples"], strict=True)
        return [writer(name, content["user_data"][name], size) for name, size in sizes if size]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        why = f"{type(error).__name__}: {error}"
        raise DataError(f"{path}: it is no whole file of LEAF's ({why}); delete it and make it again") from error


def writer(name: str, content: dict[str, list[Any]], size: int) -> Writer:
    """Check one writer's images and labels, and convert them to arrays."""
    images, labels = numpy.array(content["x"]), numpy.array(content["y"])
    if images.shape != (size, 784) or images.dtype.kind not in "iuf" or not ((images >= 0) & (images <= 1)).all():
        raise ValueError(f"x of {name!r} is not {size} lists of 784 numbers from 0 to 1")
    if labels.shape != (size,) or labels.dtype.kind not in "iu" or not ((labels >= 0) & (labels < 62)).all():
        raise ValueError(f"y of {name!r} is not {size} whole numbers from 0 to 61")
    return name, images.astype(numpy.float32), labels.astype(numpy.int64)


dataset = Dataset(
    load,
    model="mlp(512)",
    rate=0.1,
    root_size=2000,
    source=Source("BSD 2-Clause (LEAF); NIST Special Database 19", FOLDERS),
    reads=reads,
)
