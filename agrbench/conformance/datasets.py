"""The laws of datasets: each is a function of a dataset's spec that raises `Violation` if the dataset breaks it."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any
from unittest import mock

import torch

from agrbench.clients.learner import learner
from agrbench.clients.models import named
from agrbench.conformance.cases import Violation
from agrbench.data import files
from agrbench.data.examples import Examples
from agrbench.errors import DataError
from agrbench.plugins import Dataset, registry
from agrbench.plugins.registry import Registry
from agrbench.plugins.stack import Loaded, blame
from agrbench.simulation.preparation import load

LARGEST = 100.0  # a larger feature was not scaled: pixels from 0 to 255, prices, years
SLACK = 0.01  # of the test rows: repetitions that chance may add


def offline(dataset: str, plugins: tuple[str, ...] = ()) -> None:
    """Load without using the network once the files are present."""
    loaded = _loaded(dataset, plugins)
    with _unplugged():
        load(loaded)


def shape(dataset: str, plugins: tuple[str, ...] = ()) -> None:
    """Load training and test features of one shape, as floats, with one integer label per example."""
    train, test = _data(dataset, plugins)
    for part in (train, test):
        made = part.features.shape[1:], part.features.dtype, part.labels.dtype, part.classes
        if not part.features.is_floating_point() or part.labels.dtype != torch.int64 or part.labels.ndim != 1:
            raise Violation(
                f"features are {part.features.dtype} and labels {part.labels.dtype}; write floats and int64"
            )
        if made != (train.features.shape[1:], train.features.dtype, train.labels.dtype, train.classes):
            raise Violation(f"test examples are {made}, unlike the training examples")


def finite(dataset: str, plugins: tuple[str, ...] = ()) -> None:
    """Load finite features between -100 and 100 that are not all equal."""
    for name, part in _parts(dataset, plugins):
        low, high = (float(end) for end in torch.aminmax(part.features))
        if not -LARGEST <= low < high <= LARGEST:
            raise Violation(f"the {name} features go from {low:g} to {high:g}; scale them, pixels to 0..1 for example")


def labels(dataset: str, plugins: tuple[str, ...] = ()) -> None:
    """Load labels from 0 to one less than the number of classes, with every class among the training examples."""
    for name, part in _parts(dataset, plugins):
        low, high = (int(end) for end in torch.aminmax(part.labels))
        if low < 0 or high >= part.classes:
            raise Violation(f"the {name} labels go from {low} to {high}, and there are {part.classes} classes")
        missing = part.classes - int(part.labels.bincount(minlength=part.classes).count_nonzero())
        if name == "training" and missing:
            raise Violation(f"{missing} of {part.classes} classes are not among the training examples")


def disjoint(dataset: str, plugins: tuple[str, ...] = ()) -> None:
    """Repeat training rows among the test rows at most twice as often as among the training rows, plus 1%."""
    train, test = (_keys(part) for part in _data(dataset, plugins))
    seen = set(train)
    again = sum(key in seen for key in test) / len(test)
    usual = 1 - len(seen) / len(train)
    if again > 2 * usual + SLACK:
        raise Violation(f"{again:.1%} of the test rows are training rows, while {usual:.1%} of those repeat another")


def determinism(dataset: str, plugins: tuple[str, ...] = ()) -> None:
    """Load the same examples every time."""
    again = load(_loaded(dataset, plugins))
    for (name, one), other in zip(_parts(dataset, plugins), again, strict=True):
        if not torch.equal(one.features, other.features) or not torch.equal(one.labels, other.labels):
            raise Violation(f"the {name} examples differ from load to load")


def trains(dataset: str, plugins: tuple[str, ...] = ()) -> None:
    """Declare a model with one finite score per class, a positive rate and a root set smaller than the training set."""
    loaded = _loaded(dataset, plugins)
    train, _ = _data(dataset, plugins)
    few = train.take(torch.arange(min(4, len(train.labels))))
    model = loaded.record.model
    with blame(loaded, "model"):
        build = named(model) if isinstance(model, str) else model
        made = learner(build, tuple(train.features.shape[1:]), train.classes, torch.Generator().manual_seed(0))
        scores = made.logits(made.initial, few.features)
    if scores.shape != (len(few.labels), train.classes) or not scores.isfinite().all():
        raise Violation(
            f"the scores of {len(few.labels)} examples are {tuple(scores.shape)}, of {train.classes} classes"
        )
    if not 0 < loaded.record.root_size < len(train.labels) or not loaded.record.rate > 0:
        raise Violation(f"root_size is {loaded.record.root_size} of {len(train.labels)}, rate {loaded.record.rate:g}")


def require(dataset: str, plugins: tuple[str, ...] = ()) -> None:
    """Refuse a dataset whose files are missing.

    Raises:
        DataError: a file is missing; the message says how to get it.
    """
    for item in _loaded(dataset, plugins).record.source.needed:
        if files.find(item) is None:
            raise DataError(
                f"{item.path} is not at hand, so {dataset} cannot be checked; {files.advice(dataset, item)}"
            )
    try:
        with _unplugged():
            _data(dataset, plugins)
    except DataError:
        raise  # none of several alternative files is present
    except Exception:
        return  # the properties will report this fault


def _loaded(dataset: str, plugins: tuple[str, ...]) -> Loaded[Dataset]:
    return registry.of(plugins).dataset(dataset)


def _data(dataset: str, plugins: tuple[str, ...]) -> tuple[Examples, Examples]:
    return _read(dataset, plugins, registry.of(plugins))


@lru_cache(maxsize=1)
def _read(dataset: str, plugins: tuple[str, ...], known: Registry) -> tuple[Examples, Examples]:
    return load(known.dataset(dataset))


def _parts(dataset: str, plugins: tuple[str, ...]) -> Iterator[tuple[str, Examples]]:
    yield from zip(("training", "test"), _data(dataset, plugins), strict=True)


def _keys(part: Examples) -> list[bytes]:
    return [hashlib.blake2b(row.tobytes(), digest_size=12).digest() for row in part.features.flatten(1).numpy()]


@contextmanager
def _unplugged() -> Iterator[None]:
    """Refuse every host lookup and connection."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise Violation("load asks for the network although its files are at hand")

    with mock.patch.object(socket, "getaddrinfo", refuse), mock.patch.object(socket.socket, "connect", refuse):
        yield
