"""A heat map: a metric of each defense under each attack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from agrbench.results.figures.sizes import COLUMN
from agrbench.results.figures.style import INK, SMALL, across, chart_of, finished, written
from agrbench.results.figures.values import AXES, Row, demand, labels, of_groups, panel_name, rows
from agrbench.results.metrics import Group
from agrbench.results.tables.matrix import METRICS
from agrbench.results.text import one_line

HIGH = 10  # points, a row
SHADES = ("#fffaf2", "#fdd49e", "#fc8d59", "#d7301f", "#7f0000")  # light to dark, so that it survives in grey
LEGIBLE = 2.2 * SMALL  # points, the narrowest column that holds a number


def draw(groups: Sequence[Group], metric: str = "loss", width: float = COLUMN) -> Any:
    """Draw a field for each defense and attack, dark where the metric is bad; numbers are written where they fit."""
    points, found = across(width), [rows(group, metric) for group in groups]
    top = max((row["value"] for mine in found for row in mine), default=0.0)
    panels = [
        _panel(group, mine, label, metric, top, points)
        for group, mine, label in zip(groups, found, labels(groups), strict=True)
        if mine
    ]
    demand(panels)
    lacking = "Crossed out: no finished runs." if any(len(each.layer[1].data.values) for each in panels) else ""
    chart = alt.vconcat(*panels, spacing=10).resolve_scale(color="shared") if len(panels) > 1 else panels[0]
    what = f"{AXES[metric][0].upper()}{AXES[metric][1:]}".partition(" (")[0]
    seeds = sorted({row["seeds"] for mine in found for row in mine})
    many = " to ".join(dict.fromkeys(map(str, (seeds[0], seeds[-1]))))
    notes = [of_groups(groups), f"Mean of {many} seed{'s' * (seeds[-1] > 1)}.", lacking]
    return finished(chart, what, notes, points)


def _panel(group: Group, found: Sequence[Row], label: str, metric: str, top: float, width: float) -> Any:
    attacks = list(dict.fromkeys(str(row["attack"]) for row in found))
    defenses = [one_line(name) for name in group.defenses if one_line(name) in {row["defense"] for row in found}]
    known = {(row["defense"], row["attack"]) for row in found}
    lacking = [
        {"defense": name, "attack": attack} for name in defenses for attack in attacks if (name, attack) not in known
    ]
    each = (width - max(map(written, defenses)) - 6) / len(attacks)
    x = alt.X(
        "attack:N",
        sort=attacks,
        title=None,
        axis=alt.Axis(orient="top", labelAngle=-90 if _tight(attacks, each) else 0, ticks=False, domain=False),
    )
    y = alt.Y("defense:N", sort=defenses, title=None, axis=alt.Axis(ticks=False, domain=False))
    base = chart_of(found)
    crosses = chart_of(lacking)
    bad = METRICS[metric].sign < 0
    scale = alt.Scale(range=list(SHADES), interpolate="lab", domain=[0, max(top, 1e-9)], clamp=True, reverse=not bad)
    layers = [
        base.mark_rect().encode(
            x, y,
            alt.Color("value:Q", scale=scale, legend=_legend(AXES[metric], width)),
            tooltip=["defense:N", "attack:N", "value:Q", "low:Q", "high:Q", "seeds:Q"],
        ),
        crosses.mark_point(shape="cross", angle=45, size=12, color=INK, filled=True).encode(x, y),
    ]  # fmt: skip
    if each >= LEGIBLE:
        dark = f"datum.value > {0.6 * top}" if bad else f"datum.value < {0.4 * top}"
        form = ".1f" if each >= 1.5 * LEGIBLE else ".0f"
        layers.append(
            base.mark_text(fontSize=SMALL - 0.5).encode(
                x, y, alt.Text("value:Q", format=form),
                color=alt.condition(dark, alt.value("white"), alt.value(INK)),
            )
        )  # fmt: skip
    title = {"title": alt.TitleParams(panel_name(label, None), fontSize=SMALL, anchor="start")} if label else {}
    return alt.layer(*layers).properties(width=max(each * len(attacks), 20), height=HIGH * len(defenses), **title)


def _tight(attacks: Sequence[str], each: float) -> bool:
    return max(map(written, attacks)) > each


def _legend(title: str, width: float) -> alt.Legend:
    return alt.Legend(
        title=title, orient="bottom", direction="horizontal", gradientLength=width / 2, gradientThickness=7
    )
