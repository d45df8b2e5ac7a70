"""Batches of CIFAR-10 that are made up: a few records with labels 0, 1, ..., 9, 0, ..."""

import hashlib
import lzma
from pathlib import Path

import numpy as np
import pooch
import pytest

from agrbench.data import cifar, files

HERE = Path("here")
ROWS = 11


def records(rows: int = ROWS, seed: int = 0) -> bytes:
    """Make records of the binary form."""
    table = np.random.default_rng(seed).integers(0, 256, (rows, cifar.RECORD), np.uint8)
    table[:, 0] = np.arange(rows) % 10
    return table.tobytes()


def git_id(content: bytes) -> str:
    return hashlib.sha1(b"blob " + str(len(content)).encode() + b"\0" + content).hexdigest()


def put_single(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Put every batch into a data folder as a file of its own."""
    for name in (*cifar.TRAINING, cifar.TEST):
        (folder / f"{name}.bin.xz").write_bytes(lzma.compress(records()))


def made_batches(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """Make an empty data folder and user cache without a network; the batches to find are the made ones, all alike."""
    patch.setenv(files.FOLDER, str(folder / "data"))
    patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    content = records()
    sums = dict.fromkeys(cifar.TRAINING, hashlib.sha256(content).hexdigest())
    patch.setattr(cifar, "SUMS", sums | {cifar.TEST: git_id(content)})

    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    patch.setattr(pooch.HTTPDownloader, "__call__", offline)
    (folder / "data" / "cifar10").mkdir(parents=True)
    return folder / "data" / "cifar10"
