"""Run hostile plugins beside krum, and check that they cost their own cells only."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from agrbench.results.record import curves
from injection import programs, sources
from injection.grids import JOBS, SIZE, Reference, loud, stored
from injection.programs import Program
from injection.sources import FAILS, TOLD, Source

LIMITS = ("--cell-timeout", "40", "--cell-memory", "2")
OPTIONS = {"attack": "-a", "dataset": "-D"}
RULES, QUARTERS = list(sources.RULES.items()), 4
GROUPS: tuple[tuple[str, Mapping[str, Source]], ...] = (
    *(("defense", dict(RULES[start::QUARTERS])) for start in range(QUARTERS)),
    ("defense", sources.HEADS), ("attack", sources.ATTACKS), ("dataset", sources.DATASETS), ("stage", sources.STAGES),
    *(("dataset" if name.startswith("data") else "defense", {name: source}) for name, source in sources.ALONE.items()),
)  # fmt: skip
SHIPPED = ("krum", "fedavg")


def attempt(reference: Reference, number: int) -> tuple[int, list[str]]:
    """Run a group of plugins in one grid beside krum; return how many they are, and what was lost."""
    kind, group = GROUPS[number]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = programs.start(["grid", *_words(kind, group, folder / "plugins")], name, folder, before=())
        code = program.wait()
        alone = len(group) == 1
        faults = [] if code in (0, 1, 2) else [f"it ends with {code}"]
        faults += loud(program) + [f"an orphan: {line}" for line in programs.orphans(program)]
        faults += list(_seen(program)) + list(_named(group, program))
        if alone:  # the grid may end with a sentence; what matters is that krum can be had after
            faults += _resumed(folder, name, reference)
        else:
            faults += list(_outcomes(kind, group, program)) + list(_beside(folder / "records", reference))
        return len(group), [f"{', '.join(group) if alone else kind}: {fault}" for fault in faults]


def _words(kind: str, group: Mapping[str, Source], folder: Path) -> Iterator[object]:
    """Write the plugin files, and yield the words of a grid that uses them beside krum."""
    folder.mkdir()
    yield from ("-D", "synthetic", "-d", "krum", "-a", "none", *SIZE, *LIMITS, "--jobs", JOBS, "--out", "records")
    for name, source in group.items():
        path, text = folder / f"{name}.py", source.text
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        spec = f"{name}+median" if kind == "stage" else name
        yield from ("--plugin", path, *(() if name == "krum" else (OPTIONS.get(kind, "-d"), spec)))


def _seen(program: Program) -> Iterator[str]:
    """Say what a plugin made the terminal show."""
    if "NOISE" in program.said("out"):
        yield "what a plugin prints is on standard output"
    if any(not letter.isprintable() and letter != "\n" for letter in program.said("out") + program.said()):
        yield "a character that cannot be printed is shown"


def _named(group: Mapping[str, Source], program: Program) -> Iterator[str]:
    """Say who is to blame and is not named."""
    for name, source in group.items():
        if source.outcome in (FAILS, TOLD) and not re.search(rf"\b{name}(\.py|:|/none)", program.said()):
            yield f"{name} is not named: {program.said()[-3000:]}"


def _outcomes(kind: str, group: Mapping[str, Source], program: Program) -> Iterator[str]:
    """Say which plugin's cells did not end as they must."""
    status: dict[str, set[str]] = {name: set() for name in group}
    for record in stored(program.folder / "records").values():
        if isinstance(record, dict):
            for name in group:
                if name in record["cell"][kind if kind in OPTIONS else "defense"].split("+"):
                    status[name].add(record["status"])
    for name, source in group.items():
        expected: tuple[set[str], ...] = (
            ({"failed"}, set(), {"failed", "done"}) if source.outcome == FAILS else ({"done"},)
        )
        if status[name] not in expected:
            yield f"{name} {source.outcome}, and its cells are {status[name] or 'absent'}: {program.said()[-3000:]}"


def _beside(records: Path, reference: Reference) -> Iterator[str]:
    """Say which record of a shipped plugin is missing or not that of a grid without plugins."""
    found = stored(records)
    for path, values in reference.records.items():
        _, defense, attack, _ = Path(path).parts
        if defense in SHIPPED and attack == "none" and (path not in found or _curves(found[path]) != values):
            yield f"{path} is missing or differs"


def _resumed(folder: Path, mark: str, reference: Reference) -> list[str]:
    """Run the grid again without the plugin: krum's record is right afterwards."""
    words = ("grid", "-D", "synthetic", "-d", "krum", "-a", "none", *SIZE, "--jobs", 1, "--out", "records")
    program = programs.start(words, mark, folder)
    code = program.wait()
    faults = [] if code == 0 else [f"the grid without it ends with {code}: {program.said()}"]
    return faults + loud(program) + list(_beside(folder / "records", reference))


def _curves(record: Any) -> Any:
    return curves(record) if isinstance(record, dict) else record
