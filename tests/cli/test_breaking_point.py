"""`agrbench breaking-point`: what a search runs and prints, how it goes on, and which mistakes it names."""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from agrbench.cells import Cell
from agrbench.cli import main
from agrbench.simulation import suites
from tests.helpers import plugins
from tests.helpers.commands import agrbench, interrupt, invoke
from tests.helpers.records import stored

SMALL = ("--clients", "6", "--seeds", "1", "--jobs", "1")
WHOLE = ("-D", "digits", "-d", "median", "-a", "gaussian", "-a", "zero", *SMALL, "--rounds", "20", "--start", "10")


Whole = tuple[Path, subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    """Search for the breaking points of the median under two attacks, once for all tests that read the result."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "200")  # so that no table is cut
        yield folder, agrbench("breaking-point", *WHOLE, "--out", "records", cwd=folder)


def defenses_of(told: str) -> list[str]:
    """List the first words of the rows between the line below the headers and the notes."""
    body = told.split("\n\n")[1].splitlines()
    (ruled,) = [place for place, line in enumerate(body) if line.startswith("---")]
    return [line.split()[0] for line in body[ruled + 1 :]]


def again(folder: Path, *words: str) -> str:
    """Run the same search with more words, which must find all that it needs."""
    before = {path: (path.stat().st_mtime_ns, path.read_text()) for path in folder.rglob("*.json")}
    told = invoke("breaking-point", *WHOLE, "--out", folder / "records", *words).stdout
    assert before == {path: (path.stat().st_mtime_ns, path.read_text()) for path in folder.rglob("*.json")}
    return told


def test_the_table_is_alone_on_stdout_and_progress_on_stderr(whole: Whole) -> None:
    _, done = whole
    assert done.stdout.startswith("Breaking points: digits, 6 clients")
    assert defenses_of(done.stdout) == ["fedavg", "median", "amp+median"]
    assert "records" not in done.stdout
    assert done.stderr.strip()
    assert "fedavg  " not in done.stderr


def test_the_same_search_again_computes_nothing_and_prints_the_same(whole: Whole) -> None:
    folder, done = whole
    assert again(folder) == done.stdout
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.json")}
    quiet = agrbench("breaking-point", *WHOLE, "--out", "records", "-q", cwd=folder)
    assert quiet.stdout == done.stdout
    assert quiet.stderr == ""
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*.json")}


def test_every_number_is_what_the_records_say(whole: Whole) -> None:
    folder, _ = whole
    accuracy: dict[tuple[int, str, str], float] = {}
    for found in stored(folder / "records").values():
        cell = Cell.from_json(found["cell"])
        assert cell.attackers == cell.bound <= 3
        assert found["rounds"] == [0, 10, 20]
        accuracy[cell.attackers, cell.defense, cell.attack] = statistics.fmean(found["accuracy"][1:])
    rows = json.loads(again(folder, "--format", "json"))
    assert [(each["defense"], each["limit"]) for each in rows] == [("fedavg", 3), ("median", 2), ("amp+median", 2)]
    used = set()
    for each in rows:
        worst: dict[int, tuple[float, str]] = {}
        low, high = -1, each["limit"] + 1
        while high - low > 1:
            count = (low + high) // 2
            under = ("gaussian", "zero") if count else ("none",)
            used |= {(count, "fedavg", "none"), *((count, each["defense"], attack) for attack in under)}
            worst[count] = max(
                (100 * (accuracy[count, "fedavg", "none"] - accuracy[count, each["defense"], attack]), attack)
                for attack in under
            )
            low, high = (low, count) if worst[count][0] >= 10 else (count, high)
        assert each["broken"] == (high if high <= each["limit"] else None)
        assert each["held"] == (low if low >= 0 else None)
        assert each["complete"]
        assert each["attack"] == worst[high if high in worst else low][1]
        # Means and differences of a few numbers below 100, taken in another order.
        assert each["loss"] == pytest.approx(worst[high if high in worst else low][0], abs=1e-9)
        assert {level["malicious"] for level in each["levels"]} == set(worst)
        for level in each["levels"]:
            assert (level["loss"], level["attack"]) == (
                pytest.approx(worst[level["malicious"]][0], abs=1e-9), worst[level["malicious"]][1],
            )  # fmt: skip
    assert set(accuracy) == used, "nothing is run that no search asked for"


def test_the_amplified_forms_can_be_left_out(whole: Whole) -> None:
    folder, _ = whole
    told = again(folder, "--only-base")
    assert defenses_of(told) == ["fedavg", "median"]
    assert "amp+" not in told


@pytest.mark.parametrize("form", ["plain", "github", "csv", "latex", "json"])
def test_every_format_is_written_and_has_every_defense(whole: Whole, form: str) -> None:
    told = again(whole[0], "--format", form)
    assert all(name in told for name in ("fedavg", "median", "amp+median"))


@pytest.mark.usefixtures("patient")
def test_the_records_serve_tables_and_grids(whole: Whole) -> None:
    folder, _ = whole
    for words in ([], ["--metric", "worst"], ["--metric", "loss"]):
        assert "digits, 6 clients" in invoke("table", folder / "records", *words).stdout
    at_one = invoke("grid", *WHOLE, "--malicious", "1", "--out", folder / "records", "--dry-run", "-v").stdout
    needed = [f"digits {name} {attack} seed 0: compute" for name, attack in
              (("median", "gaussian"), ("median", "zero"), ("amp+median", "zero"), ("fedavg", "none"))]  # fmt: skip
    assert "digits median none seed 0: compute" in at_one
    assert not any(line in at_one for line in needed)


def test_a_failed_run_leaves_its_row_unknown_with_the_reason_and_exit_code_1(tmp_path: Path) -> None:
    path = plugins.write(
        tmp_path,
        "boom",
        '''
        """An attack that fails."""
        from agrbench.plugins import Attack


        def boom(insider):
            """Fail."""
            raise RuntimeError("the fuse is wet")


        attack = Attack(forge=boom)
        ''',
    )
    # Of four clients Krum tolerates none that is malicious, so that no attack is asked for.
    done = agrbench("breaking-point", "--plugin", path, "-D", "digits", "-d", "krum", "-a", "boom", "--clients", "4",
                    *SMALL[2:], "--rounds", "10", "--start", "10", "--only-base", cwd=tmp_path, ok=1)  # fmt: skip
    assert "the fuse is wet" in done.stderr
    baseline, krum = (line for line in done.stdout.splitlines() if line.split()[:1] in (["fedavg"], ["krum"]))
    assert "unknown: runs failed" in baseline
    assert "unknown" not in krum


@pytest.mark.parametrize("words", [["--rounds", "10", "--start", "20"], ["--rounds", "10"]], ids=" ".join)
def test_an_attack_after_the_last_round_is_not_a_failed_run(words: list[str], tmp_path: Path) -> None:
    """There is no round to compare: that is a mistake of the command, or a start that does not fit its rounds."""
    line = ["breaking-point", "-D", "digits", "-d", "krum", "-a", "zero", "--only-base", "--clients", "4"]
    done = CliRunner().invoke(main, [*line, *SMALL[2:], *words, "--out", str(tmp_path / "records")])
    assert done.exit_code == 2
    assert "the attack would start in round 20 and there are 10; write --start 10" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-D", "digits", "-d", "krum", "--clients", "2"], "krum requires 2 * f + 2 < n"),
        (["-D", "digits", "-d", "median", "-d", "bulyan", "--clients", "2"], "bulyan requires"),
        (["-D", "digits", "-d", "kurm"], "did you mean krum"),
        (["-D", "digits", "-d", "krum", "-a", "label_flop"], "did you mean label_flip"),
        (["-D", "digit", "-d", "krum"], "did you mean digits"),
        (["-D", "digits", "-d", "krum", "--start", "0"], "start is 0; write a round from 1"),
        (["-d", "krum"], "-D"),
        (["-D", "digits"], "-d"),
    ],
    ids=" ".join,
)
def test_a_mistake_is_answered_by_a_sentence_and_exit_code_2(words: list[str], said: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["breaking-point", *words, "--out", str(tmp_path / "records")])
    assert done.exit_code == 2
    assert done.stdout == ""
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("Error: ")
    assert not (tmp_path / "records").exists()


def test_the_command_explains_itself() -> None:
    told = invoke("breaking-point", "--help").stdout
    for option in ("-D", "-d", "-a", "--seeds", "--clients", "--only-base", "--plugin", "--format", "--out", "-q"):
        assert option in told
    assert "--malicious" not in told
    assert "breaking-point" in invoke("--help").stdout


def test_the_help_names_the_settings_that_a_search_really_has() -> None:
    (grid,) = suites.read("worst").grids
    told = " ".join(invoke("breaking-point", "--help").stdout.split())
    for name, value in grid.settings.items():
        described = told.partition(f"--{name} INTEGER ")[2].partition(" --")[0]
        assert described.endswith(f"(default {value}).")
    assert f"How many seeds, from 0 (default {grid.seeds})." in told


def test_an_interrupted_search_keeps_what_is_finished_and_prints_how_to_go_on(tmp_path: Path) -> None:
    interrupt(["breaking-point", "-D", "digits", "-d", "krum", "-a", "zero", "--seeds", "40", "--jobs", "1"], tmp_path)
    assert stored(tmp_path / "results")
