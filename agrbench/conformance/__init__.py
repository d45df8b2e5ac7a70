"""What every plugin must satisfy, on inputs drawn by Hypothesis and in a real grid: `agrbench check`, also from Python.

    claims("nearest.py")                                         what a plugin claims; claim.verify() tries to refute it
    laws.scaling(Case("krum", [[0, 1], [2, 3], [4, 4]]), power=3)                          one property on one case
    replays.followed(Replay("krum"))                             the same in the rounds of a grid

A printed counterexample is a call like the last two: it raises `Violation`, whose message says what went wrong.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agrbench.conformance.cases import Case, Violation
    from agrbench.conformance.certificates import Claim, claims
    from agrbench.conformance.recordings import Replay
    from agrbench.conformance.scenes import Scene

__all__ = ["Case", "Claim", "Replay", "Scene", "Violation", "claims"]

_HOMES = {"Case": "cases", "Violation": "cases", "Replay": "recordings", "Scene": "scenes"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'agrbench.conformance' has no attribute {name!r}")
    return getattr(importlib.import_module(f"agrbench.conformance.{_HOMES.get(name, 'certificates')}"), name)


def __dir__() -> list[str]:
    return __all__
