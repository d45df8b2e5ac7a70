"""PURCHASE100 and TEXAS100: every row and label of the archive in order, and malformed lines refused by name."""

from __future__ import annotations

import importlib
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from agrbench.data.examples import Examples
from agrbench.errors import DataError
from agrbench.plugins import File
from agrbench.plugins.registry import Registry
from tests.helpers.datasets import archive, bits, line, purchase, texas

purchase100, texas100 = (importlib.import_module(f"agrbench.datasets.{name}") for name in ("purchase100", "texas100"))


WRITERS = [(purchase, purchase100.read, 600), (texas, texas100.read, 6169)]


@pytest.mark.oracle("purchase100", "texas100")
@pytest.mark.parametrize(("write", "read", "width"), WRITERS)
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_every_row_and_label_of_the_archive_is_read_in_order(
    write: Callable[..., Path], read: Callable[[Path], Examples], width: int, end: bytes, tmp_path: Path
) -> None:
    table, labels = bits(37, width)
    examples = read(write(tmp_path / "a.tgz", table, labels, end))
    assert examples.features.tolist() == table
    assert (examples.labels + 1).tolist() == labels
    assert examples.classes == 100


@pytest.mark.trap("purchase100", "texas100")
def test_a_last_line_without_its_end_is_read(tmp_path: Path) -> None:
    table, labels = bits(2, 600)
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
    path = write(folder / file.path, *bits(3, width))
    with pytest.raises(DataError) as refused:
        Registry().dataset(name).record.load()
    git = subprocess.run(["git", "hash-object", str(path)], capture_output=True, text=True, check=True).stdout.strip()
    assert f"{path}: its git blob id is {git}, the publisher's {file.blob}" in str(refused.value)
