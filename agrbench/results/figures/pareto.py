"""Robustness against efficiency, with fidelity as colour: what each defense costs, and which ones nothing beats."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import altair as alt

from agrbench.results.figures.sizes import COLUMN
from agrbench.results.figures.style import INK, SMALL, across, chart_of, finished, names, panel
from agrbench.results.figures.values import Row, demand, labels, of_groups, over_seeds
from agrbench.results.metrics import Group
from agrbench.results.tables import triad, worst

SHAPES = {"as published": "circle", "amplified": "triangle-up"}


def draw(groups: Sequence[Group], width: float = COLUMN) -> Any:
    """Draw a point for each defense; those that no other beats in both loss and time are joined and named."""
    drawn = [row for group, label in zip(groups, labels(groups), strict=True) for row in _rows(group, label)]
    demand(drawn)
    points, panels = across(width), list(dict.fromkeys(row["panel"] for row in drawn))
    base = chart_of(drawn)
    x = alt.X(
        "server_ms:Q",
        scale=alt.Scale(type="log", nice=False, padding=12),
        title="server time a round (ms, logarithmic)",
        axis=alt.Axis(tickCount=4, format="~g"),
    )
    y = alt.Y("value:Q", scale=alt.Scale(zero=True), title=["loss under the worst attack", "(points of accuracy)"])
    forms = [form for form in SHAPES if any(row["form"] == form for row in drawn)]
    whiskers = base.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=0.5, color="#999999")
    marks = base.mark_point(filled=True, size=38, opacity=1, stroke=INK, strokeWidth=0.5).encode(
        x, y,
        alt.Color("fidelity_loss:Q", scale=alt.Scale(scheme="cividis", reverse=True),
                  legend=alt.Legend(title="fidelity loss (points)", orient="bottom", direction="horizontal",
                                    gradientLength=points / 3, gradientThickness=7)),
        alt.Shape("form:N", scale=alt.Scale(domain=forms, range=[SHAPES[form] for form in forms]),
                  legend=alt.Legend(title=None, orient="bottom", direction="vertical", symbolFillColor="white")),
        tooltip=["defense:N", "value:Q", "attack:N", "server_ms:Q", "fidelity_loss:Q", "seeds:Q"],
    )  # fmt: skip
    front = base.transform_filter("datum.front")
    step = front.mark_line(interpolate="step-after", strokeWidth=0.8, strokeDash=[3, 2], color=INK).encode(x, y)
    text = {"dy": -8, "fontSize": SMALL, "fontWeight": "bold", "color": INK}
    halo, label = (
        front.mark_text(**text, **more).encode(x, y, alt.Text("place:N"))
        for more in ({"stroke": "white", "strokeWidth": 2}, {})
    )
    chart = alt.layer(whiskers.encode(x, alt.Y("low:Q"), alt.Y2("high:Q")), step, halo, marks, label).properties(
        width=panel(points, 1, 42), height=140
    )
    if len(panels) > 1:
        chart = chart.facet(row=alt.Row("panel:N", sort=panels, header=alt.Header(labelOrient="top")), spacing=8)
    ahead = "; ".join(_ahead(drawn, panel) for panel in panels)
    notes = [of_groups(groups), over_seeds(drawn, "lines"), f"Dashed: the defenses that none beats in both: {ahead}."]
    return finished(chart, "Robustness against server time", notes, points)


def _rows(group: Group, label: str) -> Iterator[Row]:
    """Yield what the triad says of each defense that has all its runs, with the worst case's interval."""
    if not group.attacks:
        return
    cases = {row["defense"]: row for row in worst.table(group).data}
    known = [row for row in triad.table(group).data if row["defense"] in cases and row["server_ms"] is not None]
    known = [row for row in known if row["fidelity_loss"] is not None]
    best = front((row["defense"], row["server_ms"], row["worst_loss"]) for row in known)
    for row in known:
        case = cases[row["defense"]]
        yield {
            "panel": label, **names(row["defense"]), "value": row["worst_loss"],
            "low": case["low"], "high": case["high"], "interval": case["interval"], "attack": case["attack"],
            "server_ms": row["server_ms"], "fidelity_loss": row["fidelity_loss"], "seeds": len(row["seeds"]),
            "front": row["defense"] in best,
            "place": best.index(row["defense"]) + 1 if row["defense"] in best else None,
        }  # fmt: skip


def _ahead(drawn: Sequence[Row], panel: str) -> str:
    mine = sorted((row["place"], row["defense"]) for row in drawn if row["front"] and row["panel"] == panel)
    return (f"{panel}: " if panel else "") + ", ".join(f"{place}: {name}" for place, name in mine)


def front(costs: Iterable[tuple[str, float, float]]) -> list[str]:
    """Return the names that no other beats, the fastest first: each loses less than every faster one."""
    found, least = [], float("inf")
    for name, _, loss in sorted(costs, key=lambda each: each[1:]):
        if loss < least:
            found.append(name)
            least = loss
    return found
