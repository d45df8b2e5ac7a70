"""CIFAR-10: read alike from each of its published forms, and nothing in them is ever run."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agrbench.data import cifar, files
from agrbench.errors import DataError, SpecError
from agrbench.plugins import File
from agrbench.plugins.registry import Registry
from tests.helpers.cifar import HERE, ROWS, made_batches, put_single, records
from tests.helpers.datasets import archive


def pickled(content: bytes, fortran: bool = False) -> bytes:
    """Write records as Python 2 and numpy 1 pickled the published batches: byte strings, protocol 2."""
    table = np.frombuffer(content, np.uint8).reshape(-1, cifar.RECORD)
    pixels = table[:, 1:].tobytes(order="F" if fortran else "C")

    def short(text: bytes) -> bytes:
        return pickle.SHORT_BINSTRING + bytes([len(text)]) + text

    def number(value: int) -> bytes:
        return pickle.BININT + value.to_bytes(4, "little", signed=True)

    def string(text: bytes) -> bytes:
        return pickle.BINSTRING + len(text).to_bytes(4, "little") + text

    memo = (pickle.BINPUT + bytes([place]) for place in range(256))
    chunks = [table[start : start + 7, 0].tolist() for start in range(0, len(table), 7)]
    labels = b"".join(b"(" + b"".join(pickle.BININT1 + bytes([n]) for n in some) + b"e" for some in chunks)
    names = b"(" + b"".join(short(b"image_%d.png" % row) for row in range(len(table))) + b"e"
    kind = b"cnumpy\ndtype\n" + short(b"u1") + b"K\x00K\x01\x87R(K\x03" + short(b"|") + b"NNN"
    kind += number(-1) + number(-1) + b"K\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\n" + b"cnumpy\nndarray\nK\x00\x85" + short(b"b") + b"\x87R"
    array += b"(K\x01" + number(len(table)) + number(3072) + b"\x86" + next(memo) + kind
    array += (b"\x88" if fortran else b"\x89") + string(pixels) + b"tb"
    return b"".join(
        [
            b"\x80\x02}", next(memo), b"(", short(b"batch_label"), next(memo), short(b"training batch 1 of 5"),
            short(b"labels"), next(memo), b"]", next(memo), labels, short(b"data"), next(memo), array,
            short(b"filenames"), b"]", next(memo), names, b"u.",
        ]
    )  # fmt: skip


def archived(path: Path, members: dict[str, bytes]) -> File:
    """Make an archive, and say what would be published of it."""
    archive(path, members)
    return File(f"cifar10/{path.name}", "https://data.example.org/", files.sha256(path))


@pytest.fixture
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return made_batches(tmp_path, monkeypatch)


def put_binary(folder: Path, patch: pytest.MonkeyPatch) -> None:
    members = {f"cifar-10-batches-bin/{name}.bin": records() for name in (*cifar.TRAINING, cifar.TEST)}
    patch.setattr(cifar, "BINARY", archived(folder / "cifar-10-binary.tar.gz", members))


def put_python(folder: Path, patch: pytest.MonkeyPatch) -> None:
    members = {f"cifar-10-batches-py/{name}": pickled(records()) for name in (*cifar.TRAINING, cifar.TEST)}
    patch.setattr(cifar, "PYTHON", archived(folder / "cifar-10-python.tar.gz", members))


PUT = {"binary": put_binary, "python": put_python, "single": put_single}


# Reading


@pytest.mark.oracle("cifar10")
def test_records_are_a_label_and_three_planes_row_by_row() -> None:
    images, labels = cifar.parse(HERE, records())
    table = np.frombuffer(records(), np.uint8).reshape(ROWS, cifar.RECORD)
    assert images.dtype == torch.uint8
    assert labels.tolist() == [row % 10 for row in range(ROWS)]
    for row, channel, y, x in ((0, 0, 0, 0), (3, 0, 0, 31), (3, 0, 1, 0), (7, 1, 0, 0), (10, 2, 31, 31)):
        assert images[row, channel, y, x] == table[row, 1 + channel * 1024 + y * 32 + x]


@pytest.mark.trap("cifar10")
@pytest.mark.parametrize("content", [b"", records()[:-1], records() + b"\0", records()[:3072]])
def test_what_is_not_whole_records_is_refused_by_name(content: bytes) -> None:
    with pytest.raises(DataError, match=f"here: its {len(content)} bytes are not records of 3073; delete it"):
        cifar.parse(HERE, content)


@pytest.mark.trap("cifar10")
@pytest.mark.parametrize("label", [10, 255])
def test_a_label_that_is_no_class_is_refused_by_name(label: int) -> None:
    content = bytearray(records())
    content[3073 * 4] = label
    with pytest.raises(DataError, match=f"here: it has a label {label}"):
        cifar.parse(HERE, bytes(content))


@pytest.mark.parametrize("fortran", [False, True], ids=["row by row", "column by column"])
@given(rows=st.integers(1, 30), seed=st.integers(0, 9))
def test_a_pickled_batch_is_read_as_the_records_it_was_made_from(fortran: bool, rows: int, seed: int) -> None:
    content = records(rows, seed)
    assert cifar.unpickled(HERE, pickled(content, fortran)) == content


def test_the_made_pickle_is_one_that_python_reads_as_the_published_form() -> None:
    """Load it as users of the published form do, to see that the tests read the right thing."""
    batch = pickle.loads(pickled(records()), encoding="bytes")
    assert set(batch) == {b"batch_label", b"labels", b"data", b"filenames"}
    table = np.frombuffer(records(), np.uint8).reshape(ROWS, cifar.RECORD)
    assert np.array_equal(batch[b"data"], table[:, 1:])
    assert batch[b"labels"] == table[:, 0].tolist()


class Evil:
    """What runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.trap("cifar10")
def test_a_pickle_that_runs_a_command_runs_nothing_and_is_refused(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    content = pickle.dumps({"labels": [1, 2], "data": Evil(f"touch {trace}")}, protocol=2)
    with pytest.raises(DataError, match="here: it holds no batch"):
        cifar.unpickled(HERE, content)
    assert not trace.exists()
    pickle.loads(content)
    assert trace.exists()


def test_a_command_beside_a_sound_batch_runs_not_either(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    evil = pickle.dumps(Evil(f"touch {trace}"), protocol=2)[2:-1]
    content = b"\x80\x02" + evil + b"0" + pickled(records())[2:]
    assert cifar.unpickled(HERE, content) == records()
    assert not trace.exists()
    pickle.loads(content, encoding="bytes")
    assert trace.exists()


@pytest.mark.trap("cifar10")
@given(st.data())
def test_a_damaged_pickle_is_read_or_refused_and_nothing_else(source: st.DataObject) -> None:
    whole = pickled(records(3))
    start = source.draw(st.integers(0, len(whole)))
    noise = source.draw(st.binary(max_size=20))
    damaged = source.draw(st.sampled_from([whole[:start], whole[:start] + noise + whole[start + len(noise) :], noise]))
    try:
        assert len(cifar.unpickled(HERE, damaged)) % cifar.RECORD == 0
    except DataError as error:
        assert "here: it holds no batch" in str(error)


# Which form


@pytest.mark.oracle("cifar10")
@pytest.mark.parametrize("form", PUT)
@pytest.mark.parametrize("test", ["official", "batch5"])
def test_every_form_gives_the_same_examples(form: str, test: str, away: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    PUT[form](away, monkeypatch)
    train, held = Registry().dataset(f"cifar10(test={test!r},raw=True)").record.load()
    images, labels = cifar.parse(HERE, records())
    batches = 5 if test == "official" else 4
    assert torch.equal(train.features, (images.double() / 255).float().repeat(batches, 1, 1, 1))
    assert torch.equal(held.features, (images.double() / 255).float())
    assert train.labels.tolist() == labels.tolist() * batches
    assert held.labels.tolist() == labels.tolist()
    assert train.classes == held.classes == 10


def test_the_binary_archive_goes_before_the_python_archive_and_both_before_single_files(
    away: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = []
    for form in reversed(PUT):
        PUT[form](away, monkeypatch)
        chosen.append(cifar.parts([cifar.TEST])[0].path.name)
    assert chosen == ["test_batch.bin.xz", "cifar-10-python.tar.gz", "cifar-10-binary.tar.gz"]


@pytest.mark.trap("cifar10")
@pytest.mark.parametrize("form", ["binary", "single"])
def test_a_batch_of_another_content_is_refused_by_name(form: str, away: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    PUT[form](away, monkeypatch)
    for name in (*cifar.TRAINING, cifar.TEST):
        with monkeypatch.context() as changed:
            changed.setitem(cifar.SUMS, name, "0" * 40)
            (part,) = cifar.parts([name])
            with pytest.raises(DataError, match=f"the checksum of its {name} is .*, the publisher's 000.*delete it"):
                part.read()


@pytest.mark.parametrize("form", PUT)
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_file_is_refused_by_name(
    form: str, share: float, away: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    PUT[form](away, monkeypatch)
    path = cifar.parts([cifar.TEST])[0].path
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(DataError, match=f"{path}: .*delete it and fetch it again"):
        Registry().dataset("cifar10(raw=True)").record.load()


def test_without_the_official_test_batch_the_error_says_where_to_get_it_and_what_to_write_instead(
    away: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_single(away, monkeypatch)
    (away / "test_batch.bin.xz").unlink()
    record = Registry().dataset("cifar10").record
    with pytest.raises(DataError) as refused:
        record.load()
    for said in ("test_batch of CIFAR-10", cifar.BINARY.url, 'cifar10(test="batch5")', "--data-dir DIR"):
        assert said in str(refused.value)
    assert [file.path for file in record.source.needed] == ["cifar10-resnet-weights/resnet56-4bfd9763.th"]


def test_without_any_form_the_archive_of_the_binary_form_is_asked_for(away: Path) -> None:
    record = Registry().dataset('cifar10(test="batch5",raw=True)').record
    assert cifar.BINARY in record.source.needed
    with pytest.raises(DataError, match=r"cifar-10-binary\.tar\.gz is not at hand and could not be downloaded"):
        record.load()
    with pytest.raises(DataError) as refused:
        Registry().dataset("cifar10").record.load()
    assert "batch5" not in str(refused.value)


def test_a_test_set_of_another_name_is_refused_when_it_is_named() -> None:
    with pytest.raises(SpecError, match="test"):
        Registry().dataset('cifar10(test="batch4")')


def test_the_model_follows_the_examples_shape() -> None:
    build = Registry().dataset("cifar10").record.model
    assert callable(build)
    assert sum(p.numel() for p in build((64,), 10).parameters()) == 64 * 1024 + 1024 + 1024 * 10 + 10
    assert build((3, 32, 32), 10)(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
