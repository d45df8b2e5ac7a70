"""`agrbench table`: every metric in every format, and records that are missing, damaged or unfinished."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from agrbench.cli import main
from agrbench.results import formats, metrics
from agrbench.results.formats import Table
from agrbench.results.record import Record, failed
from agrbench.results.tables import tables
from agrbench.results.tables.matrix import METRICS
from tests.helpers.commands import SMALL, agrbench
from tests.helpers.records import REGISTRY, fill
from tests.helpers.triad import cell, everything

# Accuracy in percent after rounds 10 and 20, both attacked; a further point is lost per seed where it says so.


def table(records: list[Record], metric: str = "triad") -> Table:
    (made,) = tables(metrics.groups(records), metric)
    return made


def text(records: list[Record], metric: str, form: str) -> str:
    return formats.write(tables(metrics.groups(records), metric), form)


@pytest.mark.parametrize("metric", ["triad", "pairs", *sorted(METRICS)])
@pytest.mark.parametrize("form", formats.FORMATS)
def test_every_metric_can_be_printed_in_every_format(metric: str, form: str, tmp_path: Path) -> None:
    folder = fill(tmp_path / "records", everything())
    done = CliRunner().invoke(main, ["table", str(folder), "--metric", metric, "--format", form])
    assert done.exit_code == 0, done.output
    assert done.output == text(everything(), metric, form) + "\n"


@pytest.mark.parametrize("kind", ["empty", "unfinished", "absent"])
def test_results_without_a_finished_record_end_in_a_sentence(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "records"
    if kind != "absent":
        folder.mkdir()
    if kind == "unfinished":
        fill(folder, [failed(cell("krum", "none", 0), REGISTRY, "out of memory")])
    done = CliRunner().invoke(main, ["table", str(folder)])
    assert done.exit_code == 2
    assert done.output.startswith("Error: ")
    assert "Traceback" not in done.output
    assert ("no such folder" if kind == "absent" else "no finished record there; run `agrbench grid`") in done.output


@pytest.mark.filterwarnings("default")
def test_files_that_are_no_records_are_named_and_left_out(tmp_path: Path) -> None:
    folder = fill(tmp_path / "records", everything())
    for name in ("notes.json", "digits/more.json"):
        (folder / name).write_text("{")
    done = CliRunner().invoke(main, ["table", str(folder)])
    assert done.exit_code == 0
    assert done.stdout == text(everything(), "triad", "plain") + "\n"
    for name in ("notes.json", "digits/more.json"):
        assert f"Warning: left out: {folder / name}: not JSON" in done.stderr


def test_a_record_that_is_not_there_is_named_below_the_table(tmp_path: Path) -> None:
    agrbench("grid", "-d", "krum", "-a", "label_flip", *SMALL, "--seeds", "2", cwd=tmp_path)
    next((tmp_path / "results/digits/krum/label_flip").glob("seed-1-*.json")).unlink()
    told = agrbench("table", cwd=tmp_path).stdout
    assert "Not ranked: krum: it has only seed 0." in told


def test_a_damaged_record_is_named_and_the_others_kept(tmp_path: Path) -> None:
    agrbench("grid", "-d", "krum", "-a", "none", *SMALL, cwd=tmp_path)
    victim = next((tmp_path / "results/digits/krum").rglob("*.json"))
    victim.write_text(victim.read_text()[:100])
    assert str(victim.relative_to(tmp_path)) in agrbench("table", cwd=tmp_path).stderr
    told = agrbench("grid", "-d", "krum", "-a", "none", *SMALL, cwd=tmp_path).stderr
    assert f"Warning: {victim.relative_to(tmp_path)}: not JSON" in told
    assert "Warning" not in agrbench("table", cwd=tmp_path).stderr


def test_defenses_and_attacks_are_chosen_with_what_they_are_compared_with(tmp_path: Path) -> None:
    folder = fill(tmp_path / "records", everything())
    known = {(record["cell"]["defense"], record["cell"]["attack"]) for record in everything()}
    assert {defense for defense, _ in known} == {"fedavg", "krum", "amp+krum"}

    def shown(*words: str) -> set[tuple[str, str]]:
        done = CliRunner().invoke(main, ["table", str(folder), "--metric", "final", "--format", "json", *words])
        assert done.exit_code == 0, done.output
        return {(row["defense"], row["attack"]) for row in json.loads(done.output)}

    assert shown() == known
    assert {defense for defense, _ in shown("-d", "krum")} == {"fedavg", "krum", "amp+krum"}
    assert {defense for defense, _ in shown("-d", "median")} == {"fedavg"}
    assert {defense for defense, _ in shown("-d", "amp+krum")} == {"fedavg", "amp+krum"}
    assert {defense for defense, _ in shown("-d", "krum", "--only-base")} == {"fedavg", "krum"}
    one = sorted({attack for _, attack in known} - {"none"})[0]
    assert {attack for _, attack in shown("-a", one)} == {"none", one}
    wrong = CliRunner().invoke(main, ["table", str(folder), "-d", "krumm"])
    assert wrong.exit_code == 2
    assert "did you mean krum" in wrong.stderr


def test_pairs_of_one_defense_are_chosen_by_any_spec_of_it(tmp_path: Path) -> None:
    folder = fill(tmp_path / "records", everything())

    def shown(*words: str) -> list[tuple[str, str]]:
        done = CliRunner().invoke(main, ["table", str(folder), "--metric", "pairs", "--format", "json", *words])
        assert done.exit_code == 0, done.output
        return [(row["defense"], row["other"]) for row in json.loads(done.output)]

    assert len(shown()) == 3
    assert shown("--of", "krum") == [("krum", "fedavg"), ("krum", "amp+krum")]
    assert shown("--of", "amp(kernel=2)+krum(power=2)") == [("amp+krum", "fedavg"), ("amp+krum", "krum")]
    assert shown("--of", "krum", "--of", "fedavg") == [("krum", "fedavg"), ("krum", "amp+krum"), ("fedavg", "amp+krum")]
    assert shown("--of", "krum", "--only-base") == [("krum", "fedavg")]
    assert shown("--of", "krum", "-d", "median") == [("krum", "fedavg"), ("krum", "amp+krum")]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--metric", "pairs", "--of", "krumm"], "no defense is named 'krumm'; did you mean krum"),
        (["--metric", "pairs", "--of", "multi_krum"], "--of multi_krum: no record of it there; did you mean krum?"),
        (
            ["--metric", "pairs", "--of", "median"],
            "--of median: no record of it there; there are fedavg, krum, amp+krum",
        ),
        (["--metric", "loss", "--of", "krum"], "--of chooses pairs of defenses; write --metric pairs --of krum"),
        (["--of", "amp(kernel=2)+krum"], "write --metric pairs --of 'amp(kernel=2)+krum'"),
    ],
)
def test_a_wrong_defense_to_compare_is_answered_by_a_sentence(words: list[str], said: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["table", str(fill(tmp_path / "records", everything())), *words])
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert said in done.stderr
