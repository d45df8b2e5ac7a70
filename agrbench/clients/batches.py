"""The batches of many clients: clients that take equally many steps form blocks, and step together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn.utils.rnn import pad_sequence

from agrbench.clients.schedules import Schedule
from agrbench.data.examples import Batch, Examples, batch

Seeds = Sequence[int]
"""A client's seed in a round, for each client."""


class Block(NamedTuple):
    """Clients adjacent in memory that take `steps` steps each; `batches(seeds)` yields a batch for every step."""

    clients: slice
    steps: int
    batches: Callable[[Seeds], Iterable[Batch]]


def blocks(
    shards: Sequence[Examples], schedule: Schedule, most: int, prepared: Callable[[Batch], Batch]
) -> tuple[Block, ...]:
    """Cut the clients, in order, into blocks of at most `most`; `prepared` converts batches for the learner."""
    made = []
    for rows in _runs([len(shard.labels) for shard in shards], schedule, most):
        some = shards[rows]
        if schedule.batch is None:
            parts = [prepared(batch(part)) for part in _cut(some, min(len(some[0].labels), schedule.batches))]
            batches: Callable[[Seeds], Iterable[Batch]] = partial(_repeated, parts * schedule.epochs)
        else:
            batches = partial(_drawn, _Pool.of(some), schedule, prepared)
        made.append(Block(rows, schedule.steps_of(len(some[0].labels)), batches))
    return tuple(made)


def mini_batches(size: int, schedule: Schedule, seed: int) -> list[Tensor]:
    """Draw a client's mini-batches in a round, each the places of its rows among the client's `size` rows.

    Raises:
        ValueError: the schedule has no mini-batches.
    """
    if schedule.batch is None:
        raise ValueError("the schedule draws no mini-batches; write batch=32")
    rng, count = Generator().manual_seed(seed), schedule.steps_of(size)
    epochs = math.ceil(count / math.ceil(size / schedule.batch))
    drawn = [part for _ in range(epochs) for part in torch.split(torch.randperm(size, generator=rng), schedule.batch)]
    return drawn[:count]


class _Pool(NamedTuple):
    """The rows of a block's clients, client after client; `starts` says where each client's rows begin."""

    features: Tensor
    labels: Tensor
    starts: tuple[int, ...]
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, shards: Sequence[Examples]) -> _Pool:
        sizes = tuple(len(shard.labels) for shard in shards)
        features, labels = (torch.cat(parts) for parts in zip(*(shard[:2] for shard in shards), strict=True))
        return cls(features, labels, (0, *accumulate(sizes[:-1])), sizes)

    def take(self, places: Sequence[Tensor]) -> Batch:
        """Select some rows of each client, given by their places among its rows; fewer rows are padded."""
        sizes = torch.tensor([len(mine) for mine in places])
        rows = pad_sequence([mine + start for mine, start in zip(places, self.starts, strict=True)], batch_first=True)
        share = (torch.arange(rows.shape[1]) < sizes[:, None]) / sizes[:, None].double()
        features, rows = self.features, rows.to(self.features.device)
        kind = features.dtype if features.is_floating_point() else torch.float64
        return Batch(features[rows], self.labels[rows], share.to(features.device, kind), tuple(sizes.tolist()))


def _drawn(pool: _Pool, schedule: Schedule, prepared: Callable[[Batch], Batch], seeds: Seeds) -> Iterator[Batch]:
    """Yield the mini-batches of a block's clients, step by step."""
    # A random layer draws from `seed` in the first step, and a client's rows from another one.
    orders = [mini_batches(size, schedule, seed - 1) for size, seed in zip(pool.sizes, seeds, strict=True)]
    for places in zip(*orders, strict=True):
        yield prepared(pool.take(places))


def _repeated(parts: Sequence[Batch], seeds: Seeds) -> Sequence[Batch]:
    """Return the same batches in every round."""
    return parts


def _runs(sizes: Sequence[int], schedule: Schedule, most: int) -> Iterator[slice]:
    """Cut the clients, in order, into runs of at most `most` that take equally many steps, at most half padding."""
    steps = [schedule.steps_of(size) for size in sizes]
    widths = sizes if schedule.batch is None else [min(size, schedule.batch) for size in sizes]
    start = 0
    for stop in range(1, len(sizes) + 1):
        run = widths[start : stop + 1]
        if (
            stop == len(sizes)
            or stop - start == most
            or steps[stop] != steps[start]
            or max(run) * len(run) > 2 * sum(run)
        ):
            yield slice(start, stop)
            start = stop


def _cut(shards: Sequence[Examples], batches: int) -> list[list[Examples]]:
    """Cut each shard's rows, in order, into batches: a list of batches, each with its part of every shard."""
    if batches == 1:
        return [list(shards)]
    rows = [torch.arange(len(shard.labels), device=shard.labels.device).tensor_split(batches) for shard in shards]
    return [[shard.take(mine[place]) for shard, mine in zip(shards, rows, strict=True)] for place in range(batches)]
