"""One stranger's records: none damages the leaderboard, un-ranks the others or is more than text on the page."""

from __future__ import annotations

import copy
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from agrbench.cells import Cell
from agrbench.cli import main
from agrbench.plugins.registry import Registry
from agrbench.results.leaderboard import page as leaderboard
from agrbench.results.record import Record, failed, sealed, skipped
from agrbench.results.store import Store, collect, write_packed
from tests.helpers.records import REGISTRY, fill, finished

ATTACKS = ("none", "lie", "scaling")
RIVALS = ("krum", "median", "cosden")
ENVIRONMENT = {
    "agrbench": "0.1.0", "torch": "2.13.0", "numpy": "2.0", "python": "3.11", "cpu": "some processor", "threads": 1,
    "device": "cpu",
}  # fmt: skip


def made(defense: str, attack: str, seed: int = 0, *, registry: Registry = REGISTRY, **settings: Any) -> Record:
    cell = Cell("digits", defense, attack, seed, **{"clients": 20, "rounds": 20, **settings})
    level = {"fedavg": 0.5, "krum": 0.8, "median": 0.7}.get(defense, 0.6) + (0.2 if attack == "none" else 0)
    return finished(
        cell, [0.1, level, level - 0.3 * (attack == "sharper")], registry=registry,
        training={"rate": 0.5, "parameters": 650}, environment=dict(ENVIRONMENT),
        time={"server_s": 0.001, "round_s": 0.5, "alone": True},
    )  # fmt: skip


def everything(seed: int = 0) -> list[Record]:
    return [made(defense, attack, seed) for defense in ("fedavg", *RIVALS) for attack in ATTACKS]


@pytest.fixture
def board(tmp_path: Path) -> Path:
    (tmp_path / "leaderboard" / "records").mkdir(parents=True)
    write_packed(tmp_path / "leaderboard" / "records" / "demo.jsonl", [*everything(0), *everything(1)])
    return tmp_path / "leaderboard"


def published(source: Path | None, board: Path, *more: object) -> Result:
    words = ["leaderboard", "publish", *([str(source)] if source else []), "--as", "demo", "--to", str(board)]
    return CliRunner().invoke(main, [*words, *map(str, more)])


def text(board: Path) -> str:
    return (board / "README.md").read_text(encoding="utf-8")


def ranked(page: str) -> list[str]:
    return re.findall(r"^\| *\d+ *\| `(\w+)`", page, re.MULTILINE)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def lay(folder: Path, record: Record, **change: Any) -> Path:
    """Write what a stranger may have edited under the name of a record."""
    path = Store(folder).path(Cell.from_json(record["cell"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record | change))
    return path


MARKUP = (
    "<img src=x>",
    "a\nb",
    "\x1b[2J",
    "\x9b2J",
    "\u202edlrow",
    "\ud800",
    "x\u2028y",
    "\x00",
    "| a | b |",
    "`code`",
)


@pytest.mark.parametrize("said", MARKUP, ids=ascii)
@pytest.mark.parametrize("where", ["skipped", "failed", "finished", "device", "traceback", "time", "groups", "unknown"])
def test_what_a_stranger_writes_into_a_record_never_reaches_the_page(
    where: str, said: str, board: Path, tmp_path: Path
) -> None:
    whole = made("bulyan", "lie")
    undefined = skipped(Cell("digits", "bulyan", "lie", clients=20, rounds=20), REGISTRY, said)
    groups = {"classes": {"rows": [1], "hits": [1], "names": [said]}}
    record = {
        "skipped": undefined,
        "failed": failed(Cell.from_json(made("krum", "lie", 2)["cell"]), REGISTRY, said, said),
        "finished": whole | {"reason": said},
        "device": whole | {"environment": ENVIRONMENT | {"device": said}},
        "traceback": undefined | {"traceback": said},
        "time": made("krum", "lie", 2) | {"time": whole["time"] | {said: 1}},
        "groups": made("krum", "lie", 2) | {"groups": groups},
        "unknown": undefined | {said: said},
    }[where]
    path = lay(tmp_path / "mine", record)
    done = published(tmp_path / "mine", board)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    page = text(board)
    assert ranked(page) == ["krum", "median", "cosden"]
    assert said not in page
    kept = (board / "records" / "demo.jsonl").read_text(encoding="utf-8")
    assert json.dumps(said) not in kept or where == "groups"  # where it is a name, if it can be printed
    assert said.isprintable() or json.dumps(said) not in kept
    for line in done.output.splitlines():
        assert line.isprintable()
    if done.exit_code:
        assert len([line for line in done.output.splitlines() if line.startswith(f"Refused: {path}: ")]) == 1


@pytest.mark.parametrize("name", ["<img src=x>", "](http://x)", "a`b", "a|b", "![x](http://x)"])
def test_a_setting_is_text_on_the_page(name: str, board: Path, tmp_path: Path) -> None:
    owners = f"owners({name!r})"
    for record in [made(defense, attack, malicious=owners, partition="natural") for defense in ("fedavg", "krum")
                   for attack in ATTACKS]:  # fmt: skip
        lay(tmp_path / "mine", record)
    assert published(tmp_path / "mine", board).exit_code == 0
    lines = text(board).splitlines()
    assert "<img" not in "".join(lines)
    assert not re.search(r"(?<!docs)\]\(http", "".join(lines))
    rows = [line for line in lines if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in rows}) == 1


@pytest.mark.parametrize("status", ["skipped", "failed"])
def test_a_run_without_results_under_a_seed_of_its_own_unranks_nobody(status: str, board: Path, tmp_path: Path) -> None:
    cell = Cell("digits", "bulyan" if status == "skipped" else "krum", "lie", 77, clients=20, rounds=20)
    make = skipped if status == "skipped" else failed
    fill(tmp_path / "mine", [make(cell, REGISTRY, "why not")])
    assert published(tmp_path / "mine", board).exit_code == (status == "failed")
    assert ranked(text(board)) == ["krum", "median", "cosden"]
    # Nor where such a record is in the leaderboard already, from an earlier version.
    packed = board / "records" / "demo.jsonl"
    write_packed(packed, [*(record for _, record in collect([packed])), failed(replace(cell, seed=78), REGISTRY, "no")])
    assert published(None, board).exit_code == 0
    assert ranked(text(board)) == ["krum", "median", "cosden"]


SHARPER = '''
"""Sharper: the clean updates, a hundred times reversed."""

from agrbench.plugins import Attack

attack = Attack(forge=lambda insider: -100 * insider.clean, author="Jane | <b>Doe")
'''


def test_a_stronger_attack_on_one_row_is_shown_with_its_author_and_unranks_nobody(board: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "sharper.py"
    plugin.write_text(SHARPER)
    mine = [made("krum", "sharper", seed, registry=Registry([str(plugin)])) for seed in (0, 1)]
    assert published(fill(tmp_path / "mine", mine), board, "--plugin", plugin).exit_code == 0
    # Accuracies of 0.8 and 0.5 once the attack has begun, where fedavg without attack has 0.7 and 0.7: 5 points less.
    shown = r"Strongest known attack on `krum`: `sharper` by Jane \| &lt;b>Doe, a loss of 5.0 over 2 seeds."
    assert shown in text(board)
    assert ranked(text(board)) == ["krum", "median", "cosden"]
    assert published(None, board).exit_code == 0  # without the plugin, the page still names the attack
    assert "Strongest known attack on `krum`: `sharper`, a loss of 5.0 over 2 seeds." in text(board)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            [made(defense, attack, 9) for defense in ("fedavg", "cosden") for attack in ATTACKS],
            r"Ranked on seeds 0, 1, which all ranked defenses have \(not counted: seed 9 of fedavg, cosden\)",
        ),
        (
            [made(defense, "ipm", 0) for defense in ("fedavg", "cosden")],
            r"Left out, because few defenses have it: attack `ipm` of `cosden`\.",
        ),
    ],
    ids=["a seed", "an attack"],
)
def test_a_seed_or_an_attack_that_one_defense_has_unranks_nobody_and_is_named(
    more: list[Record], said: str, board: Path, tmp_path: Path
) -> None:
    before = published(None, board)
    assert before.exit_code == 0
    known = ranked(text(board))
    assert published(fill(tmp_path / "mine", more), board).exit_code == 0
    assert ranked(text(board)) == known
    assert re.search(said, text(board))


def test_a_defense_that_lacks_a_seed_is_ranked_on_those_it_has_and_one_of_one_seed_is_only_shown(
    board: Path, tmp_path: Path
) -> None:
    records = everything(2) + [made("smea", attack, seed) for attack in ATTACKS for seed in (0, 1)]
    records += [made("mda", attack, 0) for attack in ATTACKS]
    assert published(fill(tmp_path / "mine", records), board).exit_code == 0
    page = text(board)
    assert ranked(page) == ["krum", "median", "cosden", "smea"]
    assert re.search(r"^\| — +\| `mda` +\| \d", page, re.MULTILINE)
    assert "Ranked on seeds 0, 1, which all ranked defenses have (not counted: seed 2 of fedavg, cosden, krum, " in page
    assert "Not ranked: mda: it has only seed 0." in page


def test_a_seed_that_most_defenses_have_counts(board: Path, tmp_path: Path) -> None:
    assert published(fill(tmp_path / "mine", everything(2)), board).exit_code == 0
    assert "3 seeds; 95% intervals" in text(board)


def test_a_finished_run_of_a_cell_that_the_plugins_skip_is_refused(board: Path, tmp_path: Path) -> None:
    done = published(fill(tmp_path / "mine", [made("bulyan", "lie")]), board)
    assert done.exit_code == 1
    assert "the plugins skip this cell: bulyan requires" in done.stderr


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"rounds": 10**12}, "not measured from round 0"), ({"clients": 10**12}, "at most 1000000 are published")],
    ids=["rounds", "clients"],
)
def test_a_huge_number_takes_no_memory(settings: dict[str, Any], said: str, board: Path, tmp_path: Path) -> None:
    lay(tmp_path / "mine", made("krum", "lie", **settings))
    done = published(tmp_path / "mine", board)
    assert done.exit_code == 1
    assert said in done.stderr


def test_a_huge_seed_among_the_breaking_points_is_nobody_else_s(board: Path) -> None:
    runs = [
        made(defense, attack, seed, malicious=count, start=10)
        for defense in ("fedavg", "krum", "median")
        for attack in ("none", "lie")
        for count in ((0,) if attack == "none" else range(1, 11))
        for seed in (0, 1)
    ]
    runs += [made("fedavg", "none", seed, malicious=count, start=10) for count in range(1, 11) for seed in (0, 1)]
    packed = board / "records" / "breaking.jsonl"
    write_packed(packed, runs)
    before = leaderboard.breaking_points(packed, REGISTRY)
    strange = [made("cosden", "ipm", 10**12, malicious=2, start=10), made("cosden", "lie", 5, malicious=2, start=10)]
    write_packed(packed, [*runs, *strange])
    after = leaderboard.breaking_points(packed, REGISTRY)
    (points,), (again,) = before.values(), after.values()
    assert "—" not in points.values()
    assert {name: again[name] for name in points} == points


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", ["demo", "breaking"])
@pytest.mark.parametrize("line", [b'{"schema": 1}', b"\xff\xfe", b"{"], ids=ascii)
def test_a_damaged_line_is_named_and_the_page_shows_the_rest(line: bytes, name: str, board: Path) -> None:
    packed = board / "records" / f"{name}.jsonl"
    whole = packed.read_bytes() if packed.exists() else b""
    packed.write_bytes(line + b"\n" + whole)
    done = published(None, board)
    assert done.exit_code == 0, done.output
    assert f"Warning: left out: {packed} line 1: not " in done.stderr
    assert ranked(text(board)) == ["krum", "median", "cosden"]


def test_a_file_with_a_damaged_line_takes_no_records_because_the_line_would_be_lost(
    board: Path, tmp_path: Path
) -> None:
    packed = board / "records" / "demo.jsonl"
    packed.write_bytes(b"{\n" + packed.read_bytes())
    before = files(board)
    done = published(fill(tmp_path / "mine", everything(2)), board)
    assert done.exit_code == 2
    assert f"{packed} line 1: not JSON" in done.output
    assert files(board) == before


def deep(levels: int) -> str:
    return "[" * levels + "]" * levels


@pytest.mark.parametrize("field", ["environment", "source", "training", "groups", "notes", "trust"])
def test_a_deeply_nested_record_is_refused_and_the_others_are_taken(field: str, board: Path, tmp_path: Path) -> None:
    path = lay(tmp_path / "mine", made("krum", "lie", 1) | {field: {"deep": "HERE"}, "digest": "0" * 64})
    path.write_text(path.read_text().replace('"HERE"', deep(900)))
    fill(tmp_path / "mine", [made("bulyan", "none", malicious=1)])
    done = published(tmp_path / "mine", board)
    assert done.exit_code == 1
    assert "1 records copied, 0 there already, 1 refused" in done.output
    assert str(path) in done.stderr


# Whole or not at all


@pytest.mark.parametrize("what", ["README.md", "records/demo.jsonl", "records"])
def test_a_link_is_never_followed(what: str, board: Path, tmp_path: Path) -> None:
    place, outside = board / what, tmp_path / "outside"
    if what == "README.md":
        outside.write_text("mine")
    else:
        place.rename(outside)
    place.symlink_to(outside)
    before = files(outside) if outside.is_dir() else outside.read_bytes()
    done = published(fill(tmp_path / "mine", [made("krum", "lie", 1)]), board)
    assert done.exit_code == 2
    assert "is a link" in done.stderr
    assert (files(outside) if outside.is_dir() else outside.read_bytes()) == before


@pytest.mark.parametrize("step", range(1, 5))
def test_a_crash_while_writing_leaves_every_file_as_it_was_or_whole(
    step: int, board: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert published(None, board).exit_code == 0
    before = files(board)
    mine = fill(tmp_path / "mine", everything(2))
    steps = iter(range(1, 100))

    def die(real: Any) -> Any:
        def replaced(*given: Any) -> Any:
            if next(steps) == step:
                raise OSError(28, "No space left on device")
            return real(*given)

        return replaced

    monkeypatch.setattr(os, "fsync", die(os.fsync))
    monkeypatch.setattr(Path, "replace", die(Path.replace))
    done = published(mine, board)
    monkeypatch.undo()
    after = files(board)
    assert set(after) == set(before)
    assert done.exit_code == 2
    assert "cannot be written" in done.stderr
    records = [record for _, record in collect([board / "records" / "demo.jsonl"])]
    assert len(records) in (12, 24)
    assert after["README.md"] == before["README.md"]
    assert published(None, board).exit_code == 0
    assert ("2 seeds" in text(board)) == (len(records) == 24)


def test_the_page_cannot_be_written_where_it_is_a_folder(board: Path) -> None:
    (board / "README.md").mkdir()
    done = published(None, board)
    assert done.exit_code == 2
    assert "cannot be written" in done.stderr
    assert sorted(path.name for path in board.iterdir()) == ["README.md", "records"]


# The digest, and what newer records say


def test_a_sealed_record_is_published_whole(board: Path, tmp_path: Path) -> None:
    record = sealed(made("krum", "lie", 2), REGISTRY)
    record["environment"] |= {"cpu_capability": "AVX512", "MKL_CBWR": "COMPATIBLE"}
    record = sealed(record, REGISTRY)
    assert published(fill(tmp_path / "mine", [record]), board).exit_code == 0
    assert record in [found for _, found in collect([board / "records" / "demo.jsonl"])]


@pytest.mark.parametrize("change", [{"accuracy": [0.1, 0.99, 0.99]}, {"rejected": 1}, {"peak_bytes": 5}])
def test_a_record_that_was_edited_since_is_refused(change: dict[str, Any], board: Path, tmp_path: Path) -> None:
    path = lay(tmp_path / "mine", sealed(made("krum", "lie", 1), REGISTRY), **change)
    done = published(tmp_path / "mine", board)
    assert done.exit_code == 1
    assert f"Refused: {path}: " in done.stderr
    assert "not those that were measured" in done.stderr


def test_settings_that_are_not_the_cell_s_are_refused(board: Path, tmp_path: Path) -> None:
    record = copy.deepcopy(made("krum", "lie", 1))
    lay(tmp_path / "mine", record | {"resolved": {"start": 30}})
    done = published(tmp_path / "mine", board)
    assert done.exit_code == 1
    assert "resolved settings" in done.stderr
