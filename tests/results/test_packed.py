"""Packed files: a record a line, read like a folder, and written from one and back without losing a byte."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from agrbench.cells import Cell
from agrbench.cli import main
from agrbench.errors import RecordError
from agrbench.plugins.registry import Registry
from agrbench.results.record import Record, blank, skipped
from agrbench.results.store import Store, collect, pack, place, read, sift, unpack
from agrbench.results.writing import Unwritable
from tests.helpers.project import ROOT

REGISTRY = Registry()
PUBLISHED = [*sorted((ROOT / "leaderboard" / "records").glob("*.jsonl")), ROOT / "leaderboard" / "baseline.jsonl"]


def made(defense: str, attack: str = "none", seed: int = 0, level: float = 0.8) -> Record:
    return blank(Cell("digits", defense, attack, seed, clients=20, rounds=20), REGISTRY) | {
        "rounds": [0, 10, 20],
        "accuracy": [0.1, level, level],
        "loss": [2.3, 1 / 3, 1e-17],
        "classes": 10,
        "trust": {"malicious_share": [None] * 3, "precision": [None] * 3, "recall": [None] * 3},
    }


def fill(folder: Path, records: Iterable[Record]) -> Path:
    for record in records:
        Store(folder).write(record)
    return folder


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    cell = Cell("digits", "bulyan", "lie", clients=20, rounds=20)
    records = [
        made(defense, attack) for defense in ("krum", "amp(kernel=3)+krum", "fedavg") for attack in ("none", "lie")
    ]
    return fill(tmp_path / "mine", [*records, skipped(cell, REGISTRY, "| too few\nclients † <b>")])


@pytest.mark.parametrize("packed", PUBLISHED, ids=lambda path: path.stem)
def test_published_records_are_packed_in_the_one_way_they_can_be(packed: Path, tmp_path: Path) -> None:
    unpack(packed, tmp_path / "folder")
    pack(tmp_path / "folder", tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_bytes() == packed.read_bytes()


def test_a_folder_comes_back_byte_for_byte(mine: Path, tmp_path: Path) -> None:
    assert run("pack", mine, tmp_path / "all.jsonl").stderr == f"7 records written to {tmp_path / 'all.jsonl'}\n"
    assert run("pack", tmp_path / "all.jsonl", tmp_path / "back").exit_code == 0
    assert contents(tmp_path / "back") == contents(mine)
    lines = (tmp_path / "all.jsonl").read_text().splitlines()
    paths = [place(Cell.from_json(json.loads(line)["cell"])).as_posix() for line in lines]
    assert paths == sorted(str(path.relative_to(mine)) for path in mine.rglob("*.json"))


def test_every_reader_takes_a_packed_file_for_the_folder(mine: Path, tmp_path: Path) -> None:
    packed = tmp_path / "all.jsonl"
    pack(mine, packed)
    assert [record for _, record in collect([packed])] == [record for _, record in collect([mine])]
    assert run("table", packed, "--metric", "loss").output == run("table", mine, "--metric", "loss").output
    assert "every difference is 0" in run("compare", packed, mine).output
    assert len(sift([packed, mine])[0]) == 7  # the same results twice are no conflict
    cell = Cell("digits", "krum", "lie", clients=20, rounds=20)
    assert read(packed / place(cell)) == made("krum", "lie")
    assert run("show", packed / place(cell)).output == run("show", mine / place(cell)).output


def test_a_record_that_a_packed_file_lacks_is_named_with_what_to_do(mine: Path, tmp_path: Path) -> None:
    pack(mine, tmp_path / "all.jsonl")
    done = run("show", tmp_path / "all.jsonl" / place(Cell("digits", "krum", "ipm")))
    assert done.exit_code == 2
    assert "holds no record digits/krum/ipm" in done.stderr


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "not JSON"),
        ("[]", "not a record"),
        (json.dumps(made("krum")), "its key is None, its cell's"),
        ("", "not JSON"),
        ('{"schema": 99, "cell": {}}', "upgrade agrbench"),
    ],
)
def test_a_damaged_line_is_named_and_the_others_are_read(line: str, said: str, mine: Path, tmp_path: Path) -> None:
    packed = tmp_path / "all.jsonl"
    pack(mine, packed)
    lines = packed.read_text().splitlines()
    packed.write_text("\n".join([*lines[:2], line, *lines[2:]]) + "\n")
    records, (refused,) = sift([packed])
    assert len(records) == 7
    assert str(refused).startswith(f"{packed} line 3: ")
    assert said in str(refused)
    done = run("pack", packed, tmp_path / "back")
    assert done.exit_code == 1
    assert f"Left out: {packed} line 3: " in done.stderr
    assert contents(tmp_path / "back") == contents(mine)


def test_a_damaged_file_is_named_and_the_others_are_packed(mine: Path, tmp_path: Path) -> None:
    damaged = next(mine.rglob("*.json"))
    damaged.write_text("{")
    done = run("pack", mine, tmp_path / "all.jsonl")
    assert done.exit_code == 1
    assert f"Left out: {damaged}: not JSON" in done.stderr
    assert len(list(collect([tmp_path / "all.jsonl"]))) == 6


def test_packing_overwrites_no_line_that_this_version_cannot_read(mine: Path, tmp_path: Path) -> None:
    packed = tmp_path / "all.jsonl"
    packed.write_text('{"schema": 99, "cell": {}}\n')
    done = run("pack", mine, packed)
    assert done.exit_code == 2
    assert "upgrade agrbench" in done.stderr
    assert packed.read_text() == '{"schema": 99, "cell": {}}\n'


def test_unpacking_mends_a_damaged_record_and_leaves_one_of_a_newer_schema(mine: Path, tmp_path: Path) -> None:
    packed, before = tmp_path / "all.jsonl", contents(mine)
    pack(mine, packed)
    damaged = next(mine.rglob("*.json"))
    damaged.write_text("{")
    assert run("pack", packed, mine).exit_code == 0
    assert contents(mine) == before
    damaged.write_text(damaged.read_text().replace('"schema": 1', '"schema": 99'))
    before = contents(mine)
    done = run("pack", packed, mine)
    assert done.exit_code == 2
    assert "upgrade agrbench" in done.stderr
    assert contents(mine) == before


@pytest.mark.parametrize("target", ["file/all.jsonl", "folder.jsonl", "x" * 300 + ".jsonl"])
def test_what_cannot_be_written_is_told_in_a_sentence(target: str, mine: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file where a folder should be")
    (tmp_path / "folder.jsonl").mkdir()
    done = run("pack", mine, tmp_path / target)
    assert done.exit_code == 2
    assert done.stderr.startswith("Error: ")
    assert "cannot be written" in done.stderr
    assert not list(tmp_path.rglob("*.part"))


def test_two_lines_of_one_cell_that_differ_are_refused(mine: Path, tmp_path: Path) -> None:
    packed = tmp_path / "all.jsonl"
    pack(mine, packed)
    other = {"key": Cell("digits", "krum", "none", clients=20, rounds=20).key} | made("krum", level=0.3)
    packed.write_text(packed.read_text() + json.dumps(other) + "\n")
    with pytest.raises(RecordError, match="one cell with different results"):
        list(collect([packed]))


def test_packing_loses_no_record_that_only_the_packed_file_has(mine: Path, tmp_path: Path) -> None:
    packed = tmp_path / "all.jsonl"
    pack(fill(tmp_path / "other", [made("median", seed=7)]), packed)
    before = packed.read_bytes()
    done = run("pack", mine, packed)
    assert done.exit_code == 2
    assert "holds 1 records" in done.stderr
    assert "seed-7" in done.stderr
    assert packed.read_bytes() == before
    unpack(packed, mine)
    assert run("pack", mine, packed).exit_code == 0
    assert len(list(collect([packed]))) == 8


def test_unpacking_overwrites_no_other_result(mine: Path, tmp_path: Path) -> None:
    packed = tmp_path / "all.jsonl"
    pack(mine, packed)
    fill(mine, [made("krum", level=0.3)])
    before = contents(mine)
    done = run("pack", packed, mine)
    assert done.exit_code == 2
    assert "different results" in done.stderr
    assert contents(mine) == before


@pytest.mark.parametrize(("source", "target"), [("mine", "other"), ("a.jsonl", "b.jsonl"), ("absent", "b.jsonl")])
def test_what_cannot_be_packed_is_told_in_a_sentence(source: str, target: str, mine: Path, tmp_path: Path) -> None:
    done = run("pack", tmp_path / source, tmp_path / target)
    assert done.exit_code == 2
    assert done.stderr.startswith("Error: ")
    assert set(contents(tmp_path)) == {f"mine/{name}" for name in contents(mine)}


def test_a_packed_file_is_written_whole_or_not_at_all(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = tmp_path / "all.jsonl"
    pack(mine, packed)
    before = contents(tmp_path)

    def fail(descriptor: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(Unwritable, match="no space left"):
        pack(mine, packed)
    assert contents(tmp_path) == before
