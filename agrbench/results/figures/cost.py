"""What defenses cost the server: time and memory against clients and parameters, from reports of `agrbench bench`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from agrbench.errors import AgrbenchError
from agrbench.results.figures.sizes import COLUMN
from agrbench.results.figures.style import (
    AMPLIFIED,
    BASE,
    across,
    chart_of,
    colour,
    finished,
    legend,
    names,
    panel,
    rules,
    shapes,
    strokes,
)
from agrbench.results.figures.values import Row

Report = Mapping[str, Any]
SIZES = ("clients", "parameters")
MEASURES = {"ms": "time a round (ms)", "MiB": "peak memory (MiB)"}
NO_SIZES = (
    "there is no defense that was measured at two sizes; write agrbench bench --clients 20,50 "
    "--parameters 25000,250000 --format json > bench.json, and name that file"
)


def draw(reports: Sequence[Report], width: float = COLUMN) -> Any:
    """Draw time, and memory where it was measured, against each size that varies, the other one at its largest.

    Raises:
        AgrbenchError: a report is none, or no size varies.
    """
    rows = [row for report in reports for row in _rows(report)]
    most = {size: max((row[size] for row in rows), default=0) for size in SIZES}
    along = {
        (measure, size): [row for row in rows if row[other] == most[other] and row[measure]]
        for measure in MEASURES
        for size, other in (SIZES, SIZES[::-1])
    }
    drawn = {place: mine for place, mine in along.items() if len({row[place[1]] for row in mine}) > 1}
    if not drawn:
        raise AgrbenchError(NO_SIZES)
    shown = rules(row for mine in drawn.values() for row in mine)
    forms = [form for form in (BASE, AMPLIFIED) if any(row["form"] == form for mine in drawn.values() for row in mine)]
    points, sizes = across(width), list(dict.fromkeys(size for _, size in drawn))
    each = panel(points, len(sizes), 40 * len(sizes), 6)
    lines = []
    for measure in dict.fromkeys(measure for measure, _ in drawn):
        mine = {size: drawn.get((measure, size), []) for size in sizes}
        within = _within([row[measure] for rows in mine.values() for row in rows])
        panels = [
            _panel(mine[size], measure, size, within, shown, forms, points).properties(width=each) for size in sizes
        ]
        lines.append(alt.hconcat(*panels, spacing=6))
    chart = alt.vconcat(*lines, spacing=6)
    return finished(chart, "What defenses cost the server", _notes(reports, rows, sizes, most), points)


def _rows(report: Report) -> list[Row]:
    try:
        return [_row(told) for told in report["rows"]]
    except (KeyError, TypeError) as error:
        raise AgrbenchError(
            "this is no report of costs; write one with agrbench bench --format json > bench.json"
        ) from error


def _row(told: Mapping[str, Any]) -> Row:
    peak = told["peak_bytes"]
    return {
        **names(told["defense"]), "clients": told["clients"], "parameters": told["parameters"],
        "ms": 1000 * told["seconds"], "MiB": None if peak is None else peak / 2**20,
    }  # fmt: skip


def _panel(
    mine: Sequence[Row], measure: str, size: str, within: Sequence[float], shown: Sequence[str], forms: Sequence[str],
    width: float,
) -> Any:  # fmt: skip
    base = chart_of(mine)
    values = sorted({row[size] for row in mine})
    x = alt.X(f"{size}:Q", title=size, scale=alt.Scale(type="log", nice=False, padding=5),
              axis=alt.Axis(values=values, format=".2~s", grid=False, labelOverlap=True))  # fmt: skip
    scale = alt.Scale(type="log", nice=False, domain=list(within))
    y = alt.Y(f"{measure}:Q", title=MEASURES[measure], scale=scale, axis=alt.Axis(tickCount=3, format="~g"))
    tint = alt.Color("rule:N", scale=colour(shown), legend=legend(0.6 * width, shown))
    patterns = {BASE: [3, 2], AMPLIFIED: [1, 0]} if len(forms) > 1 else {forms[0]: [1, 0]}
    dash = alt.StrokeDash("form:N", scale=alt.Scale(domain=list(forms), range=[patterns[form] for form in forms]),
                          legend=strokes(width / 4, forms) if len(forms) > 1 else None)  # fmt: skip
    told = ["defense:N", "clients:Q", "parameters:Q", f"{measure}:Q"]
    line = base.mark_line(strokeWidth=1.1).encode(x, y, tint, dash, alt.Detail("defense:N"))
    dots = base.mark_point(filled=True, size=16, opacity=1).encode(
        x, y, tint, alt.Shape("rule:N", scale=shapes(shown), legend=legend(0.6 * width, shown)), tooltip=told
    )
    return alt.layer(line, dots).properties(height=95)


def _within(values: Sequence[float]) -> list[float]:
    """Return the ends of a logarithmic axis, which all panels of a measure share."""
    return [min(values) / 1.25, max(values) * 1.25]


def _notes(reports: Sequence[Report], rows: Sequence[Row], sizes: Sequence[str], most: Mapping[str, int]) -> list[str]:
    """Say at which other size each panel is, and where and how often it was measured."""
    other = {"clients": "parameters", "parameters": "clients"}
    fixed = "; ".join(f"against {size}: {most[other[size]]:,} {other[size]}" for size in sizes)
    where = {
        f"{report['environment'].get('device', 'cpu')}, {_threads(report)}, median of {report['repeat']} repetitions"
        for report in reports
    }
    return [f"{fixed[0].upper()}{fixed[1:]}.", f"Both axes are logarithmic. Measured on {' and '.join(sorted(where))}."]


def _threads(report: Report) -> str:
    count = report["environment"].get("threads", 1)
    return f"{count} thread{'s' * (count != 1)}"
