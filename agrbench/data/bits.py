"""Read text tables of bits and labels, as tabular datasets publish them; errors name the number of a malformed line."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy
from numpy.typing import NDArray
from torch import Generator

from agrbench.data.examples import Examples, split
from agrbench.data.files import corrupt


def bits(path: Path, content: bytes, width: int) -> tuple[NDArray[numpy.uint8], list[bytes]]:
    """Read lines that end in `width` comma-separated bits: `(lines, width)`, and each line's text before its bits.

    Raises:
        DataError: a line does not end so; the message names the file and counts lines from 1.
    """
    span, commas = 2 * width - 1, b"," * (width - 1)
    table = numpy.empty((content.count(b"\n") + 1, width), numpy.uint8)
    beginnings = []
    for number, line in enumerate(io.BytesIO(content)):
        line = line.rstrip(b"\r\n")
        values = line[-span:]
        if len(values) != span or values[1::2] != commas or values[::2].strip(b"01"):
            raise corrupt(path, f"line {number + 1} does not end in {width} zeros and ones between commas")
        table[number] = numpy.frombuffer(values[::2], numpy.uint8) - ord("0")
        beginnings.append(line[:-span])
    return table[: len(beginnings)], beginnings


def halves(examples: Examples, test_size: int, rng: Generator) -> tuple[Examples, Examples]:
    """Split rows of bytes once, at random, into `(train, test)`, and then convert them to floats, which are larger."""
    train, test = split(examples, test_size, rng)
    return train._replace(features=train.features.float()), test._replace(features=test.features.float())


def labels(path: Path, texts: Sequence[bytes], classes: int, end: bytes = b"") -> list[int]:
    """Read texts that are a label from 1 to `classes` followed by `end`, as labels from 0.

    Raises:
        DataError: a text is anything else; the message names the file and counts lines from 1.
    """
    wanted = {b"%d%b" % (number, end): number - 1 for number in range(1, classes + 1)}
    for line, text in enumerate(texts, 1):
        if text not in wanted:
            given = text[:20].decode(errors="replace")
            behind = f" with {end.decode()!r} behind it" if end else ""
            raise corrupt(path, f"line {line} begins with {given!r}, not with a label from 1 to {classes}{behind}")
    return [wanted[text] for text in texts]
