"""Show ours beside each published value, and a verdict on the whole suite."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from agrbench import settings
from agrbench.results.formats import NONE, Entry, Table
from agrbench.results.validation.published import Published, Value
from agrbench.results.validation.verdicts import CONTRADICTIONS, Finding

HEADERS = ("defense", "attack", "published", "ours", "difference", "explained", "seeds", "verdict")


def beside(suite: Published, findings: Sequence[Finding]) -> Table:
    """Build the table of a suite: accuracies in percent, differences in points."""
    rows = tuple(tuple(Entry((text,)) for text in _row(finding)) for finding in findings)
    about = (
        f"Published: {suite.source} (licence: {suite.licence}); means and deviations of {suite.seeds} seeds.",
        "Accuracies in percent. Explained: the difference of means, in points, that seeds (95%, Welch) and rounding "
        "explain. Of 100 true differences of 0, seeds alone put 5 beyond it.",
    )
    return Table(
        suite.title, HEADERS, rows, (*about, *suite.notes, verdict(suite, findings)), tuple(map(_flat, findings))
    )


def verdict(suite: Published, findings: Sequence[Finding]) -> str:
    """Say in a line how many values we ran, and how many agree."""
    found = Counter(finding.verdict for finding in findings)
    ran = len(findings) - found["not run"]
    outside = sum(found[each] for each in CONTRADICTIONS)
    unsure = f", {found['one seed']} with one seed and no published deviation" if found["one seed"] else ""
    parts = f"{found['within']} within what seeds and rounding explain, {found['above']} above, {found['below']} below"
    end = "contradicted" if outside else "no contradiction"
    return f"Verdict: {suite.name}: {ran} of {len(findings)} values run; {parts}{unsure}: {end}."


def listed(suites: Sequence[Published]) -> Table:
    """Build the table of the suites there are."""
    rows = tuple(
        tuple(Entry((text,)) for text in (each.name, str(len(each.values)), str(each.seeds), each.licence, each.title))
        for each in suites
    )
    data = tuple({"name": each.name, "values": len(each.values), "title": each.title} for each in suites)
    notes = ("Next: agrbench validate NAME",)
    return Table("Published values", ("name", "values", "seeds", "licence", "what"), rows, notes, data)


def _row(finding: Finding) -> tuple[str, ...]:
    value = finding.value
    spread = "" if value.deviation is None else f" ± {value.deviation:.1f}"
    published = f"{value.accuracy:.1f}{spread}"
    if not finding.ours.values:
        return _defense(value), _attack(value, None), published, NONE, NONE, NONE, NONE, finding.verdict
    reach = NONE if finding.explained is None else f"± {finding.explained:.1f}"
    ours = f"{finding.ours.mean:.1f}"
    numbers = published, ours, f"{finding.difference:+.1f}", reach, str(len(finding.ours.values))
    return _defense(value), _attack(value, finding.attack), *numbers, finding.verdict


def _defense(value: Value) -> str:
    given = ", ".join(f"{name} {settings.spelled(name, each)}" for name, each in value.settings.items())
    return f"{value.defense}, {given}" if given else value.defense


def _attack(value: Value, worst: str | None) -> str:
    return (
        value.attacks[0]
        if len(value.attacks) == 1
        else f"worst of {len(value.attacks)}" + (f": {worst}" if worst else "")
    )


def _flat(finding: Finding) -> dict[str, object]:
    """Write a row at full precision, with `None` for what was not run."""
    value, ran = finding.value, bool(finding.ours.values)
    return {
        "defense": value.defense,
        "attacks": list(value.attacks),
        "settings": dict(value.settings),
        "published": value.accuracy,
        "published_deviation": value.deviation,
        "worst": finding.attack,
        "ours": finding.ours.mean if ran else None,
        "seeds": list(finding.ours.seeds),
        "values": list(finding.ours.values),
        "difference": finding.difference if ran else None,
        "explained": finding.explained,
        "verdict": finding.verdict,
    }
