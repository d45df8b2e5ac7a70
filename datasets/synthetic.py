"""Synthetic: Gaussian clusters, one per class, of any number and shape, for tests and for scaling."""

from math import inf, prod

import torch

from agrbench.data.examples import Examples
from agrbench.errors import AgrbenchError
from agrbench.plugins import Dataset, Source
from agrbench.randomness import generator

MOST = 1 << 32  # numbers in all: 16 GiB
ROOT = 100


def load(
    clients: int = 1,
    *,
    rows: int = 2000,
    test: int = 500,
    shape: tuple[int, ...] = (20,),
    classes: int = 10,
    spread: float = 1.0,
) -> tuple[Examples, Examples]:
    """Return `rows` training and `test` test rows `(rows, *shape)`, with labels that cycle through the classes.

    Each class's centre is standard normal; a row is its class's centre plus `spread` times standard normal noise. If
    `clients` outnumber the rows, there are two rows for each client and 100 for the server's root set.
    """
    rows = rows if rows >= clients else 2 * clients + ROOT
    check(rows, test, shape, classes, spread)
    rng = generator(0, "synthetic")
    centres = torch.randn(classes, *shape, generator=rng)
    labels = torch.arange(rows + test) % classes
    features = torch.randn(rows + test, *shape, generator=rng).mul_(spread).add_(centres[labels])
    everything = Examples(features, labels, classes)
    return everything.take(torch.arange(rows)), everything.take(torch.arange(rows, rows + test))


def check(rows: int, test: int, shape: tuple[int, ...], classes: int, spread: float) -> None:
    """Raise AgrbenchError if no such dataset can be made."""
    if not shape or not all(type(size) is int and size > 0 for size in shape):
        raise AgrbenchError(f"synthetic: shape={shape!r} is no shape; write whole sizes above 0, such as (20,)")
    if classes < 2:
        raise AgrbenchError(f"synthetic: classes={classes} leaves nothing to tell apart; write classes=2 or more")
    for name, value in (("rows", rows), ("test", test)):
        if value < classes:
            raise AgrbenchError(f"synthetic: {name}={value} is under one a class; write {name}={classes} or more")
    if not 0 <= spread < inf:
        raise AgrbenchError(f"synthetic: spread={spread} is no width; write 0 or more, such as spread=1.0")
    if (rows + test + classes) * prod(shape) > MOST:
        raise AgrbenchError(f"synthetic: {rows + test} rows of {shape} are over {MOST} numbers; write fewer or smaller")


dataset = Dataset(
    load,
    model="mlp(64)",
    rate=0.1,
    root_size=ROOT,
    source=Source("made here, free of rights"),
)
