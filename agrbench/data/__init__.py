"""Finding, fetching, checking and reading data files; dataset plugins import their helpers from this package."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agrbench.data.examples import Examples, split
    from agrbench.data.files import corrupt, fetch, member, unzipped

__all__ = ["Examples", "corrupt", "fetch", "member", "split", "unzipped"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'agrbench.data' has no attribute {name!r}")
    home = "examples" if name in ("Examples", "split") else "files"
    return getattr(importlib.import_module(f"agrbench.data.{home}"), name)
