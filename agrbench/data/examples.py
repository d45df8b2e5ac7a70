"""Labelled examples, batches of several clients' examples, and how to split and batch them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from agrbench.errors import AgrbenchError
from agrbench.randomness import generator


class About(NamedTuple):
    """What people call things in examples: the names of classes and of owners, each in the order of their numbers.

    `remarks` are sentences for the person who runs the examples, such as which values were filled in.
    """

    classes: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


class Examples(NamedTuple):
    """Labelled examples: `features` `(rows, *shape)` and `labels` `(rows,)` from 0 to `classes - 1`.

    `owners` `(rows,)` holds the number of each row's natural owner, if the data has owners. What `load` of a dataset
    returns may also hold numpy arrays and other forms of labels; `checked` converts them.
    """

    features: Tensor
    labels: Tensor
    classes: int
    owners: Tensor | None = None
    about: About = About()

    def take(self, rows: Tensor) -> Examples:
        """Select rows."""
        owners = None if self.owners is None else self.owners[rows]
        return self._replace(features=self.features[rows], labels=self.labels[rows], owners=owners)

    def join(self, other: Examples) -> Examples:
        """Append the rows of other examples, without owners."""
        features, labels = torch.cat([self.features, other.features]), torch.cat([self.labels, other.labels])
        return self._replace(features=features, labels=labels, owners=None)

    def clone(self) -> Examples:
        """Copy features and labels, so the copy can be written into."""
        return self._replace(features=self.features.clone(), labels=self.labels.clone())

    def to(self, device: torch.device) -> Examples:
        """Move to a device."""
        owners = None if self.owners is None else self.owners.to(device)
        return self._replace(features=self.features.to(device), labels=self.labels.to(device), owners=owners)


class Batch(NamedTuple):
    """Shards of several clients as one tensor: `features` `(clients, rows, *shape)`, `labels` `(clients, rows)`.

    Shorter shards are padded. `share` `(clients, rows)` is 1 over the shard's size, and 0 on padding; `sizes` are the
    shards' sizes without padding.
    """

    features: Tensor
    labels: Tensor
    share: Tensor
    sizes: tuple[int, ...]


def batch(shards: Sequence[Examples]) -> Batch:
    """Stack shards, which may differ in size, into one batch."""
    rows = max(len(shard.labels) for shard in shards)
    first = shards[0].features
    features = first.new_zeros(len(shards), rows, *first.shape[1:])
    labels = shards[0].labels.new_zeros(len(shards), rows)
    share = first.new_zeros(len(shards), rows, dtype=first.dtype if first.is_floating_point() else torch.float64)
    for client, shard in enumerate(shards):
        size = len(shard.labels)
        features[client, :size], labels[client, :size], share[client, :size] = (
            shard.features,
            shard.labels,
            1 / size,
        )
    return Batch(features, labels, share, tuple(len(shard.labels) for shard in shards))


def split(examples: Examples, test_size: int, rng: Generator) -> tuple[Examples, Examples]:
    """Split once, at random, into `(train, test)`."""
    rows = torch.randperm(len(examples.labels), generator=rng)
    return examples.take(rows[test_size:]), examples.take(rows[:test_size])


def kept(examples: Examples, rows: int) -> Examples:
    """Keep `rows` examples, in their order, drawn at random by a seed that no setting changes.

    The draw depends on the two numbers of rows alone, and fewer rows are always a subset of more.

    Raises:
        AgrbenchError: there are fewer examples than that.
    """
    held = len(examples.labels)
    if rows > held:
        raise AgrbenchError(f"rows is {rows} and there are {held} training examples; write rows={held} or less")
    drawn = torch.randperm(held, generator=generator(0, "rows"))[:rows]
    return examples.take(drawn.sort().values)
