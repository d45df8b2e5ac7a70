"""Merging: each cell once, conflicts refused with everything named, and missing cells found as far as records tell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agrbench.cells import Cell
from agrbench.errors import RecordError
from agrbench.results.merging import merge, missing
from agrbench.results.record import Record, failed
from agrbench.results.store import Conflict, collect, pack
from tests.helpers.commands import ask, invoke
from tests.helpers.records import REGISTRY, fill, measured, stored


def made(defense: str, attack: str, seed: int = 0, last: float = 0.9) -> Record:
    return measured(defense, attack, seed, [0.1, 0.5, 0.6, 0.7, last])


def test_folders_and_packed_files_become_one_with_each_cell_once(tmp_path: Path) -> None:
    one = fill(tmp_path / "one", [made("fedavg", "none"), made("krum", "none")])
    two = fill(tmp_path / "two", [made("krum", "none"), made("krum", "ipm")])
    pack(two, tmp_path / "two.jsonl")
    fill(tmp_path / "all", [made("fedavg", "none"), made("krum", "none"), made("krum", "ipm")])
    for second in (two, tmp_path / "two.jsonl"):
        for target in (tmp_path / f"to-{second.name}", tmp_path / f"to-{second.name}.jsonl"):
            records, refused = merge([one, second], target)
            assert len(records) == 3
            assert not refused
            assert {path.name: record for path, record in collect([target])} == {
                path.name: record for path, record in collect([tmp_path / "all"])
            }


def test_of_equal_results_the_first_is_kept_whatever_took_how_long(tmp_path: Path) -> None:
    slow = made("krum", "none") | {"time": {"server_s": 9.0, "round_s": 9.0, "alone": False}}
    one, two = fill(tmp_path / "one", [made("krum", "none")]), fill(tmp_path / "two", [slow])
    merge([two, one], tmp_path / "out")
    assert stored(tmp_path / "out") == stored(two)


def test_a_failure_makes_way_for_a_result_in_either_order(tmp_path: Path) -> None:
    fuse = failed(Cell.from_json(made("krum", "none")["cell"]), REGISTRY, "a fuse")
    bad, good = fill(tmp_path / "bad", [fuse]), fill(tmp_path / "good", [made("krum", "none")])
    for number, sources in enumerate(([bad, good], [good, bad])):
        merge(sources, tmp_path / f"{number}")
        assert stored(tmp_path / f"{number}") == stored(good)
    merge([good], bad)
    assert stored(bad) == stored(good)


def test_conflicts_are_all_named_and_nothing_is_written_or_lost(tmp_path: Path) -> None:
    one = fill(tmp_path / "one", [made("krum", "none"), made("krum", "ipm"), made("median", "none")])
    two = fill(tmp_path / "two", [made("krum", "none", last=0.8), made("krum", "ipm", last=0.8)])
    out = fill(tmp_path / "out", [made("fedavg", "none")])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    done = ask("merge", one, two, "--out", out)
    assert done.exit_code == 2
    for attack in ("none", "ipm"):
        assert sum(f"krum/{attack}/" in line and str(one) in line and str(two) in line for line in lines(done)) == 1
    assert "median" not in done.stderr
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json")} == before
    with pytest.raises(Conflict):
        merge([one], fill(tmp_path / "other", [made("krum", "none", last=0.8)]))


def lines(done: object) -> list[str]:
    return str(getattr(done, "stderr", "")).splitlines()


def test_a_packed_target_keeps_what_it_has_and_is_not_written_over_lines_that_cannot_be_read(tmp_path: Path) -> None:
    one, target = fill(tmp_path / "one", [made("krum", "none")]), tmp_path / "all.jsonl"
    merge([fill(tmp_path / "two", [made("fedavg", "none")])], target)
    merge([one], target)
    assert len(list(collect([target]))) == 2
    newer = json.dumps(json.loads(target.read_text().splitlines()[0]) | {"schema": 99})
    target.write_text(target.read_text() + newer + "\n")
    before = target.read_bytes()
    with pytest.raises(RecordError, match="would lose it"):
        merge([one], target)
    assert target.read_bytes() == before


def test_missing_cells_are_those_whose_defense_attack_and_seed_are_there_but_not_together(tmp_path: Path) -> None:
    grid = [
        made(defense, attack, seed) for defense in ("fedavg", "krum") for attack in ("none", "ipm") for seed in (0, 1)
    ]
    other = measured("krum", "none", 0, [0.1] * 3) | {"rounds": [0, 10, 20]}
    other["cell"] = Cell("digits", "krum", "none", rounds=20).as_json()
    assert missing([*grid, other]) == []
    assert [str(cell) for cell in missing([*grid[:4], *grid[5:], other])] == ["digits krum none seed 0"]
    one = fill(tmp_path / "one", [*grid[:4], *grid[5:]])
    done = invoke("merge", one, "--out", tmp_path / "out", ok=1)
    assert lines(done) == ["Missing: digits krum none seed 0", f"7 records in {tmp_path / 'out'}"]
    fill(one, [grid[4]])
    assert lines(invoke("merge", one, "--out", tmp_path / "out")) == [f"8 records in {tmp_path / 'out'}"]


def test_what_is_no_record_is_named_and_left_out(tmp_path: Path) -> None:
    one = fill(tmp_path / "one", [made("krum", "none")])
    (one / "notes.json").write_text("{}")
    done = invoke("merge", one, "--out", tmp_path / "out.jsonl", ok=1)
    assert f"Left out: {one / 'notes.json'}: not a record" in done.stderr
    assert len(list(collect([tmp_path / "out.jsonl"]))) == 1
