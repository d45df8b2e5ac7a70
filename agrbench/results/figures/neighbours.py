"""The angles of one round's updates to one client's, and its nearest neighbours (figure 4 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
from numpy.typing import NDArray

from agrbench.errors import AgrbenchError
from agrbench.results.figures.sizes import COLUMN
from agrbench.results.figures.style import (
    BLACK,
    SMALL,
    across,
    chart_of,
    finished,
    legend,
    panel,
)
from agrbench.results.figures.values import Row
from agrbench.results.figures.views import SENDERS, VIEWS, finite, heading, told
from agrbench.results.snapshots import Snapshot

SELF = "the client"
MARGIN = 0.15  # of the arrows' length, around them


def draw(
    snapshots: Sequence[Snapshot], client: int | None = None, nearest: int | None = None, width: float = COLUMN
) -> Any:
    """Draw an arrow for each client at the angle of its update to that of `client` (default: the first honest one).

    The `nearest` clients by cosine similarity are solid (default: 60% of all, as in the paper), the others faint.

    Raises:
        AgrbenchError: there is no such client or number, or an update is not finite or zero.
    """
    points = across(width)
    drawn = [{name: _rows(snapshot, name, client, nearest) for name in VIEWS} for snapshot in snapshots]
    lowest = min(row["y"] for mine in drawn for rows in mine.values() for row in rows)
    rows = [
        alt.hconcat(*(_panel(name, found, lowest, points) for name, found in mine.items()), spacing=8,
                    title=heading(snapshot, snapshots))
        for snapshot, mine in zip(snapshots, drawn, strict=True)
    ]  # fmt: skip
    first = snapshots[0]
    notes = [
        *told(snapshots),
        f"Angles to the update of client {int(first.clients[_row_of(first, client)])}; solid: its "
        f"{_count(first, nearest)} nearest by cosine similarity, whose sum stands above.",
    ]
    return finished(alt.vconcat(*rows, spacing=8), "Neighbours of an honest client", notes, points)


def _row_of(snapshot: Snapshot, client: int | None) -> int:
    """Return the row of a client, by default the first honest one."""
    attackers = set(snapshot.malicious.tolist())
    rows = [row for row in range(len(snapshot.clients)) if row not in attackers]
    if client is not None:
        rows = [row for row, name in enumerate(snapshot.clients.tolist()) if name == client]
    if not rows:
        raise AgrbenchError(f"--client {client}: it sent no update in round {snapshot.number}; write another one")
    return rows[0]


def _count(snapshot: Snapshot, nearest: int | None) -> int:
    others = len(snapshot.clients) - 1
    count = round(0.6 * len(snapshot.clients)) if nearest is None else nearest
    if not 1 <= count <= others:
        raise AgrbenchError(
            f"--nearest {count}: the round has {others} other clients; write a number from 1 to {others}"
        )
    return count


def _rows(snapshot: Snapshot, name: str, client: int | None, nearest: int | None) -> list[Row]:
    """Return an arrow for each client, the nearest ones on top, and last the client itself, which points upwards."""
    mine, count = _row_of(snapshot, client), _count(snapshot, nearest)
    similar, sides = angles(finite(getattr(snapshot, VIEWS[name])), mine)
    attackers = set(snapshot.malicious.tolist())
    others = sorted((row for row in range(len(similar)) if row != mine), key=lambda row: float(-similar[row]))
    turns = np.arccos(similar) * sides
    return [
        {
            "x": float(np.sin(turns[row])), "y": float(np.cos(turns[row])), "zero": 0, "near": row in others[:count],
            "client": int(snapshot.clients[row]), "weight": float(snapshot.weights[row]),
            "similarity": float(similar[row]), "sender": SELF if row == mine else [*SENDERS][row in attackers],
        }
        for row in (*reversed(others), mine)
    ]  # fmt: skip


def _panel(name: str, drawn: Sequence[Row], lowest: float, width: float) -> Any:
    near, each = [row for row in drawn if row["near"]], panel(width, 2, 8, 8)
    bad = sum(row["sender"] == "malicious" for row in near)
    heading = [name, f"{bad} of {len(near)} malicious, sum {sum(row['similarity'] for row in near):.1f}"]
    shown, base = [*SENDERS, SELF], chart_of(drawn,
        title=alt.TitleParams(heading, fontSize=SMALL, anchor="middle", offset=3, fontWeight="normal"),
    )  # fmt: skip
    tints = alt.Scale(domain=shown, range=[*(colour for colour, _ in SENDERS.values()), BLACK])
    shapes = alt.Scale(domain=shown, range=[*(shape for _, shape in SENDERS.values()), "diamond"])
    key = legend(width, shown)
    marks = [
        alt.Color("sender:N", scale=tints, legend=key),
        alt.condition(f"datum.near || datum.sender == '{SELF}'", alt.value(0.95), alt.value(0.18)),
    ]
    low = min(lowest, 0) - MARGIN
    wide: dict[str, Any] = {"scale": alt.Scale(domain=[-1 - MARGIN, 1 + MARGIN], nice=False), "axis": None}
    high: dict[str, Any] = {"scale": alt.Scale(domain=[low, 1 + MARGIN], nice=False), "axis": None}
    ray = base.mark_rule(strokeWidth=0.6).encode(
        alt.X("zero:Q", **wide), alt.Y("zero:Q", **high), alt.X2("x:Q"), alt.Y2("y:Q"), marks[0], opacity=marks[1]
    )
    tip = base.mark_point(filled=True, size=14).encode(
        alt.X("x:Q", **wide), alt.Y("y:Q", **high), marks[0], alt.Shape("sender:N", scale=shapes, legend=key),
        opacity=marks[1], tooltip=["client:N", "sender:N", "similarity:Q", "weight:Q"],
    )  # fmt: skip
    height = each * (1 + MARGIN - low) / (2 + 2 * MARGIN)  # a circle stays one
    return alt.layer(ray, tip).properties(width=each, height=height)


def angles(rows: NDArray[Any], mine: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return each row's cosine similarity to one of them, and the side, 1 or -1, on which it is drawn.

    The sides are those of the direction in which the rows, without their part along that one, vary most.
    """
    lengths = np.linalg.norm(rows.astype(float), axis=1)
    if not lengths.all():
        raise AgrbenchError("an update of this round is zero, so it has no angle; take another round or attack")
    units = rows / lengths[:, None]
    similar = np.clip(units @ units[mine], -1, 1)
    rest = units - similar[:, None] * units[mine]
    rest -= rest[np.arange(len(rest)) != mine].mean(0)
    _, vectors = np.linalg.eigh(rest @ rest.T)
    return similar, np.where(vectors[:, -1] >= 0, 1, -1)
