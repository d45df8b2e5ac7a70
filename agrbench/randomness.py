"""Random generators that depend on seed and purpose only: a cell has the same record alone, in any order, anywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from torch import Generator

Randomness = Callable[..., Generator]
"""`(purpose, round=0, client=0) -> Generator`: one run's source of randomness."""


def generator(seed: int, purpose: str, number: int = 0, client: int = 0) -> Generator:
    """Return the generator for one purpose in one round for one client (or place in a stack)."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{number}/{client}".encode()).digest()
    return Generator().manual_seed(int.from_bytes(digest[:7], "big"))
