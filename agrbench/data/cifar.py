"""Read CIFAR-10 in each published format; pickled files are parsed and never executed."""

from __future__ import annotations

import hashlib
import lzma
import os
import pickletools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from agrbench.data import files
from agrbench.data.sources import File
from agrbench.errors import DataError

PIXELS = 3 * 32 * 32
RECORD = 1 + PIXELS  # a label, then red, green and blue, each row by row
LIMIT = 1 << 26  # bytes: more than 10,000 records
BINARY = File(
    "cifar10/cifar-10-binary.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
)
PYTHON = File(
    "cifar10/cifar-10-python.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
)
SUMS = {  # SHA-256 of the binary form; for the test batch, only git's blob id is published
    "data_batch_1": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "test_batch": "e3f3b4653f18f27ada1558cabc3352a3ed1b25cc",
}
TRAINING = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST = "test_batch"
BOOKKEEPING = {"EMPTY_LIST", "MARK", "APPEND", "APPENDS", "PUT", "BINPUT", "LONG_BINPUT"}
NUMBERS = {"INT", "BININT", "BININT1", "BININT2"}


@dataclass(frozen=True)
class Part:
    """One batch, such as `test_batch`, and the file that holds it, with that file's `sha256`."""

    name: str
    path: Path
    sha256: str
    records: Callable[[Path, str], bytes]

    def read(self) -> tuple[Tensor, Tensor]:
        """Read the images `(rows, 3, 32, 32)`, as bytes, and the labels `(rows,)`.

        Raises:
            DataError: the file is damaged.
        """
        return parse(self.path, self.records(self.path, self.name))


def archive() -> File | None:
    """Return an archive that is present, `None` if all training batches are single files, or else the binary one."""
    for file in (BINARY, PYTHON):
        if files.find(file) is not None:
            return file
    return BINARY if absent(TRAINING) else None


def parts(names: Sequence[str]) -> list[Part]:
    """Find batches in an archive that is present, else in single files, else in an archive that is downloaded.

    Raises:
        DataError: some batches cannot be obtained.
    """
    chosen = archive()
    if chosen is not None:
        path = files.fetch(chosen)
        records = pickled if chosen is PYTHON else binary
        return [Part(name, path, chosen.sha256, records) for name in names]
    if absent(names):
        raise DataError(
            f"{', '.join(absent(names))} of CIFAR-10 is not at hand; get {BINARY.url} (sha256 {BINARY.sha256}), "
            f"put it at {files.cache() / BINARY.path}, or put it at DIR/{BINARY.path} and write --data-dir DIR"
        )
    return [Part(name, path, files.sha256(path), single) for name in names for path in alone(name)[:1]]


def absent(names: Sequence[str]) -> list[str]:
    """List the batches that are not present as single files."""
    return [name for name in names if not alone(name)]


def alone(name: str) -> list[Path]:
    """List the paths of a batch's single compressed file: in the data folder, then in the cache."""
    file = f"{name}.bin.xz"
    folder = os.environ.get(files.FOLDER)
    places = [Path(folder) / "cifar10" / file, Path(folder) / file] if folder else []
    return [path for path in (*places, files.cache() / "cifar10" / file) if path.is_file()]


def binary(path: Path, name: str) -> bytes:
    """Read a batch's records from the archive of the binary form."""
    return checked(path, name, files.member(path, f"cifar-10-batches-bin/{name}.bin"))


def single(path: Path, name: str) -> bytes:
    """Read a batch's records from its single compressed file."""
    try:
        with lzma.open(path) as stream:
            content = stream.read(LIMIT)
    except (lzma.LZMAError, EOFError) as error:
        raise files.corrupt(path, f"it is not whole ({error})") from error
    return checked(path, name, content)


def pickled(path: Path, name: str) -> bytes:
    """Read a batch's records from the archive of the Python form."""
    return unpickled(path, files.member(path, f"cifar-10-batches-py/{name}"))


def unpickled(path: Path, content: bytes) -> bytes:
    """Convert a pickled batch to records of the binary form by reading its opcodes, without executing any."""
    try:
        steps = [(step.name, argument) for step, argument, _ in pickletools.genops(content)]
        arguments = [argument for _, argument in steps]
        listed = takewhile(lambda step: step[0] in NUMBERS | BOOKKEEPING, steps[arguments.index("labels") + 1 :])
        labels = [argument for name, argument in listed if name in NUMBERS]
        texts = [argument if isinstance(argument, str) else "" for argument in arguments]
        place = texts.index(max(texts, key=len))  # the images' bytes; the opcode before them states their array order
        images = np.frombuffer(texts[place].encode("latin-1"), np.uint8)
        images = images.reshape(len(labels), PIXELS, order="F" if steps[place - 1][0] == "NEWTRUE" else "C")
        return np.column_stack([np.array(labels, np.uint8), images]).tobytes()
    except (ValueError, OverflowError, AttributeError) as error:
        raise files.corrupt(path, f"it holds no batch of images and labels ({error})") from error


def parse(path: Path, records: bytes) -> tuple[Tensor, Tensor]:
    """Split records into images `(rows, 3, 32, 32)`, as bytes, and labels `(rows,)` from 0 to 9."""
    if not records or len(records) % RECORD:
        raise files.corrupt(path, f"its {len(records)} bytes are not records of {RECORD}")
    table = torch.frombuffer(bytearray(records), dtype=torch.uint8).view(-1, RECORD)
    labels = table[:, 0].long()
    if int(labels.max()) > 9:
        raise files.corrupt(path, f"it has a label {int(labels.max())}, and the classes go from 0 to 9")
    return table[:, 1:].reshape(-1, 3, 32, 32), labels


def checked(path: Path, name: str, records: bytes) -> bytes:
    """Return a batch's records, or raise DataError if their checksum is not the published one."""
    wanted = SUMS[name]
    if name == TEST:
        head = b"blob %d\0" % len(records)
        given = hashlib.sha1(head + records, usedforsecurity=False).hexdigest()
    else:
        given = hashlib.sha256(records).hexdigest()
    if given != wanted:
        raise files.corrupt(path, f"the checksum of its {name} is {given}, the publisher's {wanted}")
    return records
