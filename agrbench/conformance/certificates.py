"""Certificates: all properties of a plugin tested, its waivers, and how far its steps can be moved."""

from __future__ import annotations

import difflib
import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from hypothesis import strategies as st

from agrbench.cells import UNDEFENDED
from agrbench.conformance import coefficients, datasets, laws
from agrbench.conformance.cases import Violation, literal
from agrbench.conformance.coefficients import Measure
from agrbench.conformance.properties import ATTACK, COLUMNS, DATASET, DEFENSE, ELSEWHERE, REPLAYED, ROWS, Property
from agrbench.conformance.recordings import BEFORE, STANDING, Replay
from agrbench.conformance.scenes import Scenes
from agrbench.conformance.search import Counterexample, search
from agrbench.conformance.strategies import Draws, Strategy, with_other
from agrbench.conformance.subjects import Subject, subjects
from agrbench.errors import PluginError, SpecError
from agrbench.progress import progress

EXAMPLES = 100
SMALLEST = (2, 5)  # numbers of smallest sizes to search again, for a counterexample with few clients
Status = Literal["holds", "waived", "violated"]


@dataclass(frozen=True)
class Claim:
    """One property that a plugin claims."""

    subject: Subject
    property: Property
    inputs: Any

    def __str__(self) -> str:
        return self.property.name

    def verify(self, examples: int = EXAMPLES) -> None:
        """Try to refute the claim.

        Raises:
            Violation: it does not hold; the message ends with the smallest counterexample as runnable Python.
        """
        found = self.refute(examples)
        if found is not None:
            raise Violation(f"{self.subject.spec} violates {self}: {found.why}\n\n{python(self.property, found)}")

    def refute(self, examples: int = EXAMPLES) -> Counterexample | None:
        """Search for a counterexample; if there is one, prefer one with few clients."""
        found = self._search(self.inputs, examples)
        if found is not None and isinstance(self.inputs, Draws):
            for sizes in SMALLEST:
                smaller = self._search(self.inputs.smallest(sizes), examples)
                if smaller is not None:
                    return smaller
        return found

    def _search(self, inputs: Any, examples: int) -> Counterexample | None:
        if isinstance(inputs, Replay):
            inputs = inputs.lasting(examples)
        strategy: Strategy | None = self.property.inputs(inputs)
        if strategy is None:
            return None
        if self.subject.kind == "dataset":
            examples = 1
        return search(self.property.check, strategy, max(round(examples * self.property.share), 1))


@dataclass(frozen=True)
class Finding:
    """The result for one property: the reason for its waiver, or how it is violated and Python that shows it."""

    property: Property
    verdict: Status
    why: str = ""
    python: str = ""


@dataclass(frozen=True)
class Certificate:
    """Everything found about one plugin, and the coefficients of its forms."""

    subject: Subject
    findings: tuple[Finding, ...]
    measures: tuple[Measure, ...] = ()
    replay: Replay | None = None
    elsewhere: Mapping[str, str] = field(default_factory=dict)

    @property
    def violated(self) -> bool:
        """Return whether any property is violated."""
        return any(finding.verdict == "violated" for finding in self.findings)

    def _repr_html_(self) -> str:
        """Show the certificate in a notebook: each property, its verdict, and what it says or why it is waived."""
        rows = [(each.property.name, each.verdict, each.why or each.property.says) for each in self.findings]
        rows += [(name, "waived", reason) for name, reason in self.elsewhere.items()]
        lines = ["".join(f"<td>{html.escape(text)}</td>" for text in row) for row in rows]
        body = "\n".join(f"<tr>{line}</tr>" for line in lines)
        title = html.escape(f"{self.subject.kind} {self.subject.spec}")
        head = "<tr><th>property</th><th>verdict</th><th></th></tr>"
        return f"<p><strong>{title}</strong></p>\n<table>\n{head}\n{body}\n</table>"


def claims(named: str | Path, plugins: tuple[str, ...] = ()) -> list[Claim]:
    """List the properties that a spec or a plugin file claims: all of its kind that apply and are not waived.

    Raises:
        AgrbenchError: it names no plugin, or waives a property that does not exist.
    """
    return [
        claim
        for subject in subjects(str(named), plugins)
        for claim in every(subject)
        if str(claim) not in waived(subject)
    ]


def every(subject: Subject) -> list[Claim]:
    """List the properties of a plugin's kind that apply to it, including waived ones."""
    inputs, waives, replay = inputs_of(subject), waived(subject), replay_of(subject)
    found = [Claim(subject, each, replay if name in REPLAYED else inputs) for name, each in table_of(subject).items()]
    return [each for each in found if str(each) in waives or each.property.inputs(each.inputs) is not None]


def table_of(subject: Subject) -> Mapping[str, Property]:
    """Return the properties of a plugin's kind by name."""
    if subject.kind == "dataset":
        return DATASET
    if subject.kind == "attack":
        return {**ATTACK, **{name: REPLAYED[name] for name in ("repeated", "unwatched")}}
    drawn = DEFENSE if subject.kind == "defense" else COLUMNS if subject.records[0].columns else ROWS
    return {**drawn, **REPLAYED}


def inputs_of(subject: Subject) -> Any:
    """Return the inputs on which a plugin's properties are tested; a row stage is tested before plain averaging.

    Raises:
        DataError: it is a dataset whose files are missing.
        Inapplicable: it is a stack that is defined for no number of clients tried.
    """
    if subject.kind == "attack":
        return Scenes(subject.spec, subject.plugins)
    if subject.kind == "dataset":
        datasets.require(subject.spec, subject.plugins)
        return st.just({"dataset": subject.spec, "plugins": subject.plugins})
    if _maps_columns(subject):
        return Draws(subject.spec, subject.plugins, [(n, 0) for n in range(1, 6)])
    return Draws.of(f"{subject.spec}+{UNDEFENDED}" if subject.kind == "stage" else subject.spec, subject.plugins)


def replay_of(subject: Subject) -> Replay | None:
    """Return the replay of a plugin in a real grid, of a column stage before a rule that judges its view.

    Raises:
        Inapplicable: it is a stack that is defined for no number of clients tried.
    """
    if subject.kind == "dataset":
        return None
    if subject.kind == "attack":
        return Replay(attack=subject.spec, plugins=subject.plugins)
    if _maps_columns(subject):
        return Replay(f"{subject.spec}+{BEFORE}", plugins=subject.plugins)
    draws = inputs_of(subject)
    clients, byzantine = draws.standing() or max(
        pair for pair in draws.pairs if pair[0] <= max(STANDING[0], draws.pairs[0][0])
    )
    return Replay(draws.spec, plugins=subject.plugins, clients=clients, byzantine=byzantine)


def _maps_columns(subject: Subject) -> bool:
    return subject.kind == "stage" and subject.records[0].columns is not None


def waived(subject: Subject) -> dict[str, str]:
    """Return the properties that a subject's parts waive, each with the reason.

    Raises:
        PluginError: a waived property does not exist.
    """
    known = set(chain(DEFENSE, ROWS, COLUMNS, ATTACK, DATASET, REPLAYED, ELSEWHERE))
    found: dict[str, str] = {}
    for name, reason in chain.from_iterable(record.waives.items() for record in subject.records):
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.0)[0]
            raise PluginError(f"{subject.spec} waives {name!r}, which is no property; did you mean {near}?")
        found.setdefault(name, reason)
    if any(getattr(record, "columns", None) for record in subject.records) and subject.kind == "defense":
        found.setdefault("amplified", "it is amplified, or its control, already")
    for name in (
        "repeated",
        "unwatched",
    ):  # what draws random numbers of its own, or keeps state elsewhere, says so once
        for reason in filter(None, map(found.get, ("determinism", "memory"))):
            found.setdefault(name, reason)
    return found


def certify(subject: Subject, examples: int = EXAMPLES, quiet: bool = False) -> Certificate:
    """Test every property that is not waived, and measure how far steps can be moved."""
    waives, claimed, forms = waived(subject), every(subject), _forms(subject)
    found, measures, replay = [], [], replay_of(subject)
    if replay is not None:
        replay = replay.lasting(examples)
        replay.begin()  # it starts a process, which takes as long as many examples
    with progress(f"checking {subject.spec}", len(claimed) + len(forms), quiet) as report:
        for claim in claimed:
            reason = waives.get(str(claim))
            found.append(_tried(claim, examples) if reason is None else Finding(claim.property, "waived", reason))
            report(str(claim))
        for form in forms:
            measures.append(coefficients.measure(form, subject.plugins, examples))
            report(f"coefficient of {form}")
    elsewhere = {name: reason for name, reason in waives.items() if name not in table_of(subject)}
    return Certificate(subject, tuple(found), tuple(filter(None, measures)), replay, elsewhere)


def difference_from(subject: Subject, other: str, examples: int = EXAMPLES) -> Finding:
    """Search for the smallest input on which two rules differ."""
    if subject.kind != "defense":
        raise SpecError(f"{subject.spec} is no defense but of the kind {subject.kind}; --against compares two defenses")
    draws = Draws.of(subject.spec, subject.plugins, other)
    agreement = Property("agreement", laws.agreement, lambda draws: with_other(draws, other))
    for each in (*map(draws.smallest, SMALLEST), draws):
        found = search(laws.agreement, with_other(each, other), examples)
        if found is not None:
            return Finding(agreement, "violated", found.why, python(agreement, found))
    return Finding(agreement, "holds")


def python(broken: Property, found: Counterexample) -> str:
    """Write a counterexample as Python that raises when it runs."""
    module = broken.call.partition(".")[0]
    subject = next(iter(found.inputs.values()))
    imports = [module] if isinstance(subject, str) else [type(subject).__name__, module]
    lines = [f"from agrbench.conformance import {', '.join(imports)}", ""]
    arguments = []
    for name, value in found.inputs.items():
        if hasattr(value, "__dataclass_fields__"):
            lines.append(f"{name} = {literal(value)}")
            arguments.append(name)
        else:
            arguments.append(f"{name}={literal(value)}")
    return "\n".join([*lines, f"{broken.call}({', '.join(arguments)})"])


def _tried(claim: Claim, examples: int) -> Finding:
    found = claim.refute(examples)
    if found is None:
        return Finding(claim.property, "holds")
    return Finding(claim.property, "violated", found.why, python(claim.property, found))


def _forms(subject: Subject) -> list[str]:
    """List the stacks whose coefficients are measured: a defense and, if it has one, its amplified form."""
    if subject.kind != "defense":
        return []
    return [subject.spec] if "amplified" in waived(subject) else [subject.spec, f"amp+{subject.spec}"]
