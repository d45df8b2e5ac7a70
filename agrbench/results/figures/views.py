"""The updates of one round on their two principal components, as sent beside as pooled (figure 1 of the paper)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import altair as alt
import numpy as np
from numpy.typing import NDArray

from agrbench.errors import AgrbenchError
from agrbench.results.figures.sizes import COLUMN
from agrbench.results.figures.style import BLUE, VERMILION, across, chart_of, finished, legend, panel
from agrbench.results.figures.values import Row
from agrbench.results.snapshots import Snapshot
from agrbench.results.tables.notes import federation
from agrbench.results.text import one_line

SENDERS = {"honest": (BLUE, "circle"), "malicious": (VERMILION, "triangle-up")}
VIEWS = {"as sent": "updates", "amplified": "pooled"}


def draw(snapshots: Sequence[Snapshot], width: float = COLUMN) -> Any:
    """Draw a point for each client: a row of panels for each snapshot.

    Raises:
        AgrbenchError: an update is not finite, or there are fewer than three of them.
    """
    points = across(width)
    each = panel(points, 2, 60, 8)
    rows = [
        alt.hconcat(
            *(_panel(snapshot, name, each, points) for name in VIEWS), spacing=8, title=heading(snapshot, snapshots)
        )
        for snapshot in snapshots
    ]
    notes = [*told(snapshots), "PC: principal component, with its share of the variance in each panel."]
    return finished(alt.vconcat(*rows, spacing=8), "One round's updates", notes, points)


def _panel(snapshot: Snapshot, name: str, each: float, width: float) -> Any:
    places, shares = components(finite(getattr(snapshot, VIEWS[name])))
    drawn = list(_rows(snapshot, places))
    base = chart_of(drawn, title=alt.TitleParams(name, fontSize=7.5, anchor="middle", offset=3))
    axes = [
        kind(f"{field}:Q", title=f"PC {place} ({100 * share:.0f}%)", scale=alt.Scale(zero=False, padding=4),
             axis=alt.Axis(tickCount=3, format="~g"))
        for kind, field, place, share in zip((alt.X, alt.Y), "xy", (1, 2), shares, strict=True)
    ]  # fmt: skip
    return base.mark_point(size=16, strokeWidth=0.9, opacity=0.9).encode(
        *axes, *senders(width), tooltip=["client:N", "sender:N", "weight:Q"]
    ).properties(width=each, height=each)  # fmt: skip


def senders(width: float) -> list[Any]:
    """Return the colours and shapes of honest and malicious clients."""
    names = list(SENDERS)
    tints, shapes = zip(*SENDERS.values(), strict=True)
    key = legend(width, names)
    return [
        alt.Color("sender:N", scale=alt.Scale(domain=names, range=list(tints)), legend=key),
        alt.Shape("sender:N", scale=alt.Scale(domain=names, range=list(shapes)), legend=key),
    ]


def components(rows: NDArray[Any]) -> tuple[NDArray[Any], list[float]]:
    """Return where each row lies on the two principal components, and the shares of the variance that these have.

    They are computed from the products of the rows, which are few, rather than from the columns.
    """
    if len(rows) < 3:
        raise AgrbenchError(f"the snapshot has {len(rows)} updates; take one of a cell with 3 clients a round or more")
    centred = rows.astype(float) - rows.mean(0, dtype=float)
    values, vectors = np.linalg.eigh(centred @ centred.T)
    values, vectors = values[::-1].clip(0), vectors[:, ::-1]
    places = vectors[:, :2] * np.sqrt(values[:2])
    signs = np.sign(places[np.abs(places).argmax(0), [0, 1]])  # the farthest row lies on the positive side
    return places * signs, [float(value / values.sum()) if values.sum() else 0.0 for value in values[:2]]


def finite(rows: NDArray[Any]) -> NDArray[Any]:
    """Return rows that are finite.

    Raises:
        AgrbenchError: an entry is not.
    """
    if not np.isfinite(rows).all():
        raise AgrbenchError("an update of this round is not finite, so it has no place in a figure; take another round")
    return rows


def _rows(snapshot: Snapshot, places: NDArray[Any]) -> Iterator[Row]:
    """Yield a row for each client, malicious ones last, so that they are drawn on top."""
    attackers = set(snapshot.malicious.tolist())
    for row in sorted(range(len(places)), key=lambda row: row in attackers):
        x, y = map(float, places[row])
        yield {
            "x": x, "y": y, "client": int(snapshot.clients[row]), "weight": float(snapshot.weights[row]),
            "sender": [*SENDERS][row in attackers],
        }  # fmt: skip


def heading(snapshot: Snapshot, snapshots: Sequence[Snapshot]) -> Any:
    """Name a row of panels by what sets it apart, if there are several."""
    if len(snapshots) < 2:
        return alt.Undefined
    each_told = [_parts(each) for each in snapshots]
    mine = [part for place, part in enumerate(_parts(snapshot)) if len({each[place] for each in each_told}) > 1]
    return alt.TitleParams(", ".join(mine), fontSize=7.5, anchor="start", offset=2)


def told(snapshots: Sequence[Snapshot]) -> Iterator[str]:
    """Yield a sentence on what all snapshots share."""
    each_told = [_parts(each) for each in snapshots]
    shared = [part for place, part in enumerate(each_told[0]) if len({each[place] for each in each_told}) == 1]
    if shared:
        yield f"{', '.join(shared)}."


def _parts(snapshot: Snapshot) -> list[str]:
    cell = snapshot.cell
    return [
        one_line(part)
        for part in (
            f"round {snapshot.number}", cell.dataset, cell.attack, cell.defense, f"seed {cell.seed}", federation(cell)
        )
    ]  # fmt: skip
