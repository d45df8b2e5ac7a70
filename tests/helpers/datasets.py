"""Files in the forms in which datasets are published."""

import gzip
import io
import json
import shutil
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from agrbench.data.examples import Examples

Halves = tuple[Examples, Examples]


def archive(path: Path, members: Mapping[str, bytes]) -> Path:
    """Write a gzipped tar archive."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as opened:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            opened.addfile(info, io.BytesIO(content))
    return path


def write_json(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


# ---------------------------------------------------------------- MNIST


def copied(published: Sequence[Path], folder: Path) -> list[Path]:
    """Copy the published files of MNIST into a data folder."""
    (folder / "mnist").mkdir()
    paths = [folder / "mnist" / path.name for path in published]
    for path, copy in zip(published, paths, strict=True):
        shutil.copyfile(path, copy)
    return paths


def idx(values: NDArray[np.uint8]) -> bytes:
    """Return the gzipped IDX file of an array of bytes."""
    sizes = b"".join(size.to_bytes(4) for size in values.shape)
    return gzip.compress(bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes())


def zipped(path: Path, members: Mapping[str, bytes]) -> Path:
    """Write a zip archive."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return path


# ---------------------------------------------------------------- PURCHASE100 and TEXAS100


def line(row: Sequence[int]) -> bytes:
    return ",".join(map(str, row)).encode()


def bits(rows: int, width: int) -> tuple[list[list[int]], list[int]]:
    """Draw a table of zeros and ones, and labels from 1 to 100."""
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


# ---------------------------------------------------------------- FEMNIST


def images(rows: int, seed: int) -> list[list[float]]:
    """Draw images of 28 x 28 pixels, each a list of bytes over 255."""
    pixels = torch.randint(256, (rows, 784), generator=torch.Generator().manual_seed(seed))
    return [[value / 255 for value in row] for row in pixels.tolist()]


def leaf(*writers: tuple[str, list[int]]) -> dict[str, Any]:
    """Return the content of one of LEAF's files, from writers' names and the labels of their images."""
    return {
        "users": [name for name, _ in writers],
        "num_samples": [len(labels) for _, labels in writers],
        "user_data": {name: {"x": images(len(labels), len(name)), "y": labels} for name, labels in writers},
    }
