"""Curves over rounds: means with bands over seeds, rules as published beside amplified ones."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import altair as alt

from agrbench.cells import UNATTACKED, UNDEFENDED
from agrbench.results.figures.sizes import COLUMN
from agrbench.results.figures.style import (
    AMPLIFIED,
    BASE,
    GREY,
    INK,
    SMALL,
    across,
    chart_of,
    colour,
    dashes,
    finished,
    names,
    panel,
    rules,
    strokes,
)
from agrbench.results.figures.values import Row, at_round, demand, labels, of_groups, over_seeds, panel_name
from agrbench.results.metrics import Group
from agrbench.results.statistics import Sample

METRICS: Mapping[str, tuple[str, float, str]] = {
    "accuracy": ("Test accuracy", 100, "test accuracy (%)"),
    "success": ("Attack success", 100, "attack success (%)"),
    "loss": ("Loss on the test set", 1, "cross-entropy on the test set"),
}
"""What each curve is called, how many times it is shown, and what its axis says."""
REFERENCE = "no attack"


def draw(groups: Sequence[Group], metric: str = "accuracy", width: float = COLUMN) -> Any:
    """Draw a curve for each defense: a panel for each attack, and beside it one for the amplified forms.

    Raises:
        AgrbenchError: there is no such curve, or there are more defenses than a panel can show.
    """
    what, _, axis = METRICS[metric]
    told = labels(groups)
    drawn = [row for group, label in zip(groups, told, strict=True) for row in _rows(group, label, metric)]
    demand(drawn)
    shown = rules(row for row in drawn if row["rule"] != REFERENCE)
    forms = [form for form in (BASE, AMPLIFIED) if any(row["form"] == form for row in drawn)]
    panels = list(dict.fromkeys(row["panel"] for row in drawn))
    points = across(width)
    entries = [*shown, REFERENCE] if any(row["rule"] == REFERENCE for row in drawn) else shown
    chart = _layers(drawn, entries, axis, metric, points).properties(
        width=panel(points, len(forms), 46 if len(panels) > 1 else 34), height=84 if len(panels) > 1 else 110
    )
    facets: dict[str, Any] = {}
    if len(forms) > 1:
        facets["column"] = alt.Column("form:N", sort=forms)
    if len(panels) > 1:
        facets["row"] = alt.Row("panel:N", sort=panels)
    chart = chart.facet(**facets, spacing={"row": 11, "column": 10}) if facets else chart
    only = f" under {panels[0]}" if len(panels) == 1 and panels[0] else ""
    notes = [of_groups(groups), over_seeds(drawn, "bands"), *_explained(groups, entries)]
    return finished(chart, f"{what}{only}", notes, points)


def _explained(groups: Sequence[Group], entries: Sequence[str]) -> Iterator[str]:
    if any(group.attacks for group in groups):
        stops = any(group.cell.stop for group in groups)
        yield f"Dotted: the attack's first {'and last round' if stops else 'round'}."
    if REFERENCE in entries:
        yield "No attack: fedavg when nobody attacks."


def _rows(group: Group, label: str, metric: str) -> Iterator[Row]:
    """Yield the points of every curve of a group, with the undefended, unattacked one in each panel."""
    attacks = [attack for attack in group.attacks if metric != "success" or group.targeted(attack)]
    forms = {names(defense)["form"]: None for defense in group.defenses if defense != UNDEFENDED} or {BASE: None}
    for attack in attacks or [UNATTACKED] * (metric != "success"):
        place = {"panel": panel_name(label, attack), "attack": attack, "first": group.cell.first}
        place["last"] = group.cell.stop
        for defense in group.defenses:
            points = list(_points(group, defense, attack, metric))
            for form in forms if defense == UNDEFENDED else [names(defense)["form"]]:
                yield from ({**place, **names(defense), "form": form, **point} for point in points)
        if metric != "success" and attack != UNATTACKED:
            for form in forms:
                known = {**place, "defense": UNDEFENDED, "rule": REFERENCE, "form": form}
                yield from ({**known, **point} for point in _points(group, UNDEFENDED, UNATTACKED, metric))


def _points(group: Group, defense: str, attack: str, metric: str) -> Iterator[Row]:
    """Yield the mean and its interval in each round that all seeds measured."""
    records = {seed: group.records[defense, attack, seed] for seed in group.seeds(defense, attack)}
    curves = {seed: dict(zip(record["rounds"], record[metric] or [], strict=False)) for seed, record in records.items()}
    shared = set.intersection(*(set(curve) for curve in curves.values())) if curves else set()
    for number in sorted(shared):
        values = [curve[number] for curve in curves.values()]
        if all(value is not None and math.isfinite(value) for value in values):
            scaled = tuple(METRICS[metric][1] * value for value in values)
            yield {"round": number, **at_round(Sample(tuple(curves), scaled))}


def _layers(drawn: Sequence[Row], entries: Sequence[str], axis: str, metric: str, width: float) -> Any:
    """Draw bands below lines, and the attack's first and last round."""
    below = [100.0] if METRICS[metric][1] == 100 else []
    y = alt.Scale(domain=[0, *below]) if below else alt.Scale(zero=True)
    colours, patterns = colour(entries), dashes(entries)
    if REFERENCE in entries:
        colours.range[-1], patterns.range[-1] = GREY, [1, 0]
    data = chart_of(drawn)
    until = max(row["round"] for row in drawn)
    x = alt.X(
        "round:Q", title="round", axis=alt.Axis(tickCount=3, grid=False), scale=alt.Scale(domain=[0, until], nice=False)
    )
    key = strokes(width, entries)
    marks = {"color": alt.Color("rule:N", scale=colours, legend=key)}
    band = data.mark_area(opacity=0.18, clip=True).encode(x, alt.Y("low:Q", scale=y), alt.Y2("high:Q"), **marks)
    line = data.mark_line(strokeWidth=1.1, clip=True).encode(
        x, alt.Y("value:Q", title=axis, scale=y, axis=alt.Axis(tickCount=5)), **marks,
        strokeDash=alt.StrokeDash("rule:N", scale=patterns, legend=key),
        tooltip=["defense:N", "attack:N", "round:Q", "value:Q", "low:Q", "high:Q", "seeds:Q"],
    )  # fmt: skip
    layers = [band.transform_filter("isValid(datum.low)"), line]
    for end, text in (("first", "attack"), ("last", "ends")):
        if any(row[end] is not None and row["attack"] != UNATTACKED for row in drawn):
            once = data.transform_filter(f"isValid(datum.{end})").transform_aggregate(
                at=f"max({end})", groupby=["form", "panel"]
            )
            layers.append(once.mark_rule(strokeDash=[1, 1.5], color=INK, strokeWidth=0.7).encode(alt.X("at:Q")))
            layers.append(
                once.mark_text(dy=-2, fontSize=SMALL - 1, color=INK, text=text, baseline="bottom").encode(
                    alt.X("at:Q"), y=alt.value(0)
                )
            )
    return alt.layer(*layers)
