"""The table of datasets: their sizes, their licences, and whether their files are available."""

from __future__ import annotations

from collections.abc import Sequence

from agrbench.data.summary import Summary, describe
from agrbench.plugins.registry import Registry
from agrbench.progress import progress
from agrbench.results.formats import NONE, Entry, Table

HEADERS = ("dataset", "train", "test", "shape", "classes", "rows a class", "cosine")
NOTE = "cosine: intra-label, Equation 4 of the AgrAmplifier paper; it and rows a class: training and test rows together"


def table(registry: Registry, specs: Sequence[str] = ()) -> Table:
    """Describe datasets (none named: all), in numbers if their files are available, and below the table in words."""
    specs = specs or registry.names("dataset")
    rows, notes = [], []
    with progress("reading datasets", len(specs)) as report:
        for spec in specs:
            (entry,), record = registry.entries("dataset", spec), registry.dataset(spec).record
            summary, state = describe(entry.name, record.source, record.load, record.reads)
            rows.append(tuple(Entry((text,)) for text in (spec, *_cells(summary))))
            notes.append("\n    ".join([entry.summary, *f"licence {record.source.licence}; {state}".splitlines()]))
            report(spec)
    return Table("Datasets", HEADERS, tuple(rows), (NOTE, "", *notes), ())


def _cells(summary: Summary | None) -> tuple[str, ...]:
    """Write a summary as the cells of a table row."""
    if summary is None:
        return (NONE,) * (len(HEADERS) - 1)
    return (
        f"{summary.train:,}",
        f"{summary.test:,}",
        "x".join(map(str, summary.shape)),
        str(summary.classes),
        f"{summary.fewest:,} to {summary.most:,}",
        f"{summary.cosine:.3f}",
    )
