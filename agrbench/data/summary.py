"""Describe datasets in numbers: their sizes, and how similar the rows of one class are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from agrbench.data import files
from agrbench.data.columns import listed
from agrbench.data.examples import Examples
from agrbench.data.sources import Source
from agrbench.data.tables import Unnamed
from agrbench.errors import AgrbenchError, DataError

BLOCK = 1 << 22  # numbers normalised at once


class Summary(NamedTuple):
    """A dataset in numbers; `fewest` and `most` rows per class, and `cosine`, cover training and test rows."""

    train: int
    test: int
    shape: tuple[int, ...]
    classes: int
    fewest: int
    most: int
    cosine: float


def summarise(train: Examples, test: Examples) -> Summary:
    """Count rows and classes, and measure how similar the rows of a class are."""
    counts = torch.cat([train.labels, test.labels]).bincount(minlength=train.classes)
    return Summary(
        train=len(train.labels),
        test=len(test.labels),
        shape=tuple(train.features.shape[1:]),
        classes=train.classes,
        fewest=int(counts.min()),
        most=int(counts.max()),
        cosine=intra_label_cosine([train, test]),
    )


def intra_label_cosine(halves: Sequence[Examples]) -> float:
    """Average over classes the mean cosine of all pairs of rows of a class, self-pairs included, without zero rows.

    A class's mean is the squared length of its mean unit row, so no pairs are formed. NaN if all rows are zero.
    """
    classes, width = halves[0].classes, halves[0].features[0].numel()
    sums, counts = torch.zeros(classes, width, dtype=torch.float64), torch.zeros(classes, dtype=torch.float64)
    for half in halves:
        step = max(BLOCK // width, 1)
        for start in range(0, len(half.labels), step):
            rows, labels = half.features[start : start + step].flatten(1), half.labels[start : start + step]
            lengths = rows.norm(dim=1, dtype=torch.float64)
            kept = lengths > 0
            sums.index_add_(0, labels[kept], rows[kept] / lengths[kept, None])
            counts += labels[kept].bincount(minlength=classes)
    held = counts > 0
    return float((sums[held] / counts[held, None]).square().sum(1).mean())


def describe(
    name: str,
    source: Source,
    load: Callable[[], tuple[Examples, Examples]],
    reads: Callable[[], Sequence[Path]] | None = None,
) -> tuple[Summary | None, str]:
    """Return a dataset's summary, or `None` if it cannot be loaded, and its state in one or more lines.

    The state tells how to get missing files, or else where the data is, the names of classes and owners, and remarks.
    """
    try:
        missing = [item for item in source.needed if files.find(item) is None]
    except DataError as error:
        return None, f"damaged: {error}"
    if missing:
        return None, f"{files.state(source)}; {files.advice(name, missing[0])}"
    try:
        train, test = load()
        state = f"read from {', '.join(map(str, reads()))}" if reads else files.state(source)
        return summarise(train, test), "\n".join([state, *told(train)])
    except Unnamed as error:
        return None, str(error)
    except AgrbenchError as error:
        return None, f"it cannot be read: {error}"
    except Exception as error:  # a plugin may raise anything, and the other datasets must still be listed
        return None, f"it cannot be loaded: {type(error).__name__}: {error}"


def told(train: Examples) -> list[str]:
    """List what people call the classes, how many owners there are, and the remarks."""
    about = train.about
    classes, owners = ([" ".join(name.split()) for name in names] for names in about[:2])
    lines = []
    if classes:
        lines.append(f"classes: {listed([f'{number} = {name}' for number, name in enumerate(classes)])}")
    if train.owners is not None:
        counts = train.owners.bincount()
        counts = counts[counts > 0]
        rows = f"{int(counts.min()):,} to {int(counts.max()):,} training rows each"
        names = f": {listed(owners)}" if owners else ""
        lines.append(f"owners: {len(counts):,}, {rows}{names}")
    return [*lines, *about.remarks]
