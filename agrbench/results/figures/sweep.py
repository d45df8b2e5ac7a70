"""A metric over the values of one hyperparameter or setting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import altair as alt

from agrbench import settings, specs
from agrbench.cells import UNATTACKED, Cell
from agrbench.errors import AgrbenchError
from agrbench.plugins.registry import Registry
from agrbench.results.figures.sizes import COLUMN
from agrbench.results.figures.style import (
    AMPLIFIED,
    BASE,
    across,
    axis_title,
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
from agrbench.results.figures.values import AXES, Row, demand, labels, of_groups, over_seeds, panel_name, rows
from agrbench.results.metrics import Group
from agrbench.specs import Term

WIDE = 20  # times: values further apart are drawn on a logarithmic axis
NUMBERS: Mapping[str, str] = {
    "clients": "clients", "malicious": "malicious clients (%)",
    "byzantine": "malicious clients that the server assumes",
    "rounds": "rounds", "start": "first attacked round", "every": "rounds from attack to attack",
    "rate": "learning rate", "participants": "clients a round",
}  # fmt: skip
SPECS = ("partition", "schedule", "model", "server", "sample")  # settings with hyperparameters
MOVES = {"rounds": ("rounds", "start"), "participants": ("sample",)}  # settings that change with one


def draw(groups: Sequence[Group], over: str, registry: Registry, metric: str = "loss", width: float = COLUMN) -> Any:
    """Draw a line for each defense over the values of `over`, a setting or a hyperparameter such as `amp.kernel`.

    A defense that has no such hyperparameter is a level line.

    Raises:
        AgrbenchError: nothing in the records has two values of it, or there are more defenses than can be told apart.
    """
    axis, apart = _axis(over, groups)
    told = labels(groups, *apart)
    found = [
        row for group, label in zip(groups, told, strict=True) for row in _rows(group, label, metric, over, registry)
    ]
    demand(found)
    values = sorted({row["x"] for row in found if row["x"] is not None}, key=_order)
    if len(values) < 2:
        raise AgrbenchError(
            f"--over {over}: the records have {'one value' if values else 'no value'} of it; write a setting "
            f"({', '.join(NUMBERS)}) or a hyperparameter such as amp.kernel of which they have several"
        )
    _check(found, over)
    drawn = [{**row, "x": x} for row in found for x in ([row["x"]] if row["x"] is not None else values)]
    points, panels = across(width), list(dict.fromkeys(row["panel"] for row in drawn))
    columns = min(len(panels), max(int(points / 110), 1))
    each = panel(points, columns, 32)
    chart = _layers(drawn, values, axis, metric, points, each).properties(width=each, height=100)
    if len(panels) > 1:
        chart = chart.facet(facet=alt.Facet("panel:N", sort=panels), columns=columns, spacing=8)
    only = f" under {panels[0]}" if len(panels) == 1 and panels[0] else ""
    level = any(row["x"] is None for row in found)
    notes = [
        of_groups(groups, *apart), over_seeds(found, "whiskers"),
        f"Level lines without points: defenses that have no {over}." if level else "",
    ]  # fmt: skip
    what = f"{AXES[metric][0].upper()}{AXES[metric][1:]}".partition(" (")[0]
    return finished(chart, f"{what}{only}", notes, points)


def _check(found: Sequence[Row], over: str) -> None:
    """Check that no two values would be drawn at one place of one line.

    Raises:
        AgrbenchError: they would.
    """
    places = Counter((row["panel"], row["defense_line"], row["x"]) for row in found)
    (_, line, at), count = places.most_common(1)[0]
    if count > 1:
        raise AgrbenchError(
            f"--over {over}: {line} has {count} values{'' if at is None else f' at {at}'}, because these records "
            "differ in more than that; choose some with -D, -a and -d, or name another folder"
        )


def _layers(drawn: Sequence[Row], values: Sequence[Any], axis: str, metric: str, width: float, each: float) -> Any:
    shown = rules(drawn)
    forms = [form for form in (BASE, AMPLIFIED) if any(row["form"] == form for row in drawn)]
    base = chart_of(drawn)
    x = _x(values, axis, each)
    y = alt.Y("value:Q", title=axis_title(AXES[metric], 110), scale=alt.Scale(zero=True), axis=alt.Axis(tickCount=5))
    tint = alt.Color("rule:N", scale=colour(shown), legend=legend(0.6 * width, shown))
    patterns = {BASE: [3, 2], AMPLIFIED: [1, 0]} if len(forms) > 1 else {forms[0]: [1, 0]}
    dash = alt.StrokeDash(
        "form:N", scale=alt.Scale(domain=forms, range=[patterns[form] for form in forms]),
        legend=strokes(width / 4, forms) if len(forms) > 1 else None,
    )  # fmt: skip
    shape = alt.Shape("rule:N", scale=shapes(shown), legend=None)
    told = [f"{name}:N" for name in ("defense", "attack", "x")] + [
        f"{name}:Q" for name in ("value", "low", "high", "seeds")
    ]
    line = base.mark_line(strokeWidth=1.1).encode(x, y, tint, dash, alt.Detail("defense_line:N"))
    own = base.transform_filter("datum.own")
    dots = own.mark_point(filled=True, size=16, opacity=1).encode(x, y, tint, shape, tooltip=told)
    whisker = own.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=0.6, opacity=0.7)
    return alt.layer(whisker.encode(x, alt.Y("low:Q"), alt.Y2("high:Q"), tint), line, dots)


def _x(values: Sequence[Any], axis: str, width: float) -> alt.X:
    if not all(_is_number(value) for value in values):
        return alt.X("x:N", sort=list(map(str, values)), title=axis_title(axis, width), scale=alt.Scale(type="point"))
    low, high = values[0], values[-1]
    scale = alt.Scale(type="log", nice=False, padding=6) if low > 0 and high / low >= WIDE else alt.Scale(
        zero=False, nice=False, padding=6
    )  # fmt: skip
    ticks = {"values": list(values)} if len(values) <= 8 else {"tickCount": 5}
    return alt.X(
        "x:Q",
        title=axis_title(axis, width),
        scale=scale,
        axis=alt.Axis(format="~g", grid=False, labelOverlap=True, **ticks),
    )


def _axis(over: str, groups: Sequence[Group]) -> tuple[str, tuple[str, ...]]:
    """Return what the axis says, and the settings that set groups apart without being another panel."""
    if over in NUMBERS:
        return NUMBERS[over], MOVES.get(over, (over,))
    owner, _, name = over.rpartition(".")
    apart = tuple(each for each in SPECS if any(name in _arguments(group.cell, each, owner) for group in groups))
    return (f"{name} of {owner}" if owner else name), apart


def _rows(group: Group, label: str, metric: str, over: str, registry: Registry) -> Iterator[Row]:
    """Yield the metric of each defense with the value of `over`, `None` for a defense that has none."""
    level = _of_group(group.cell, over)
    for row in rows(group, metric):
        defense, x = _split(registry, "defense", row["spec"], over)
        attack, ours = (row["attack"], None)
        if attack is not None and metric not in ("worst", "mean") and attack != UNATTACKED:
            attack, ours = _split(registry, "attack", attack, over)
        found = [value for value in (level, x, ours) if value is not None]
        at = found[0] if found else None
        yield {
            **row, **names(defense), "defense": row["defense"], "defense_line": defense,
            "x": at if at is None or _is_number(at) else str(at), "own": at is not None,
            "panel": panel_name(label, None if metric in ("worst", "mean", "fidelity") else attack),
        }  # fmt: skip


def _of_group(cell: Cell, over: str) -> Any:
    """Return the value of a setting, or of a hyperparameter of a setting; `None` if there is none."""
    if over == "malicious":
        return 100 * cell.attackers / cell.clients
    if over in NUMBERS:
        return {"byzantine": cell.bound, "start": cell.first}.get(over, getattr(cell, over))
    owner, _, name = over.rpartition(".")
    found = [arguments[name] for each in SPECS if name in (arguments := _arguments(cell, each, owner))]
    return found[0] if found else None


def _arguments(cell: Cell, setting: str, owner: str) -> Mapping[str, Any]:
    """Return the hyperparameters of a setting, if its spec has the name `owner` (`""`: any)."""
    text = getattr(cell, setting)
    if not isinstance(text, str):
        return {}
    term = settings.read(setting, text)
    return (
        {name: value for name, value in term.arguments.items() if value is not None} if owner in ("", term.name) else {}
    )


def _split(registry: Registry, kind: str, spec: str, over: str) -> tuple[str, Any]:
    """Return a spec without the hyperparameter `over`, and the value that it has there; `None` if it has none."""
    owner, _, name = over.rpartition(".")
    try:
        entries = registry.entries(kind, spec)
    except AgrbenchError:  # of a plugin that is not within reach
        return spec, None
    terms, value = list(specs.parse(spec)), None
    for place, (term, entry) in enumerate(zip(terms, entries, strict=True)):
        if name in entry.parameters and owner in ("", term.name) and value is None:
            value = term.arguments.get(name, entry.defaults.get(name))
            kept = {each: given for each, given in term.arguments.items() if each != name}
            terms[place] = Term(term.name, kept)
    return specs.join(tuple(terms)), value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _order(value: Any) -> tuple[Any, ...]:
    return (0, value) if _is_number(value) else (1, specs.natural(str(value)))
