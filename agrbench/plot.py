"""Figures from Python: each function returns an altair chart, which notebooks show and `save` writes (docs/plots.md).

    results = agrbench.load("results")
    chart = agrbench.plot.curves(results)
    agrbench.plot.save(chart, "curves.pdf")

The first argument is what `agrbench.load` returns, any part of it, or the path of a folder or packed file; the last,
`width`, is in inches. Drawing needs altair and vl-convert: pip install 'agrbench[page]'.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agrbench.bench import compare
from agrbench.plugins.registry import Registry
from agrbench.results import figures, metrics, snapshots, tidy
from agrbench.results.figures import COLUMN
from agrbench.results.metrics import Group
from agrbench.results.record import Record

if TYPE_CHECKING:
    import altair

    Chart = altair.TopLevelMixin

__all__ = [
    "bars", "breaking", "cost", "curves", "heatmap", "neighbours", "pareto", "save", "sweep", "views",
]  # fmt: skip
Results = Iterable[tidy.Result] | str | Path
Paths = str | Path | Sequence[str | Path]


def curves(results: Results, metric: str = "accuracy", *, plugins: Paths = (), width: float = COLUMN) -> Chart:
    """Draw accuracy, loss or success over rounds, with bands over seeds, a panel for each attack."""
    return _draw("curves", _groups(results, plugins), metric=metric, width=width)


def bars(results: Results, metric: str = "worst", *, plugins: Paths = (), width: float = COLUMN) -> Chart:
    """Draw a metric of each defense as bars, base beside amplified: worst, mean, or a table's `--metric`."""
    return _draw("bars", _groups(results, plugins), metric=metric, width=width)


def sweep(results: Results, over: str, metric: str = "loss", *, plugins: Paths = (), width: float = COLUMN) -> Chart:
    """Draw a metric over a setting such as `clients`, or a hyperparameter such as `amp.kernel`."""
    registry = _registry(plugins)
    return _draw("sweep", _groups(results, plugins), over, registry, metric=metric, width=width)


def heatmap(results: Results, metric: str = "loss", *, plugins: Paths = (), width: float = COLUMN) -> Chart:
    """Draw a metric of each defense under each attack as shades."""
    return _draw("heatmap", _groups(results, plugins), metric=metric, width=width)


def pareto(results: Results, *, plugins: Paths = (), width: float = COLUMN) -> Chart:
    """Draw the worst loss against the server's time, with the fidelity loss as colour."""
    return _draw("pareto", _groups(results, plugins), width=width)


def breaking(results: Results, *, plugins: Paths = (), width: float = COLUMN) -> Chart:
    """Draw which share of malicious clients breaks each defense, from records of `agrbench breaking-point`."""
    return _draw("breaking", _records(results), _registry(plugins), width=width)


def cost(reports: Mapping[str, Any] | Paths, *, width: float = COLUMN) -> Chart:
    """Draw time and memory against clients and parameters, from reports of `agrbench bench --format json`."""
    read = [reports] if isinstance(reports, Mapping) else [compare.read(Path(path)) for path in _listed(reports)]
    return _draw("cost", read, width=width)


def views(files: Paths, *, width: float = COLUMN) -> Chart:
    """Draw the updates of one round on two principal components, as sent and amplified, from snapshots."""
    return _draw("views", [snapshots.read(Path(file)) for file in _listed(files)], width=width)


def neighbours(files: Paths, client: int | None = None, nearest: int | None = None, *, width: float = COLUMN) -> Chart:
    """Draw the angles of one round's updates to a client's, as sent and amplified, from snapshots."""
    read = [snapshots.read(Path(file)) for file in _listed(files)]
    return _draw("neighbours", read, client=client, nearest=nearest, width=width)


def save(chart: Chart, path: str | Path) -> None:
    """Write a chart as SVG, PNG, PDF or HTML, as the file's name ends.

    Raises:
        AgrbenchError: there is no such format, vl-convert is not installed, or the file cannot be written.
    """
    figures.save(chart, Path(path))


def _draw(kind: str, *given: Any, **options: Any) -> Chart:
    """Draw a figure.

    Raises:
        AgrbenchError: altair is not installed, or there is nothing to draw; the message says what to write.
    """
    chart: Chart = figures.drawing(kind)(*given, **options)
    return chart


def _groups(results: Results, plugins: Paths) -> list[Group]:
    return metrics.groups(_records(results), partial(_registry(plugins).spelled, "dataset"))


def _records(results: Results) -> list[Record]:
    return [result.record for result in (tidy.load(results) if isinstance(results, (str, Path)) else results)]


def _registry(plugins: Paths) -> Registry:
    return Registry(_listed(plugins))


def _listed(paths: Paths) -> list[str | Path]:
    return [paths] if isinstance(paths, (str, Path)) else list(paths)
