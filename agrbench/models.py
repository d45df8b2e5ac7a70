"""Models by name: builders that take an example's shape and the number of classes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from math import prod

from torch import nn

Builder = Callable[[tuple[int, ...], int], nn.Module]
"""`(shape of an example, classes) -> module`; the module takes `(rows, *shape)` and gives `(rows, classes)`."""


def mlp(*hidden: int) -> Builder:
    """Build perceptrons with these hidden widths and ReLU between layers, for an example shape and a class count."""

    def build(shape: tuple[int, ...], classes: int) -> nn.Module:
        layers: list[nn.Module] = [nn.Flatten()]
        for wide, narrow in pairwise((prod(shape), *hidden, classes)):
            layers += [nn.Linear(wide, narrow), nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    return build
