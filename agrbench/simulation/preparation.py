"""Load a dataset, distribute it to a cell's clients and build the model: what all runs of a seed share."""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from functools import partial

import torch

from agrbench.cells import Cell
from agrbench.clients.federation import Federation, federate
from agrbench.clients.learner import Learner, fitted, learner
from agrbench.clients.local_training import check_smallest_batch
from agrbench.clients.models import named
from agrbench.clients.partitions import natural_owners
from agrbench.clients.schedules import Schedule
from agrbench.data.checking import checked_pair
from agrbench.data.examples import Examples
from agrbench.plugins import Dataset
from agrbench.plugins.stack import Loaded, blame
from agrbench.randomness import generator

Prepared = tuple[Federation, Learner]
"""What all runs with the same dataset, seed and settings share; none of them changes it."""


def prepare(cell: Cell, dataset: Loaded[Dataset], data: tuple[Examples, Examples]) -> Prepared:
    """Distribute `(train, test)` data to a cell's clients and build its model.

    Raises:
        AgrbenchError: the examples do not fit the partition, the root set or the model.
    """
    device, randomness = torch.device(cell.device), partial(generator, cell.seed)
    train, test = (part.to(device) for part in data)
    model = cell.model or dataset.record.model
    with nullcontext() if cell.model else blame(dataset, "model"):
        build = named(model) if isinstance(model, str) else model
        made = learner(build, tuple(train.features.shape[1:]), train.classes, randomness("model"))
        train, test = fitted(made, train), fitted(made, test)
    federation = federate(train, test, dataset.record.root_size, cell, randomness)
    with nullcontext() if cell.model else blame(dataset, "model"):
        shards, schedule = federation.shards, Schedule.of(cell, dataset.record.rate)
        fewest = int(schedule.smallest_batch(shards.sizes).argmin())
        check_smallest_batch(made, [shards[fewest]], schedule)
        check_smallest_batch(made, [federation.root], schedule.of_root(len(federation.root.labels), shards.sizes))
    return federation, made


def owners(dataset: Loaded[Dataset]) -> int:
    """Count the natural owners of a dataset's training examples."""
    train, _ = load(dataset)
    return len(natural_owners(train)[0])


def is_made_to_measure(dataset: Loaded[Dataset]) -> bool:
    """Return whether a dataset's `load` is told how many clients share its rows."""
    parameters = inspect.signature(dataset.record.load).parameters.values()
    return any(each.kind is not each.KEYWORD_ONLY for each in parameters)


def load(dataset: Loaded[Dataset], clients: int = 1) -> tuple[Examples, Examples]:
    """Load a dataset for so many clients, and check and convert its examples (see `agrbench.data.checking`)."""
    with blame(dataset, "load"):
        return checked_pair(dataset.record.load(clients) if is_made_to_measure(dataset) else dataset.record.load())
