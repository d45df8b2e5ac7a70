"""Breaking points: up to which share of malicious clients each defense holds, and where it breaks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import altair as alt

from agrbench.plugins.registry import Registry
from agrbench.results.breaking import POINTS, Search
from agrbench.results.figures.sizes import COLUMN
from agrbench.results.figures.style import (
    FORMS,
    INK,
    SMALL,
    across,
    chart_of,
    finished,
    legend,
    names,
    panel,
    written,
)
from agrbench.results.figures.values import Row, demand
from agrbench.results.metrics import order
from agrbench.results.record import Record
from agrbench.results.searches import recorded
from agrbench.results.tables import breaking
from agrbench.results.text import one_line

THICK = 9  # points, a row
END = {"breaks": "circle", "holds to its limit": "triangle-right"}


def draw(records: Sequence[Record], registry: Registry, width: float = COLUMN) -> Any:
    """Draw a line for each defense up to the largest share that it withstands, and a point where it breaks."""
    kept = {name: mine for name, found in recorded(records, registry).items() if (mine := _ended(found))}
    drawn = [row for found in kept.values() for row in _rows(found, _title(found) if len(kept) > 1 else "")]
    demand(drawn, "breaking-point")
    points = across(width)
    shown = list(dict.fromkeys(row["defense"] for row in drawn))
    forms = [form for form in FORMS if any(row["form"] == form for row in drawn)]
    ends = [end for end in END if any(row["end"] == end for row in drawn)]
    panels = list(dict.fromkeys(row["panel"] for row in drawn))
    base = chart_of(drawn)
    y = alt.Y("defense:N", sort=shown, title=None, axis=alt.Axis(ticks=False, domain=False, grid=True))
    x = alt.X(
        "share:Q",
        title="malicious clients (%)",
        scale=alt.Scale(domain=[0, 50], nice=False),
        axis=alt.Axis(tickCount=5),
    )
    tint = alt.Color("form:N", scale=alt.Scale(domain=forms, range=[FORMS[form] for form in forms]),
                     legend=legend(points, forms) if len(forms) > 1 else None)  # fmt: skip
    held = base.mark_rule(strokeWidth=2.5).encode(alt.X("zero:Q"), alt.X2("held:Q"), y, tint)
    end = base.mark_point(filled=True, size=34, opacity=1).encode(
        x, y, tint,
        alt.Shape("end:N", scale=alt.Scale(domain=ends, range=[END[each] for each in ends]),
                  legend=legend(points, ends) if len(ends) > 1 else None),
        tooltip=["defense:N", "breaks_at:N", "held_at:N", "attack:N", "loss:Q", "low:Q", "high:Q"],
    )  # fmt: skip
    worst = base.mark_text(align="left", dx=5, fontSize=SMALL - 0.5, color=INK).encode(x, y, alt.Text("attack:N"))
    chart = alt.layer(held, end, worst).properties(
        width=panel(points, 1, max(map(written, shown)) + 4), height=THICK * 1.3 * len(shown)
    )
    if len(panels) > 1:
        chart = chart.facet(row=alt.Row("panel:N", sort=panels, header=alt.Header(labelOrient="top")), spacing=8)
    chart = chart.resolve_scale(y="independent") if len(panels) > 1 else chart
    return finished(chart, "Breaking points", _notes(list(kept.values())), points)


def _ended(found: Sequence[Search]) -> list[Search]:
    return sorted((each for each in found if each.next is None), key=lambda each: order(each.cell.defense))


def _title(found: Sequence[Search]) -> str:
    return breaking.table(found).title.removeprefix("Breaking points: ")


def _rows(found: Sequence[Search], label: str) -> Iterator[Row]:
    """Yield what the table of breaking points says of each defense, as shares of all clients in percent."""
    for search, told in zip(found, breaking.table(found).data, strict=True):
        broken = told["broken"] is not None
        yield {
            **names(search.cell.defense), "panel": label, "zero": 0, "held": _percent(told, "held"),
            "share": _percent(told, "broken" if broken else "limit"), "end": [*END][not broken],
            "breaks_at": f"{told['broken']}/{told['clients']}" if broken else f"> {told['limit']}/{told['clients']}",
            "held_at": f"{told['held']}/{told['clients']}", "attack": one_line(told["attack"] or ""),
            "loss": told["loss"], **{end: told[end] for end in ("low", "high")}, "seeds": told["seeds"],
        }  # fmt: skip


def _percent(told: Mapping[str, Any], name: str) -> float:
    return 100 * (told[name] or 0) / float(told["clients"])


def _notes(found: Sequence[Sequence[Search]]) -> Iterator[str]:
    if len(found) == 1:
        yield f"{_title(found[0])}."
    seeds = sorted({each.seeds for mine in found for each in mine})
    many = " to ".join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))
    attacks = max(len(each.attacks) for mine in found for each in mine)
    yield (
        f"Breaks: the worst of {attacks} attacks, named, costs {POINTS:.0f} points of accuracy or more in the mean of "
        f"{many} seed{'s' * (seeds[-1] > 1)}. Lines reach to the largest number of clients that a defense withstands."
    )
