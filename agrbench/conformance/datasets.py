"""The laws of datasets: each is a function of a dataset's spec that raises `Violation` if the dataset breaks it."""

from __future__ import annotations

import hashlib
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any
from unittest import mock

import numpy as np
import torch

from agrbench.clients.learner import Learner, fitted, learner
from agrbench.clients.models import named
from agrbench.clients.modules import Functional
from agrbench.conformance.cases import Violation
from agrbench.data import files
from agrbench.data.examples import Examples, batch
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
    """Load training and test features of one shape and type, with one label per example."""
    train, test = _data(dataset, plugins)
    if train.features.dtype != test.features.dtype:
        raise Violation(f"training features are {train.features.dtype}, and test features {test.features.dtype}")


def finite(dataset: str, plugins: tuple[str, ...] = ()) -> None:
    """Load floats between -100 and 100, or whole numbers, that are not all equal."""
    for name, part in _parts(dataset, plugins):
        low, high = (float(end) for end in torch.aminmax(part.features))
        if not part.features.is_floating_point() and low < high:
            continue
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
    loaded, (made, few) = _loaded(dataset, plugins), _model(dataset, plugins)
    scores, rows = made.logits(made.initial, few.features), len(_data(dataset, plugins)[0].labels)
    if scores.shape != (len(few.labels), few.classes) or not scores.isfinite().all():
        raise Violation(f"the scores of {len(few.labels)} examples are {tuple(scores.shape)}, of {few.classes} classes")
    if not 0 < loaded.record.root_size < rows or not loaded.record.rate > 0:
        raise Violation(f"root_size is {loaded.record.root_size} of {rows}, rate {loaded.record.rate:g}")


def steady(dataset: str, plugins: tuple[str, ...] = ()) -> None:
    """Declare a model that draws no random numbers in evaluation: the same examples have the same scores."""
    made, few = _model(dataset, plugins)
    if isinstance(made, Functional) and made.draws(few.features, training=False):
        raise Violation("the model draws random numbers in evaluation mode; use nn.Dropout, or ask self.training first")


def frozen(dataset: str, plugins: tuple[str, ...] = ()) -> None:
    """Declare a model whose parameters change by the optimizer alone: calling it in training moves none."""
    made, few = _model(dataset, plugins)
    if not isinstance(made, Functional):
        return
    before = {name: parameter.detach().clone() for name, parameter in made.module.named_parameters()}
    start = made.initial.clone()
    made.gradients(start, start.new_empty(1, len(start)))(made.prepared(batch([few])), [0])
    moved = [name for name, parameter in made.module.named_parameters() if not torch.equal(parameter, before[name])]
    if moved or not torch.equal(start, made.initial):
        raise Violation(f"calling the model in training changes {', '.join(moved) or 'its parameters'}")


def private(dataset: str, plugins: tuple[str, ...] = ()) -> None:
    """Leave the random states of torch, numpy and Python as they are, in loading, building and calling the model."""
    with _watched("loading"):
        load(_loaded(dataset, plugins))
    with _watched("building the model"):
        made, few = _model(dataset, plugins)
    with _watched("calling the model"):
        start = made.initial.clone()
        made.gradients(start, start.new_empty(1, len(start)))(made.prepared(batch([few])), [0])
        made.logits(start, few.features)


@contextmanager
def _watched(what: str) -> Iterator[None]:
    """Raise if the global random states change; they have just moved on, so that a fixed seed changes them, too."""
    saved = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        torch.rand(1), np.random.rand(), random.random()  # noqa: NPY002
        before = _random_states()
        yield
        now = _random_states()
    finally:
        torch.set_rng_state(saved[0])
        np.random.set_state(saved[1])  # noqa: NPY002
        random.setstate(saved[2])
    changed = [name for name in before if now[name] != before[name]]
    if changed:
        raise Violation(
            f"{what} changes the global random state of {' and '.join(changed)}, so results depend on what ran before; "
            "draw from a generator of your own"
        )


def _random_states() -> dict[str, str]:
    states = torch.get_rng_state().tolist(), np.random.get_state(), random.getstate()  # noqa: NPY002
    return dict(zip(("torch", "numpy", "Python"), map(str, states), strict=True))


def _model(dataset: str, plugins: tuple[str, ...]) -> tuple[Learner, Examples]:
    """Build the model, and a few training examples in a type that it takes."""
    loaded, (train, _) = _loaded(dataset, plugins), _data(dataset, plugins)
    model = loaded.record.model
    with blame(loaded, "model"):
        build = named(model) if isinstance(model, str) else model
        made = learner(build, tuple(train.features.shape[1:]), train.classes, torch.Generator().manual_seed(0))
        return made, fitted(made, train.take(torch.arange(min(4, len(train.labels)))))


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
