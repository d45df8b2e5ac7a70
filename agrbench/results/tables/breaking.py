"""The table of breaking points, one row per defense (docs/metrics.md)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from agrbench.results import statistics
from agrbench.results.breaking import POINTS, Search
from agrbench.results.formats import NONE, Entry, Table, with_interval
from agrbench.results.tables.notes import a_round, beyond

BAR = 20  # characters from no malicious client to half of them


def table(found: Sequence[Search], dataset: str | None = None) -> Table:
    """Show one row per defense: the first share that breaks it, the last that does not, and the worst attack there.

    `dataset` is how the title writes the dataset (default: as its cells do).
    """
    cell = found[0].cell
    title = (
        f"Breaking points: {dataset or cell.dataset}, {cell.clients} clients{a_round(cell)}, {cell.rounds} rounds, "
        f"attack from {cell.first}{beyond(cell.settings)}"
    )
    scale = f"0%{'of clients':^{BAR - 5}}50%"
    headers = ("defense", "breaks\nat", "holds\nat", "worst attack there\nand its loss", scale)
    return Table(title, headers, tuple(map(_shown, found)), tuple(_notes(found)), tuple(map(_data, found)))


def _shown(search: Search) -> tuple[Entry, ...]:
    n, level = search.cell.clients, search.decisive
    held = NONE if search.held is None else f"{search.held}/{n}"
    worst = NONE
    if level is not None:
        within = statistics.interval(level.loss)
        low, high, _ = within or (None, None, None)
        worst = f"{level.attack} {with_interval(level.loss.mean, low, high)}"
    if search.next is not None:
        breaks, bar = "unknown: runs failed", ""
    elif search.broken is not None:
        breaks, bar = f"{search.broken}/{n} ({100 * search.broken / n:.0f}%)", _bar(search.broken, n, "|")
    else:
        why = "half" if search.limit == n // 2 else "legal limit"
        breaks, bar = f"> {search.limit}/{n}, {why}", _bar(search.limit, n, ">")
    name = search.cell.defense + ("‡" if search.left_out else "")
    return tuple(Entry((text,)) for text in (name, breaks, held, worst, bar))


def _data(search: Search) -> dict[str, Any]:
    level = search.decisive
    within = None if level is None else statistics.interval(level.loss)
    return {
        "dataset": search.cell.dataset,
        "settings": {key: value for key, value in search.cell.settings.items() if key != "malicious"},
        "unit": "points",
        "defense": search.cell.defense,
        "clients": search.cell.clients,
        "broken": search.broken,
        "held": search.held,
        "limit": search.limit,
        "limited_by": search.limited_by,
        "complete": search.next is None,
        "attacks": list(search.attacks),
        "left_out": dict(search.left_out),
        "attack": level.attack if level else None,
        "loss": level.loss.mean if level else None,
        **statistics.columns(within),
        "seeds": search.seeds,
        "levels": [
            {"malicious": count, "attack": at.attack, "loss": at.loss.mean, "values": list(at.loss.values)}
            for count, at in sorted(search.levels.items())
        ],
    }


def _bar(count: int, clients: int, end: str) -> str:
    """Draw a share of up to one half as a bar that ends in `end`."""
    length = round(BAR * 2 * count / clients)
    return ("=" * length)[:-1] + end + "." * (BAR - max(length, 1))


def _notes(found: Sequence[Search]) -> Iterator[str]:
    attacks = dict.fromkeys(attack for search in found for attack in search.attacks)
    over = "one seed" if found[0].seeds == 1 else f"{found[0].seeds} paired seeds"
    yield (
        f"Breaks: the worst attack costs {POINTS:.0f} points of accuracy or more against the unattacked, undefended "
        f"run, mean over {over}; bisected over the number of malicious clients, which the server knows."
    )
    yield f"Worst of {', '.join(attacks)}; its loss in points. " + (
        "With a 95% interval of Student's t or the bootstrap; where it holds 10, other seeds may break elsewhere."
        if found[0].seeds > 1
        else "One seed: no interval."
    )
    ended = [
        each for each in found if each.next is None and each.broken is None and each.limit < each.cell.clients // 2
    ]
    yield from dict.fromkeys(f"Legal limit: {each.limited_by}." for each in ended)
    for reason in dict.fromkeys(reason for search in found for reason in search.left_out.values()):
        yield f"‡ left out: {reason}; the defense may break earlier."
