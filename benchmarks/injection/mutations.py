"""Damage records, and ask every command that reads records about them.

A damaged record is left out, or nothing that was measured differs from the record that was there: a command prints what
it prints of the sound records, with that record or without it.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from agrbench.cli import main
from agrbench.errors import RecordError
from agrbench.results.reading import Damaged
from agrbench.results.record import curves
from agrbench.results.store import collect
from injection import programs
from injection.damage import damaged
from injection.grids import SIZE, Reference, loud, stored

SHOWN = (("triad", "plain"), ("worst", "github"), ("loss", "csv"), ("trust", "latex"), ("time", "json"))
SLOW = 120  # seconds that a command may take
PACKED = "records.jsonl"
BREAKING = ("breaking-point", "-D", "synthetic", "-d", "krum", "-a", "ipm", *SIZE, "--start", "10", "--out", "records")
GRID = ("grid", "-D", "synthetic", "-d", "krum", "-a", "ipm", *SIZE, "--out", "records")

Answer = tuple[int, str]


def attempt(reference: Reference, number: int) -> list[str]:
    """Damage a record in its folder, or its line in a packed file, and return what commands make of it."""
    draws = random.Random(number)
    victim = draws.choice(sorted(reference.records))
    with tempfile.TemporaryDirectory() as name:
        source = _damaged(Path(name), reference.folder, victim, number % 2 == 1, draws)
        try:
            return list(_asked(source, reference.folder, victim, draws))
        except TimeoutError:
            return [f"{victim} keeps a command busy for {SLOW} s"]


def _damaged(here: Path, sound: Path, victim: str, packed: bool, draws: random.Random) -> Path:
    """Copy records, one of them damaged, into a folder or a packed file."""
    source = here / "records"
    shutil.copytree(sound, source)
    path = source / victim
    if not packed:
        path.write_bytes(damaged(path.read_text(encoding="utf-8"), draws))
        return source
    asked("pack", source, here / PACKED)
    lines = (here / PACKED).read_text(encoding="utf-8").splitlines()
    place = draws.randrange(len(lines))
    texts = [damaged(line, draws) if each == place else line.encode() for each, line in enumerate(lines)]
    (here / PACKED).write_bytes(b"\n".join(texts) + b"\n")
    return here / PACKED


def _asked(source: Path, sound: Path, victim: str, draws: random.Random) -> Iterator[str]:
    """Ask every command about records of which one is damaged, and say what is wrong with the answers."""
    folder = source.is_dir()
    left_out = [victim] if folder else sorted(stored(sound))
    words = ("--metric", (table := draws.choice(SHOWN))[0], "--format", table[1])
    yield from _judged(("table", source, *words), (0, 2), [told(sound, each, *words) for each in (None, *left_out)])
    yield from _compared(*draws.choice([(sound, source), (source, sound)]))
    target = source.parent / ("new.jsonl" if folder else "new")
    yield from _judged(("pack", source, target), (0, 1, 2))
    yield from _changed(target, sound)
    yield from _published(source, sound, left_out)
    yield from _judged(("show", source / victim), (0, 2))
    if folder:
        yield from _judged((*GRID[:-1], source, "--dry-run"), (0, 2))


def _judged(words: tuple[object, ...], codes: tuple[int, ...], answers: list[Answer] | None = None) -> Iterator[str]:
    """Run a command, which must end with one of some codes and, if answers are listed, give one of them."""
    code, text = answer = asked(*words)
    if code not in codes or "Traceback" in text:
        yield f"{words} ends with {code}: {text[-2000:]}"
    elif answers and code == 0 and answer not in answers:
        yield f"{words} prints a wrong value: {text[-2000:]}"


def _compared(base: Path, head: Path) -> Iterator[str]:
    """Compare two sets of equal records, of which one is damaged: nothing differs, whether or not a record is lost."""
    code, text = asked("compare", base, head, "--format", "json")
    if code not in (0, 1, 2) or "Traceback" in text:
        yield f"compare ends with {code}: {text[-2000:]}"
    elif text and any(row["base"] != row["head"] for row in json.loads(text)["rows"]):
        yield f"compare takes a wrong value for right: {text[-2000:]}"


def _changed(copied: Path, sound: Path) -> Iterator[str]:
    """Say which records of a copy differ from the sound ones."""
    whole = {path: curves(record) for path, record in stored(sound).items()}
    for path, record in collect([copied]) if copied.exists() else ():
        if whole.get(str(path.relative_to(copied))) != curves(record):
            yield f"a wrong value was copied: {path}"


def _published(source: Path, sound: Path, left_out: list[str]) -> Iterator[str]:
    """Publish records of which one is damaged, and check the page and what is published."""
    board = source.parent / "board"
    (board / "records").mkdir(parents=True)
    code, text = asked("leaderboard", "publish", source, "--as", "all", "--to", board)
    if code not in (0, 1, 2) or "Traceback" in text:
        yield f"publish ends with {code}: {text[-2000:]}"
    page = board / "README.md"
    if page.exists() and page.read_text() not in [published(sound, each) for each in (None, *left_out)]:
        yield "a page was published that shows a wrong value"
    yield from _changed(board / "records" / "all.jsonl", sound)


def asked(*words: object) -> Answer:
    """Run a command within this process; return its exit code and what it prints, or its traceback."""
    signal.signal(signal.SIGALRM, _late)
    signal.alarm(SLOW)
    try:
        done = CliRunner().invoke(main, [str(word) for word in words])
    finally:
        signal.alarm(0)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        return 99, "".join(traceback.format_exception(done.exception))
    return done.exit_code, done.stdout


def _late(*_: object) -> None:
    raise TimeoutError


@cache
def told(sound: Path, without: str | None, *words: str) -> Answer:
    """Return the table of the sound records, one of which may be left out."""
    with tempfile.TemporaryDirectory() as name:
        return asked("table", _without(Path(name), sound, without), *words)


@cache
def published(sound: Path, without: str | None) -> str:
    """Return the page of the sound records, one of which may be left out."""
    with tempfile.TemporaryDirectory() as name:
        board = Path(name) / "board"
        (board / "records").mkdir(parents=True)
        asked("leaderboard", "publish", _without(Path(name), sound, without), "--as", "all", "--to", board)
        return (board / "README.md").read_text()


def _without(here: Path, sound: Path, without: str | None) -> Path:
    shutil.copytree(sound, here / "records")
    if without is not None:
        (here / "records" / without).unlink()
    return here / "records"


def resume(number: int) -> list[str]:
    """Damage half of the records of a grid, or of a search for breaking points, and run it again."""
    draws, words = random.Random(number), (GRID, BREAKING)[number % 2]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        faults, first = _run(words, name, folder)
        before = {path: curves(record) for path, record in stored(folder / "records").items()}
        for path in draws.sample(sorted(before), len(before) // 2):
            text = (folder / "records" / path).read_text()
            (folder / "records" / path).write_bytes(damaged(text, draws))
        for path, record in stored(folder / "records").items():
            if isinstance(record, RecordError) and not isinstance(record, Damaged):
                (folder / "records" / path).unlink()  # of a newer schema, which no grid overwrites
        more, second = _run(words, name, folder)
        more += ["another result is printed"] if words is BREAKING and first != second else []
        after = stored(folder / "records")
        more += [f"{path} differs" for path in before if path not in after or before[path] != _curves(after[path])]
        return faults + more


def _run(words: Sequence[object], mark: str, folder: Path) -> tuple[list[str], str]:
    """Run a command to its end, and return what is wrong with it, and what it prints."""
    program = programs.start([*words, "--jobs", 1], mark, folder)
    code = program.wait()
    faults = [] if code == 0 else [f"{words[0]} ends with {code}: {program.said()[-2000:]}"]
    return [*faults, *loud(program), *programs.orphans(program)], program.said("out")


def _curves(record: Any) -> Any:
    return record if isinstance(record, RecordError) else curves(record)
