"""Certify every shipped plugin and say how each is tested: writes leaderboard/certificates.md and docs/status.md.

    AGRBENCH_DATA=... python benchmarks/certificates.py [EXAMPLES]

uses all cores, and some minutes of them. What tests cover is read from their marks (`oracle`,
`trap`, `peer`), which stand in the test files; nothing here is typed by hand.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Any

from agrbench.conformance import certificates, reports
from agrbench.conformance.subjects import Subject
from agrbench.errors import DataError
from agrbench.plugins import registry
from agrbench.plugins.source import PluginSource
from agrbench.progress import progress

ROOT = Path(__file__).parents[1]
CERTIFICATES, STATUS = ROOT / "leaderboard" / "certificates.md", ROOT / "docs" / "status.md"
DATA = CERTIFICATES.with_suffix(".json")
TABLE = "| plugin | kind | digest | holds | waives | robustness coefficient |\n|---|---|---|---|---|---|"
SLOWEST = 8
KINDS = ("defense", "stage", "attack", "dataset")
PEER = "none in byzfl 0.0.11"
ABSENT = "not run: its files are not at hand"
HEAD = """# Which properties does each plugin have?

What `agrbench check` finds of every shipped plugin at {examples} inputs a property;
[docs/check.md](../docs/check.md) says what the properties mean. A certificate belongs to the plugin whose digest it
names.

Written by `python benchmarks/certificates.py {examples}`.

"""
STATUS_HEAD = """# How is each plugin tested?

Oracle: the first test that compares it with a slow oracle written from the definition, and how many more there are.
Traps: how many tests pin a case that other implementations, or a careless change, get wrong. Peer: another
implementation that it is compared with. Certificate: how many properties hold, in
[leaderboard/certificates.md](../leaderboard/certificates.md).

Written by `python benchmarks/certificates.py`, from marks on the tests.

"""


@dataclass
class Coverage:
    """What tests say they cover of one plugin: the tests with an oracle and of traps, and the peers."""

    oracle: list[str] = field(default_factory=list)
    trap: list[str] = field(default_factory=list)
    peer: list[str] = field(default_factory=list)


def entries() -> Iterator[tuple[str, PluginSource]]:
    """List the shipped plugins, kind by kind."""
    known = registry.of()
    for kind in KINDS:
        for name in known.names(kind):
            yield kind, known.entry(kind, name)


def coverage(folder: Path = ROOT / "tests") -> dict[str, Coverage]:
    """Read the marks of all test files: what is covered, by plugin."""
    found: dict[str, Coverage] = {entry.name: Coverage() for _, entry in entries()}
    for path in sorted(folder.rglob("test_*.py")):
        file, tree = path.relative_to(folder).as_posix(), ast.parse(path.read_text())
        values = {
            ast.unparse(target): node.value
            for node in tree.body
            if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        }
        for test in tree.body:
            for kind, plugins, of in _marks(test, values):
                for plugin in plugins:
                    getattr(found[plugin], kind).append(of or f"{file}::{getattr(test, 'name', '')}")
    return found


def _marks(test: ast.stmt, values: dict[str, ast.expr]) -> Iterator[tuple[str, list[str], str]]:
    for call in test.decorator_list if isinstance(test, ast.FunctionDef) else ():
        kind = ast.unparse(call.func).removeprefix("pytest.mark.") if isinstance(call, ast.Call) else ""
        if isinstance(call, ast.Call) and kind in ("oracle", "trap", "peer"):
            specs = [text for argument in call.args for text in _texts(argument, values)]
            of = next((str(ast.literal_eval(each.value)) for each in call.keywords if each.arg == "of"), "")
            yield kind, list(dict.fromkeys(spec.partition("(")[0] for spec in specs)), of


def _texts(node: ast.expr, values: dict[str, ast.expr]) -> Iterator[str]:
    """Give the texts that an argument stands for: a constant, or the items of a named list or the keys of a dict."""
    if isinstance(node, ast.Constant):
        yield str(node.value)
    elif isinstance(node, ast.Starred):
        yield from _texts(node.value, values)
    elif isinstance(node, ast.Name):
        yield from _texts(values[node.id], values)
    elif isinstance(node, (ast.List, ast.Tuple, ast.Dict)):
        for each in node.keys if isinstance(node, ast.Dict) else node.elts:
            if isinstance(each, (ast.Constant, ast.Starred)):
                yield from _texts(each, values)


def facts(subject: Subject, entry: PluginSource, run: bool) -> dict[str, Any]:
    """Return what is known of a certificate without running it: a committed one that differs is out of date."""
    waived = certificates.waived(subject)
    names = certificates.table_of(subject) if subject.kind == "dataset" else map(str, certificates.every(subject))
    return {
        "plugin": entry.name,
        "kind": subject.kind,
        "digest": entry.digest[:10],
        "holds": [name for name in names if run and name not in waived],
        "waives": dict(waived),
    }


def row(made: Mapping[str, Any]) -> str:
    """Write a certificate as a row of the page."""
    reasons = "; ".join(f"{name}: {why}" for name, why in made["waives"].items()) or "-"
    found = "<br>".join(made["coefficients"]) or "-"
    holds = ", ".join(made["holds"]) or ABSENT
    return f"| `{made['plugin']}` | {made['kind']} | {made['digest']} | {holds} | {reasons} | {found} |"


def at_hand(subject: Subject) -> bool:
    """Say whether a plugin can be certified here."""
    try:
        certificates.inputs_of(subject)
    except DataError:
        return False
    return True


def status() -> str:
    """Write the page that says how each plugin is tested."""
    found = coverage()
    certified = {(made["kind"], made["plugin"]): made["holds"] for made in json.loads(DATA.read_text())}
    lines = ["| plugin | oracle test | traps | peer | certificate | waived |", "|---|---|---|---|---|---|"]
    for kind, entry in entries():
        subject, covered = Subject(kind, entry.name), found[entry.name]
        waived, held = certificates.waived(subject), certified.get((kind, entry.name), [])
        cells = (
            f"`{entry.name}`", _first(covered.oracle), str(len(covered.trap) or ""),
            ", ".join(dict.fromkeys(covered.peer)) or _no_peer(subject),
            f"{len(held)} hold" if held else ABSENT, ", ".join(waived) or "-",
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return STATUS_HEAD + "\n".join(lines) + "\n"


def _first(tests: list[str]) -> str:
    if not tests:
        return ""
    file, _, name = tests[0].partition("::")
    more = f" and {len(tests) - 1} more" if tests[1:] else ""
    return f"[{name}](../tests/{file}){more}"


def _no_peer(subject: Subject) -> str:
    if subject.kind != "dataset":
        return PEER
    files = subject.records[0].source.needed
    return "the publisher's checksums" if any(hasattr(each, "checksum") for each in files) else "none published"


def certified(subject: Subject, entry: PluginSource, examples: int) -> tuple[dict[str, Any], str, float]:
    """Certify a plugin: the facts, the certificate in full if a property is violated, and the seconds it took."""
    if not at_hand(subject):
        return facts(subject, entry, run=False) | {"coefficients": []}, "", 0
    start = perf_counter()
    made = certificates.certify(subject, examples, quiet=True)
    found = facts(subject, entry, run=True) | {"coefficients": [reports.sentence(each) for each in made.measures]}
    return found, reports.write([made], "plain") if made.violated else "", perf_counter() - start


def main(examples: int) -> int:
    """Certify everything and write the pages, unless a property is violated. Print the slowest."""
    found, violated, seconds = [], [], dict[str, float]()
    every = [(Subject(kind, entry.name), entry) for kind, entry in entries()]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool, progress("certifying", len(every)) as report:
        running = [pool.submit(certified, *each, examples) for each in every]
        for (subject, _), future in zip(every, running, strict=True):
            made, broken, seconds[subject.spec] = future.result()
            found.append(made)
            violated += [broken] if broken else []
            report(subject.spec)
    print("\n\n".join(violated))
    slowest = sorted(seconds, key=lambda spec: -seconds[spec])[:SLOWEST]
    print("The slowest took:", ", ".join(f"{spec} {seconds[spec]:.0f} s" for spec in slowest))
    if not violated:
        DATA.write_text(json.dumps(found, indent=1) + "\n")
        CERTIFICATES.write_text("\n".join([HEAD.format(examples=examples) + TABLE, *map(row, found)]) + "\n")
        STATUS.write_text(status())
    return bool(violated)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if sys.argv[1:] else certificates.EXAMPLES))
