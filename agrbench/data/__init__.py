"""Finding, fetching, checking and reading data files; dataset plugins import their helpers from this package."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agrbench.data.examples import Examples, split
    from agrbench.data.files import corrupt, fetch, member, unzipped

__all__ = ["Examples", "corrupt", "fetch", "member", "split", "unzipped"]


def __getattr__(name: str) -> Any:
    home = importlib.import_module(f"agrbench.data.{'examples' if name in ('Examples', 'split') else 'files'}")
    if name.startswith("_") or not hasattr(home, name):
        raise AttributeError(f"module 'agrbench.data' has no attribute {name!r}")
    return getattr(home, name)
