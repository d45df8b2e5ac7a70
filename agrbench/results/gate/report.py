"""Write a comparison: the verdict in one line, a table, and what could not be compared (docs/ci.md)."""

from __future__ import annotations

import dataclasses
import html
import itertools
import json
from collections.abc import Iterator, Sequence

from agrbench.results import formats
from agrbench.results.formats import NONE, Entry, Table, bracketed
from agrbench.results.gate import compare
from agrbench.results.gate.compare import Comparison, Notice, Row
from agrbench.results.record import plain
from agrbench.results.text import one_line

COMPARISON_SCHEMA = 1
ORDER = (compare.WORSE, compare.BETTER, compare.SAME)
SHOWN = 4  # rows or cells that the first line names
KINDS = {
    compare.LOST: "Lost, BASE has it finished and HEAD does not",
    compare.FAILED: "Not finished in HEAD, nor in BASE",
    compare.NEW: "New, only HEAD has it",
    compare.PROTOCOL: "Not compared, results changed on purpose",
    compare.STALE: "Stale in HEAD, its plugin files have changed since; run the grid again",
    compare.UNKNOWN: "Not checked for staleness, write --plugin FILE",
}


def write(found: Comparison, form: str) -> str:
    """Write a comparison as text, Markdown or JSON."""
    if form == "json":
        return json.dumps(_flat(found), indent=1)
    heading, *notes = map(one_line, (_headline(found), *_about(found), *_besides(found)))
    if form == "github":
        heading, notes = f"**{html.escape(heading, quote=False)}**", [html.escape(each, quote=False) for each in notes]
    body = "\n\n".join(formats.write([table], form).rstrip() for table in _tables(found, form))
    below = "  \n".join(notes) if form == "github" else formats.wrapped("\n".join(notes))
    return "\n\n".join(filter(None, [heading, body, below]))


def _flat(found: Comparison) -> dict[str, object]:
    whole = {
        "schema": COMPARISON_SCHEMA, "kind": "compare", "verdict": found.verdict, "tolerance": found.tolerance,
        "rows": [dataclasses.asdict(row) for row in found.rows],
        "findings": [dataclasses.asdict(each) for each in found.findings],
        "refused": list(found.refused), "remarks": list(found.remarks),
    }  # fmt: skip
    return dict(plain(whole))


def _headline(found: Comparison) -> str:
    """Write the verdict and what it is based on."""
    count = f"{len(found.rows)} row{'s' * (len(found.rows) != 1)}"
    if found.verdict == compare.RED:
        red = [f"{row.defense} {_what(row)}{_size(row)} ({_change(row)})" for row in found.rows if row.red]
        named = ", ".join(red[:SHOWN]) + (f" and {len(red) - SHOWN} more" if len(red) > SHOWN else "")
        lost = [each for each in found.findings if each.red]
        parts = [f"{len(red)} of {count} worse, beyond {_limit(found)}: {named}"] if red else []
        few = f": {_folded(lost, found)}" if len(lost) <= SHOWN else ", named below"
        parts += [f"{len(lost)} lost{few}"] if lost else []
        return f"Red: {'; '.join(parts)}."
    if found.verdict == compare.INCOMPARABLE:
        if found.refused:
            return f"Not comparable as a whole: {len(found.refused)} refused, the other files are compared below."
        return f"Not comparable{' as a whole' * bool(found.rows)}: {_sides(found)}."
    still = all(row.change == (1 if _is_ratio(row) else 0) for row in found.rows)
    return f"Green: none of {count} worse, beyond {_limit(found)}" + ("; every difference is 0." if still else ".")


def _sides(found: Comparison) -> str:
    changed = any(each.kind == compare.PROTOCOL for each in found.findings)
    same = (
        "BASE and HEAD were computed under other protocols" if changed else "nothing finished is in both BASE and HEAD"
    )
    return f"{same}; a cell is its dataset, settings, defense, attack and protocol"


def _tables(found: Comparison, form: str) -> list[Table]:
    """Make one table per dataset and settings, with red rows first."""
    ranked = sorted(found.rows, key=lambda row: (not row.red, ORDER.index(row.verdict)))
    places: dict[str, list[Row]] = {}
    for row in ranked:
        places.setdefault(_place(row), []).append(row)

    def escape(text: str) -> str:
        return html.escape(text, quote=False) if form == "github" else text

    return [
        Table(
            escape(place), _headers(found),
            tuple(tuple(Entry((escape(text),)) for text in _texts(row)) for row in rows), (), (),
        )
        for place, rows in places.items()
    ]  # fmt: skip


def _headers(found: Comparison) -> tuple[str, ...]:
    within = "[range]" if any(map(_is_ratio, found.rows)) else "[95%]"
    return "defense", "what", "BASE", "HEAD", f"change\n{within}", "p", "verdict"


def _place(row: Row) -> str:
    if row.dataset is None:
        return "{clients} clients ({byzantine} malicious), {parameters:,} parameters, {dtype}".format(**row.settings)
    return compare.place(row.dataset, row.settings)


def _texts(row: Row) -> tuple[str, ...]:
    digits = 2 if _is_ratio(row) else 1
    verdict = row.verdict if row.verdict != compare.WORSE or row.red else f"{row.verdict}, tolerated"
    return (
        row.defense, _what(row), f"{row.base:.{digits}f}", f"{row.head:.{digits}f}",
        _change(row) + (f" {bracketed(row.low, row.high, _form(row))}" if row.low is not None else NONE),
        NONE if row.p is None else f"{row.p:.2g}", verdict.upper() if row.red else verdict,
    )  # fmt: skip


def _is_ratio(row: Row) -> bool:
    return row.dataset is None


def _what(row: Row) -> str:
    beside = {"loss": "under", "success": "of"}
    return f"{row.axis} {beside[row.axis]} {row.attack}" if row.attack else row.axis


def _size(row: Row) -> str:
    return " at {clients} x {parameters:,}".format(**row.settings) if _is_ratio(row) else ""


def _change(row: Row) -> str:
    return ("x" if _is_ratio(row) else "") + f"{row.change:{_form(row)}}"


def _form(row: Row) -> str:
    return ".2f" if _is_ratio(row) else "+z.1f"  # z: no -0.0


def _limit(found: Comparison) -> str:
    if any(_is_ratio(row) for row in found.rows):
        return f"{found.tolerance:g} times"
    return f"{found.tolerance:g} points"


def _about(found: Comparison) -> Iterator[str]:
    """Explain how to read the table."""
    if not found.rows:
        return
    if any(_is_ratio(row) for row in found.rows):
        yield (
            "Server time as a ratio to fedavg's in the same run; change: HEAD's over BASE's, with what the ranges of "
            f"repetitions leave open. Worse: the ranges are apart. Red: worse and above {found.tolerance:g} times."
        )
        return
    ways = "; ".join(sorted({row.how for row in found.rows if row.p is not None}))
    yield (
        "In points, the larger the worse; error: 100 less fedavg's accuracy with nobody attacking. Change: HEAD - BASE"
        + (f", 95% intervals: {ways}; {_family(found)}." if ways else ".")
    )
    if ways:
        yield f"Worse or better: p < 0.05. Red: worse, and a change above {found.tolerance:g} points."
    if any(row.p is None for row in found.rows):
        yield f"One seed: no interval and no p; the tolerance of {found.tolerance:g} points alone decides."


def _family(found: Comparison) -> str:
    """Write which rows p is adjusted over, and how many are left out because they ask nothing."""
    asked = [row for row in found.rows if row.p is not None and not row.repeats]
    same = sum(row.repeats for row in found.rows)
    if not same:
        return "p adjusted over all rows (Holm)"
    left_out = f"{same} row{'s' * (same > 1)} left out, the same plugin code with the same values on every seed"
    return f"p adjusted over {len(asked)} row{'s' * (len(asked) != 1)} (Holm); {left_out}"


def _besides(found: Comparison) -> Iterator[str]:
    """List what was refused, what only one side has, and which plugins' code differs."""
    yield from (f"Refused: {message}" for message in found.refused)
    for kind, text in KINDS.items():
        alike = [each for each in found.findings if each.kind == kind]
        for reason in dict.fromkeys(each.reason for each in alike):
            named = _folded([each for each in alike if each.reason == reason], found)
            yield f"{text}: {named}: {one_line(reason).rstrip('.')}."
    changed = [each for each in found.findings if each.kind == compare.CODE]
    for kind in ("defense", "attack", "dataset"):
        mine = (each for each in changed if each.reason == kind)
        those = dict.fromkeys(each.place if kind == "dataset" else str(getattr(each, kind)) for each in mine)
        if those:
            yield f"Other code in HEAD: {kind} {', '.join(those)}."
    yield from found.remarks


def _folded(findings: Sequence[Notice], found: Comparison) -> str:
    """Name each defense once, with its attacks, and its place if there are several places."""
    several = len({*map(_place, found.rows), *(each.place for each in found.findings)}) > 1
    parts = []
    for (place, defense), mine in itertools.groupby(findings, lambda each: (each.place, each.defense)):
        attacks = ", ".join(each.attack for each in mine if each.attack is not None)
        parts.append(f"{defense}{f' under {attacks}' if attacks else ''}{f' ({place})' if several else ''}")
    return "; ".join(parts)
