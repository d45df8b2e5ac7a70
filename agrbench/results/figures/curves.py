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
    NORMAL,
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
    attacked = any(group.attacks for group in groups)
    told = zip(groups, labels(groups), strict=True)
    drawn = [row for group, label in told for row in _rows(group, label, metric, attacked)]
    demand(drawn)
    shown = rules(row for row in drawn if row["rule"] != REFERENCE)
    entries = [*shown, REFERENCE] if any(row["rule"] == REFERENCE for row in drawn) else shown
    forms = [form for form in (BASE, AMPLIFIED) if any(row["form"] == form for row in drawn)]
    panels, points = list(dict.fromkeys(row["panel"] for row in drawn)), across(width)
    highest = 100.0 if METRICS[metric][1] == 100 else max(row["value"] for row in drawn)
    size = {"width": panel(points, len(forms), 34), "height": 84 if len(panels) > 1 else 110}
    scales = {
        "x": alt.Scale(domain=[0, max(row["round"] for row in drawn)], nice=False),
        "y": alt.Scale(domain=[0, highest], nice=False),
    }
    made = []
    for name in panels:
        mine = {form: [row for row in drawn if (row["panel"], row["form"]) == (name, form)] for form in forms}
        heads = dict.fromkeys(forms, "") if len(forms) < 2 or name != panels[0] else {form: form for form in forms}
        row = []
        for form in forms:
            left, below = axis if form == forms[0] else None, name == panels[-1]
            row.append(_panel(mine[form], entries, heads[form], left, below, scales, points).properties(**size))
        title = alt.TitleParams(name, fontSize=NORMAL, anchor="start", offset=1, frame="bounds")
        made.append(alt.hconcat(*row, spacing=12, bounds="flush", **({"title": title} if len(panels) > 1 else {})))
    only = f" under {panels[0]}" if len(panels) == 1 and panels[0] else ""
    empty = len({(row["panel"], row["form"]) for row in drawn}) < len(panels) * len(forms)
    notes = [of_groups(groups), over_seeds(drawn, "bands"), *_explained(groups, entries)]
    notes += ["Empty: no records."] * empty
    return finished(alt.vconcat(*made, spacing=7), f"{what}{only}", notes, points)


def _explained(groups: Sequence[Group], entries: Sequence[str]) -> Iterator[str]:
    if any(group.attacks for group in groups):
        stops = any(group.cell.stop for group in groups)
        yield f"Dotted: the attack's first {'and last round' if stops else 'round'}."
    if REFERENCE in entries:
        yield "No attack: fedavg when nobody attacks."


def _rows(group: Group, label: str, metric: str, attacked: bool) -> Iterator[Row]:
    """Yield the points of every curve of a group, with the undefended, unattacked one in each panel."""
    attacks = [attack for attack in group.attacks if metric != "success" or group.targeted(attack)]
    forms = {names(defense)["form"]: None for defense in group.defenses if defense != UNDEFENDED} or {BASE: None}
    for attack in attacks if attacked else [UNATTACKED] * (metric != "success"):
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


def _panel(
    mine: Sequence[Row], entries: Sequence[str], head: str, axis: str | None, last: bool,
    scales: Mapping[str, alt.Scale], width: float,
) -> Any:  # fmt: skip
    """Draw bands below lines, and the attack's first and last round; the `last` panels say which rounds there are."""
    colours, patterns = colour(entries), dashes(entries)
    if REFERENCE in entries:
        colours.range[-1], patterns.range[-1] = GREY, [1, 0]
    data, key = chart_of(mine), strokes(width, entries)
    left: dict[str, Any] = (
        {"tickCount": 5} if axis else {"labels": False, "ticks": False, "domain": False, "tickCount": 5}
    )
    below: dict[str, Any] = {"labels": last, "ticks": last, "tickCount": 3, "grid": False}
    x = alt.X("round:Q", title="round" if last else None, axis=alt.Axis(**below), scale=scales["x"])
    y = alt.Y("value:Q", title=axis, axis=alt.Axis(**left), scale=scales["y"])
    tint = alt.Color("rule:N", scale=colours, legend=key)
    band = data.transform_filter("isValid(datum.low)").mark_area(opacity=0.18, clip=True)
    line = data.mark_line(strokeWidth=1.1, clip=True).encode(
        x, y, tint, alt.StrokeDash("rule:N", scale=patterns, legend=key),
        tooltip=["defense:N", "attack:N", "round:Q", "value:Q", "low:Q", "high:Q", "seeds:Q"],
    )  # fmt: skip
    layers = [band.encode(x, alt.Y("low:Q", scale=scales["y"]), alt.Y2("high:Q"), tint), line]
    for end, text in (("first", "attack"), ("last", "ends")):
        at = {row[end] for row in mine if row["attack"] != UNATTACKED} - {None}
        once = chart_of([{end: each} for each in at]).encode(alt.X(f"{end}:Q", scale=scales["x"]))
        if at:
            layers.append(once.mark_rule(strokeDash=[1, 1.5], color=INK, strokeWidth=0.7))
            layers.append(
                once.mark_text(dy=-2, fontSize=SMALL - 1, color=INK, text=text, baseline="bottom").encode(
                    y=alt.value(0)
                )
            )
    title: dict[str, Any] = {"title": alt.TitleParams(head, fontSize=NORMAL, anchor="middle", offset=3)} if head else {}
    return alt.layer(*layers).properties(**title)
