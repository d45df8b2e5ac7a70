"""Tidy rows, typed results and exported files: every number is the record's own."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from pyarrow import parquet

import agrbench
from agrbench.cells import Cell
from agrbench.cli import main
from agrbench.results import tidy
from agrbench.results.record import failed
from tests.helpers.records import REGISTRY, fill, finished

CURVE = [0.1, 0.8, 0.9, 0.7, 0.6]
TRUST = {"malicious_share": [None, None, 0.25, 0.75, 0.5], "precision": [None] * 5, "recall": [None] * 5}


def records() -> list[dict[str, object]]:
    """Return a run that is attacked from round 20 on, one whose clients are sampled, and a failure."""
    attacked = Cell("digits", "amp+krum", "scaling", 1, rounds=40, start=20, clients=30, rate=0.25)
    sampled = Cell("digits", "fedavg", "none", 0, rounds=40, sample=10, malicious=0)
    return [
        finished(attacked, CURVE, success=[None, None, 0.5, 0.75, 1.0], success_untriggered=[None, None, 0, 0, 0],
                 trust=TRUST, rejected=3),
        finished(sampled, CURVE),
        failed(Cell("digits", "krum", "lie", 0), REGISTRY, "out of memory"),
    ]  # fmt: skip


def test_a_row_for_each_cell_names_every_setting_and_sums_up_the_run() -> None:
    first, second, third = tidy.rows(records(), "cell")
    assert first["defense"] == "amp+krum"
    assert (first["base"], first["amplified"]) == ("krum", True)
    assert (first["clients"], first["malicious"], first["attackers"], first["byzantine"]) == (30, "9", 9, 9)
    assert (first["start"], first["rate"], first["participants"]) == (20, 0.25, 30)
    assert (first["accuracy"], first["success"]) == (0.6, 1.0)
    assert first["mean_accuracy"] == pytest.approx((0.9 + 0.7 + 0.6) / 3)
    assert first["mean_success"] == pytest.approx(0.75)
    assert first["malicious_share"] == pytest.approx(0.5)
    assert first["rejected"] == 3
    assert (second["malicious"], second["sample"], second["participants"]) == ("0", "10", 10)
    assert (third["status"], third["reason"], third["accuracy"]) == ("failed", "out of memory", None)
    assert list(first) == list(second) == list(third)


def test_a_row_for_each_evaluation_is_a_point_of_the_curves() -> None:
    found = list(tidy.rows(records(), "evaluation"))
    assert [(row["defense"], row["round"]) for row in found] == [
        (defense, number) for defense in ("amp+krum", "fedavg") for number in range(0, 50, 10)
    ]
    assert [row["accuracy"] for row in found] == CURVE * 2
    assert [row["attack_begun"] for row in found] == [False, False, True, True, True] + [False] * 5
    assert [row["malicious_share"] for row in found[:5]] == TRUST["malicious_share"]


def test_an_unknown_kind_of_row_is_refused() -> None:
    with pytest.raises(agrbench.AgrbenchError, match="write cell or evaluation"):
        list(tidy.rows(records(), "round"))


def test_loaded_results_are_typed_and_become_a_frame(tmp_path: Path) -> None:
    loaded = agrbench.load(fill(tmp_path / "records", records()))
    assert {result.cell.defense for result in loaded} == {"amp+krum", "fedavg", "krum"}
    (attacked,) = [result for result in loaded if result.cell.attack == "scaling"]
    assert (attacked.status, attacked.rounds, attacked.accuracy) == ("done", [0, 10, 20, 30, 40], CURVE)
    assert attacked.success == [None, None, 0.5, 0.75, 1.0]
    frame = loaded.frame()
    assert len(frame) == 10
    assert frame[frame.defense == "fedavg"].accuracy.tolist() == CURVE
    assert loaded.frame("cell").status.value_counts().to_dict() == {"done": 2, "failed": 1}


def test_a_frame_without_pandas_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = agrbench.load(fill(tmp_path / "records", records()))
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(agrbench.AgrbenchError, match="write pip install pandas"):
        loaded.frame()


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_an_exported_file_holds_the_rows(form: str, tmp_path: Path) -> None:
    folder, out = fill(tmp_path / "records", records()), tmp_path / f"rows.{form}"
    done = CliRunner().invoke(main, ["export", str(folder), "--out", str(out)])
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == f"10 rows written to {out}\n"
    expected = [row for result in agrbench.load(folder) for row in tidy.rows([result.record])]
    if form == "csv":
        with out.open() as stream:
            read = list(csv.DictReader(stream))
        assert read == [{name: "" if value is None else str(value) for name, value in row.items()} for row in expected]
    else:
        assert (json.loads(out.read_text()) if form == "json" else parquet.read_table(out).to_pylist()) == expected


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["records", "--out", "rows.xls"], "write --format csv or json or parquet"),
        (["records", "--out", "nowhere/rows.csv"], "cannot be written"),
        (["nothing", "--out", "rows.csv"], "no such folder"),
        (["failures", "--out", "rows.csv"], "there is no finished record"),
    ],
)
def test_mistakes_are_told_in_a_sentence_and_nothing_is_written(
    words: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "records", records())
    fill(tmp_path / "failures", records()[2:])
    done = CliRunner().invoke(main, ["export", *words])
    assert done.exit_code == 2
    assert done.stderr.startswith("Error: ")
    assert told in done.stderr
    assert not list(tmp_path.glob("rows.*"))
    assert not list(tmp_path.glob("*.part"))
