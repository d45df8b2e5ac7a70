"""How figures look: sizes of a paper's column, colours that colour-blind readers can tell apart, titles, panels."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import altair as alt

from agrbench.cells import AMPLIFIER, UNDEFENDED
from agrbench.errors import AgrbenchError
from agrbench.results.figures.sizes import COLUMN, INCH
from agrbench.results.metrics import base_of
from agrbench.results.tables.ranking import listed
from agrbench.results.text import one_line

NARROWEST, WIDEST = 2.0, 40.0
FONT = "Arial, Helvetica, Liberation Sans, sans-serif"
SMALL, NORMAL, LARGE = 7, 7.5, 8.5  # points
LETTER = 0.47  # of the font's size, on average
INK, FAINT = "#222222", "#dddddd"
BLACK, BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, GREY = (
    "#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#888888",
)  # fmt: skip
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, GREY)
"""The colours of Okabe and Ito (2008), with grey for their yellow, which is hard to see on white."""
DASHES = ([1, 0], [5, 1.5], [1.5, 1.5], [6, 1.5, 1.5, 1.5], [9, 2], [3, 3], [1, 2.5])
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-left")
BASE, AMPLIFIED = "as published", "amplified"
FORMS = {BASE: BLUE, AMPLIFIED: ORANGE}


def form_of(defense: str) -> str:
    """Return whether a spec is a rule as published or amplified, in the words of the legends."""
    return BASE if base_of(defense) == defense else AMPLIFIED


def names(defense: str) -> dict[str, str]:
    """Return the columns that name a defense: its spec, the rule whose form it is, and which of the two forms.

    A form that is not amplified by default, such as `amp(kernel=3)+krum`, is a rule of its own.
    """
    base = base_of(defense)
    rule = base if defense in (base, f"{AMPLIFIER}+{base}") else defense
    return {"defense": one_line(defense), "rule": one_line(rule), "form": form_of(defense)}


def rules(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """List the rules of some rows in their order, the undefended baseline first.

    Raises:
        AgrbenchError: there are more than there are colours.
    """
    found = list(dict.fromkeys(row["rule"] for row in rows))
    others = [rule for rule in found if rule != UNDEFENDED]
    if len(others) > len(COLOURS):
        raise AgrbenchError(
            f"a figure of lines can tell {len(COLOURS)} defenses apart, and these records have {len(others)}: "
            f"{listed(others)}; choose some with -d"
        )
    return [UNDEFENDED] * (UNDEFENDED in found) + others


def colour(shown: Sequence[str]) -> alt.Scale:
    """Return the colours of rules: black for the baseline."""
    spare = iter(COLOURS)
    return alt.Scale(domain=list(shown), range=[BLACK if rule == UNDEFENDED else next(spare) for rule in shown])


def dashes(shown: Sequence[str]) -> alt.Scale:
    """Return the patterns of the rules' lines, which tell them apart without colour."""
    return alt.Scale(domain=list(shown), range=list(itertools.islice(itertools.cycle(DASHES), len(shown))))


def shapes(shown: Sequence[str]) -> alt.Scale:
    """Return the shapes of the rules' points."""
    return alt.Scale(domain=list(shown), range=list(itertools.islice(itertools.cycle(SHAPES), len(shown))))


def across(inches: float) -> float:
    """Return a width in points.

    Raises:
        AgrbenchError: no figure is so narrow or so wide.
    """
    if not NARROWEST <= inches <= WIDEST:
        raise AgrbenchError(
            f"the width is {inches:g} inches; write {COLUMN} for a column of a paper, or 6.9 for a page"
        )
    return inches * INCH


def written(text: str, size: float = NORMAL) -> float:
    """Estimate the width of a text."""
    return LETTER * size * len(text) + 2


def panel(width: float, columns: int, left: float, gap: float = 10) -> float:
    """Return the width of each of several panels beside one another, right of an axis."""
    return max((width - left - gap * (columns - 1)) / columns - 2, 20)


def axis_title(text: str, width: float) -> list[str]:
    """Break the title of an axis into lines, before its unit if that is enough."""
    what, bracket, unit = text.partition(" (")
    if written(text) <= width:
        return [text]
    return [line for part in (what, bracket[1:] + unit) for line in lines(part, max(width, written(part) / 2), NORMAL)]


def chart_of(rows: Iterable[Mapping[str, Any]], **more: Any) -> Any:
    """Start a chart of some rows, which it holds."""
    return alt.Chart(alt.Data(values=list(rows)), **more)  # type: ignore[no-untyped-call]


def legend_columns(width: float, labels: Sequence[str]) -> int:
    """Return how many entries of a legend fit side by side, in rows of about equal length."""
    each = max((written(label) for label in labels), default=1) + 24
    most = max(int(width / each), 1)
    rows = -(-len(labels) // most)
    return -(-len(labels) // rows) if rows else 1


def legend(width: float, labels: Sequence[str], title: str | None = None, **more: Any) -> alt.Legend:
    """Return a legend below the panels."""
    return alt.Legend(title=title, orient="bottom", columns=legend_columns(width, labels), symbolOpacity=1, **more)


def strokes(width: float, labels: Sequence[str]) -> alt.Legend:
    """Return a legend below the panels that shows how lines are drawn."""
    return legend(width, labels, symbolType="stroke", symbolSize=200)


def finished(chart: Any, title: str, notes: Iterable[str], width: float) -> Any:
    """Add what the figure shows, how it was measured, and the style; `notes` are sentences."""
    subtitle = lines(" ".join(notes), width, SMALL)
    heading = alt.TitleParams(
        lines(title, width, 1.1 * LARGE), subtitle=subtitle, anchor="start", frame="bounds", offset=8, fontSize=LARGE,
        subtitleFontSize=SMALL, subtitleColor=INK, color=INK, font=FONT, subtitleFont=FONT, subtitlePadding=3,
    )  # fmt: skip
    axis = {
        "labelFontSize": SMALL, "titleFontSize": NORMAL, "titleFontWeight": "normal", "gridColor": "#e8e8e8",
        "domainColor": INK, "tickColor": INK, "labelColor": INK, "titleColor": INK, "tickSize": 3, "titlePadding": 3,
        "gridWidth": 0.5, "domainWidth": 0.6, "tickWidth": 0.6, "labelLimit": 0, "titleLimit": 0,
    }  # fmt: skip
    return (
        chart.properties(title=heading, padding=2, background="white")
        .configure(font=FONT)
        .configure_view(stroke=FAINT, strokeWidth=0.6)
        .configure_axis(**axis)
        .configure_legend(
            labelFontSize=SMALL, titleFontSize=SMALL, titleFontWeight="normal", symbolSize=35, symbolStrokeWidth=1.3,
            labelLimit=0, titleLimit=0, rowPadding=1, columnPadding=6, padding=0, offset=4, labelColor=INK,
            titleColor=INK,
        )
        .configure_header(
            labelFontSize=NORMAL, labelColor=INK, title=None, labelPadding=3, labelLimit=0, labelFontWeight="bold"
        )
    )  # fmt: skip


def lines(text: str, width: float, size: float) -> list[str]:
    """Break a text into lines of a width."""
    return textwrap.wrap(one_line(text), max(int(width / (LETTER * size)), 20), break_long_words=False) or [""]
