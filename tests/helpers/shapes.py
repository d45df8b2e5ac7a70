"""Shapes of layers."""

import itertools
from collections.abc import Sequence


def in_torchs_order(shapes: Sequence[tuple[int, ...]]) -> bool:
    """Return whether a matrix comes right before a vector of its first size only, which layouts refuse."""
    pairs = itertools.pairwise(shapes)
    return any(len(one) == 2 and one[0] != one[1] and other == one[:1] for one, other in pairs)
