"""Write certificates as text, Markdown or JSON."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from agrbench.conformance.cases import literal
from agrbench.conformance.certificates import Certificate, Finding
from agrbench.conformance.coefficients import Measure

WIDTH = 116


def write(certificates: Sequence[Certificate], form: str) -> str:
    """Write certificates in one of the formats."""
    if form == "json":
        return json.dumps([as_data(each) for each in certificates], indent=1)
    return "\n\n".join((_github if form == "github" else _plain)(each) for each in certificates)


def as_data(certificate: Certificate) -> dict[str, Any]:
    """Return a certificate as plain values."""
    subject = certificate.subject
    return {
        "kind": subject.kind,
        "spec": subject.spec,
        "properties": [
            {"name": each.property.name, "says": each.property.says, "verdict": each.verdict, "why": each.why or None,
             "counterexample": each.python or None}
            for each in certificate.findings
        ],
        "replayed": [
            {"cell": cell.as_json(), "rounds": cell.rounds}
            for cell in (certificate.replay.cells if certificate.replay else ())
        ],
        "waived_elsewhere": dict(certificate.elsewhere),
        "coefficients": [
            {"stack": each.stack, "clients": each.clients, "byzantine": each.byzantine, "found": _number(each.found),
             "unbounded": each.how or None, "proven": _number(each.bound), "proof": each.proof or None,
             "counterexample": python(each)}
            for each in certificate.measures
        ],
    }  # fmt: skip


def difference(spec: str, other: str, found: Finding, form: str) -> str:
    """Write how two rules differ, if they do."""
    if form == "json":
        differs = found.verdict == "violated"
        data = {"spec": spec, "against": other, "differs": differs, "why": found.why or None,
                "counterexample": found.python or None}  # fmt: skip
        return json.dumps(data, indent=1)
    if found.verdict == "holds":
        return f"{spec} and {other} gave the same step on every input tried"
    code = f"```python\n{found.python}\n```" if form == "github" else textwrap.indent(found.python, "    ")
    return f"{found.why}\n\n{code}"


def _plain(certificate: Certificate) -> str:
    lines = [f"{certificate.subject.kind} {certificate.subject.spec}", ""]
    for each in certificate.findings:
        lines.append(f"  {each.verdict:<9} {each.property.name:<12} {_wrapped(_says(each), 25)}")
    for name, reason in certificate.elsewhere.items():
        lines.append(f"  {'waived':<9} {name:<12} {_wrapped(reason, 25)}")
    if certificate.replay:
        lines += ["", f"  {_wrapped(certificate.replay.sentence, 2)}"]
    for measure in certificate.measures:
        lines += ["", f"  {_wrapped(sentence(measure), 2)}"]
    for title, code in _shown(certificate):
        lines += ["", f"  {_wrapped(title, 2)}", "", textwrap.indent(code, "    ")]
    return "\n".join(lines)


def _github(certificate: Certificate) -> str:
    lines = [f"### {certificate.subject.kind} `{certificate.subject.spec}`", ""]
    lines += ["| property | verdict | |", "|---|---|---|"]
    for each in certificate.findings:
        lines.append(f"| {each.property.name} | {_marked(each)} | {_says(each)} |")
    for name, reason in certificate.elsewhere.items():
        lines.append(f"| {name} | waived | {reason} |")
    if certificate.replay:
        lines += ["", certificate.replay.sentence]
    for measure in certificate.measures:
        lines += ["", sentence(measure)]
    for title, code in _shown(certificate):
        lines += ["", title, "", "```python", code, "```"]
    return "\n".join(lines)


def sentence(measure: Measure) -> str:
    """State the coefficient that was found, and the bound that is proven."""
    where = f"{measure.stack}, {measure.clients} clients, {measure.byzantine} malicious"
    proven = "no bound is proven here"
    if measure.bound is not None:
        proven = f"at most {measure.bound:.3g} is proven ({measure.proof})"
    if measure.how:
        return f"robustness coefficient ({where}): unbounded; {measure.how}"
    return f"robustness coefficient ({where}): {measure.found:.3g} found, {proven}"


def python(measure: Measure) -> str:
    """Write a coefficient's case as Python that prints the coefficient."""
    honest = "" if measure.honest is None else f", honest={list(measure.honest)}"
    return "\n".join([
        "from agrbench.conformance import Case, coefficients", "",
        f"case = {literal(measure.case)}",
        f"print(coefficients.coefficient(case{honest}))",
    ])  # fmt: skip


def _shown(certificate: Certificate) -> Iterator[tuple[str, str]]:
    for each in certificate.findings:
        if each.verdict == "violated":
            yield f"{each.property.name} is violated: {each.why}", each.python
    shown = ""
    for measure in certificate.measures:
        if measure.how and measure.how != shown:
            shown = measure.how
            yield f"{measure.stack} has no coefficient; this one is {measure.found:.3g}:", python(measure)


def _says(finding: Finding) -> str:
    return finding.why if finding.verdict == "waived" else finding.property.says


def _marked(finding: Finding) -> str:
    return f"**{finding.verdict}**" if finding.verdict == "violated" else finding.verdict


def _wrapped(text: str, indent: int) -> str:
    return textwrap.fill(text, WIDTH - indent, subsequent_indent=" " * indent)


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
