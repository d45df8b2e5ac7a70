"""Figures as one reads them: the rows that a chart draws, and what it says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any


def drawn(chart: Any, *fields: str) -> list[dict[str, Any]]:
    """List the rows that a chart holds and that have all of some fields, each once."""
    found = held(chart.to_dict())
    unique = {tuple(sorted((name, str(value)) for name, value in row.items())): row for row in found}
    return [row for row in unique.values() if set(fields) <= set(row)]


def held(part: dict[str, Any]) -> list[dict[str, Any]]:
    """List the rows that a part of a chart holds, as often as it does."""
    return [row for each in _parts(part) for row in each.get("data", {}).get("values", [])]


def _parts(spec: Any) -> Iterator[dict[str, Any]]:
    if isinstance(spec, dict):
        yield spec
        for value in spec.values():
            yield from _parts(value)
    elif isinstance(spec, list):
        for value in spec:
            yield from _parts(value)


def said(chart: Any) -> str:
    """Return the title and the caption of a chart, in one line."""
    title = chart.to_dict()["title"]
    return " ".join([*title["text"], *title["subtitle"]])


def by(rows: Iterable[dict[str, Any]], *names: str) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Map some fields of rows, which must tell them apart, to the rows."""
    rows = list(rows)
    found = {tuple(row[name] for name in names): row for row in rows}
    assert len(found) == len(rows)
    return found
