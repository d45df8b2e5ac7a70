"""Bars: a metric of each defense, as published beside amplified, with intervals over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from agrbench.results.figures.sizes import COLUMN
from agrbench.results.figures.style import (
    FORMS,
    INK,
    across,
    axis_title,
    chart_of,
    finished,
    legend,
    panel,
    written,
)
from agrbench.results.figures.values import AXES, demand, labels, of_groups, over_seeds, panel_name, rows
from agrbench.results.metrics import Group

THICK = 7  # points, a bar
METRICS = tuple(AXES)


def draw(groups: Sequence[Group], metric: str = "worst", width: float = COLUMN) -> Any:
    """Draw a bar for each defense: a panel for each attack, unless the metric is over all of them."""
    drawn = [
        {**row, "panel": panel_name(label, None if metric in ("worst", "mean", "fidelity") else row["attack"])}
        for group, label in zip(groups, labels(groups), strict=True)
        for row in rows(group, metric)
    ]
    demand(drawn)
    points, panels = across(width), list(dict.fromkeys(row["panel"] for row in drawn))
    shown, forms = list(dict.fromkeys(row["rule"] for row in drawn)), [form for form in FORMS if _has(drawn, form)]
    columns = min(len(panels), max(int(points / 110), 1))
    each = panel(points, columns, max(map(written, shown)) + 8)
    base = chart_of(drawn)
    y = alt.Y("rule:N", sort=shown, title=None, axis=alt.Axis(ticks=False, domain=False))
    offset = alt.YOffset("form:N", sort=forms, scale=alt.Scale(paddingOuter=0.1))
    x = alt.X(
        "value:Q",
        stack=None,
        title=axis_title(AXES[metric], each),
        scale=alt.Scale(zero=True),
        axis=alt.Axis(tickCount=5),
    )
    bar = base.mark_bar(height={"band": 0.9}).encode(
        x, y, offset,
        alt.Color("form:N", scale=alt.Scale(domain=forms, range=[FORMS[form] for form in forms]),
                  legend=legend(points, forms) if len(forms) > 1 else None),
        tooltip=["defense:N", "attack:N", "value:Q", "low:Q", "high:Q", "seeds:Q"],
    )  # fmt: skip
    whisker = base.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=0.8, color=INK)
    zero = base.mark_rule(color=INK, strokeWidth=0.6).encode(x=alt.datum(0))
    whiskers = whisker.encode(alt.X("low:Q"), alt.X2("high:Q"), y, offset)
    chart = alt.layer(bar, whiskers, zero).properties(width=each, height=len(shown) * (THICK * len(forms) + 3))
    if len(panels) > 1:
        chart = chart.facet(facet=alt.Facet("panel:N", sort=panels), columns=columns, spacing=8)
    what = f"{AXES[metric][0].upper()}{AXES[metric][1:]}".partition(" (")[0]
    return finished(chart, what, [of_groups(groups), over_seeds(drawn, "whiskers"), _worst(drawn, metric)], points)


def _has(drawn: Sequence[dict[str, Any]], form: str) -> bool:
    return any(row["form"] == form for row in drawn)


def _worst(drawn: Sequence[dict[str, Any]], metric: str) -> str:
    if metric != "worst":
        return ""
    return f"Worst attacks: {', '.join(dict.fromkeys(str(row['attack']) for row in drawn))}."
