"""Read what is to be compared, two folders of records or two bench outputs, and compare it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from agrbench.bench import compare as slowdowns
from agrbench.errors import RecordError
from agrbench.plugins.registry import Registry
from agrbench.results import store
from agrbench.results.gate import compare as gate
from agrbench.results.gate.compare import Comparison


def compare(
    base: Path, head: Path, tolerance: float = gate.TOLERANCE, plugins: Iterable[str | Path] = ()
) -> Comparison:
    """Compare two folders of records or two bench outputs; `plugins` are files whose records may be stale.

    Files in a folder that are no records are refused one by one, and the others compared.

    Raises:
        AgrbenchError: there is nothing there that can be read, or one is a folder and the other a file.
    """
    for path in (base, head):
        if not path.exists():
            raise RecordError(f"{path}: no such file or folder; name two folders of records, or two bench outputs")
    if base.is_dir() != head.is_dir():
        raise RecordError(f"{base} and {head}: one is a folder, the other a file; name two of a kind")
    if not base.is_dir():
        return slowdowns.compare(slowdowns.read(base), slowdowns.read(head))
    sides, refused = zip(*(store.sift([folder]) for folder in (base, head)), strict=True)
    before, now = ([record for _, record in side] for side in sides)
    found = gate.compare(before, now, tolerance)
    return dataclasses.replace(
        found,
        findings=(*found.findings, *gate.stale(now, Registry(plugins))),
        refused=tuple(str(error) for errors in refused for error in errors),
    )
