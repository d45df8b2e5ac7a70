"""`agrbench grid` as a person meets it: output, exit codes, resuming, stale records, broken plugins."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from agrbench import processes
from agrbench.cells import Cell
from agrbench.cli import estimate
from agrbench.results.record import curves
from agrbench.simulation.costs import Costs, Measured
from agrbench.simulation.grid import Plan
from tests.helpers import plugins
from tests.helpers.commands import AGRBENCH, SMALL, agrbench, interrupt, invoke
from tests.helpers.records import stored

MEAN = "Defense(lambda round: torch.ones(len(round.view)) / 10, amplifier=None)"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["-d", "kurm"], "no defense is named 'kurm'; did you mean krum"),
        (["-d", "cosden(neighbours=ten)"], "the signature is cosden(neighbours: int | None = None, score: "),
        (["-d", "amp+krum+median"], "krum is a defense, not a stage"),
        (["-a", "label_flop"], "did you mean label_flip"),
        (["-D", "digit"], "did you mean digits"),
        (["--suite", "dmeo"], "no suite is named 'dmeo'; write demo"),
        (["--malicious", "1.5"], "a share from 0 to below 1"),
        (["--start", "0"], "start is 0; write a round from 1"),
        (["--start", "20", "--stop", "10"], "stop is 10; write a round from 20, the first"),
        (["--server", "adamw"], "server is 'adamw'; write adam"),
        (["--malicious", "ids(3,50)"], "ids(3,50); write numbers of clients from 0 to"),
        (["--rounds", "0"], "rounds is 0; write 1 or more"),
        (["-d", "centered_clipping(tau=-1)"], "which no number of clients meets; write other values"),
        (["-d", "bucketing(size=0)+krum"], "bucketing(size=0) requires size >= 1, which no number of clients meets"),
        (["--plugin", "absent.py"], "absent.py: the plugin file cannot be read"),
    ],
)
def test_a_mistake_is_answered_by_a_sentence_and_exit_code_2(tmp_path: Path, words: list[str], complaint: str) -> None:
    done = agrbench("grid", *words, cwd=tmp_path, ok=2)
    assert complaint in done.stderr
    assert done.stderr.startswith("Error: ")
    assert not done.stdout
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("def (:", "not Python in line 1"), ("x = 1\n", "it exports no plugin; end it with one of attack = Attack(...)")],
)
def test_a_file_that_is_no_plugin_is_refused_by_name(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)
    done = agrbench("grid", "--plugin", path, "-d", "mine", cwd=tmp_path, ok=2)
    assert str(path) in done.stderr
    assert complaint in done.stderr


@pytest.mark.parametrize(
    ("weigh", "complaint"),
    [
        ("1 / 0", "weigh raised ZeroDivisionError"),
        ("torch.full((len(round.view),), float('nan'))", "some weights are NaN or infinite"),
        ("torch.ones(3)", "weights must be a tensor of shape (10,)"),
        ("None", "weights must be a tensor"),
        ("lambda block: block[:1]", "a function of columns must return finite weights"),
    ],
)
def test_a_broken_defense_costs_its_own_cells_only(tmp_path: Path, weigh: str, complaint: str) -> None:
    mine = plugins.defense(tmp_path, "mine", f"defense = Defense(lambda round: {weigh}, amplifier=None)")
    done = agrbench("grid", "--plugin", mine, "-d", "mine", "-a", "none", *SMALL, cwd=tmp_path, ok=1)
    assert str(mine) in done.stderr
    assert complaint in done.stderr
    found = stored(tmp_path / "results")
    assert {record["cell"]["defense"]: record["status"] for record in found.values()} == {
        "fedavg": "done",
        "mine": "failed",
    }
    assert all(record["traceback"] for record in found.values() if record["status"] == "failed")
    mended = plugins.defense(
        tmp_path, "mine", "defense = Defense(lambda round: torch.ones(len(round.view)) / 10, amplifier=None)"
    )
    agrbench("grid", "--plugin", mended, "-d", "mine", "-a", "none", *SMALL, cwd=tmp_path)
    assert {record["status"] for record in stored(tmp_path / "results").values()} == {"done"}


@pytest.mark.parametrize("text", ["def (:", "x = 1\n", "1 / 0\ndefense = Defense(None)\n"])
def test_a_file_that_is_no_plugin_is_left_out_and_the_others_finish(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)
    done = agrbench("grid", "--plugin", path, "-d", "mine", "-d", "krum", "-a", "none", *SMALL, cwd=tmp_path, ok=1)
    assert f"Left out: {path}" in done.stderr
    assert {record["cell"]["defense"] for record in stored(tmp_path / "results").values()} == {
        "fedavg",
        "krum",
        "amp+krum",
    }


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("defense = Defense(lambda round: None, requires=lambda n, f: 1 // 0)", "requires raised ZeroDivisionError"),
        ("defense = Defense(len)", "weigh raised TypeError"),
    ],
)
def test_a_fault_anywhere_in_a_plugin_names_its_file(tmp_path: Path, body: str, complaint: str) -> None:
    mine = plugins.defense(tmp_path, "mine", body)
    done = subprocess.run(
        [AGRBENCH, "grid", "--plugin", mine, "-d", "mine", "-a", "none", *SMALL],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in (1, 2)
    assert str(mine) in done.stderr
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_a_stage_whose_view_is_not_finite_is_named(tmp_path: Path) -> None:
    mine = plugins.write(
        tmp_path,
        "mine",
        '''
        """Spoil the view."""
        from agrbench.plugins import Stage
        from agrbench.plugins.contract import Columns


        def mine(layout, rng, restore):
            """Multiply by NaN."""
            return Columns(lambda rows, out=None: rows * float("nan"), None, layout)


        stage = Stage(columns=mine)
        ''',
    )
    done = agrbench("grid", "--plugin", mine, "-d", "mine+krum", "-a", "none", *SMALL, cwd=tmp_path, ok=1)
    assert f"{mine}: view raised ValueError: the view must be finite" in done.stderr


def test_a_ten_line_defense_gets_an_amplified_form_and_a_row(tmp_path: Path) -> None:
    mine = plugins.defense(
        tmp_path,
        "closest",
        '''
        def closest(round):
            """Keep the row nearest to all others."""
            return torch.nn.functional.one_hot(round.geometry.distances.sum(1).argmin(), len(round.view)).bool()


        defense = Defense(closest, family='distance')
        ''',
    )
    shown = agrbench("grid", "--plugin", mine, "-d", "closest", "-a", "label_flip", *SMALL, cwd=tmp_path).stdout
    assert "closest" in shown
    assert "amp+closest" in shown


def test_only_the_table_is_on_stdout_and_quiet_says_nothing_else(tmp_path: Path) -> None:
    done = agrbench("grid", "-d", "krum", "-a", "label_flip", *SMALL, cwd=tmp_path)
    assert done.stdout.startswith("The triad: digits, 10 clients")
    assert "Records: results" in done.stderr
    assert "Next: agrbench table results" in done.stderr
    quiet = agrbench("grid", "-d", "krum", "-a", "label_flip", *SMALL, "-q", cwd=tmp_path)
    assert quiet.stdout == done.stdout
    assert not quiet.stderr


def test_the_same_command_again_computes_nothing_and_prints_the_same(tmp_path: Path) -> None:
    words = ("grid", "-d", "cosden", "-a", "label_flip", *SMALL)
    first = agrbench(*words, cwd=tmp_path)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "results").rglob("*.json")}
    again = agrbench(*words, cwd=tmp_path)
    assert again.stdout == first.stdout
    assert "Nothing to compute" in again.stderr
    assert files == {path: path.stat().st_mtime_ns for path in (tmp_path / "results").rglob("*.json")}


def test_a_cell_is_the_same_alone_in_another_order_and_in_two_processes(tmp_path: Path) -> None:
    agrbench("grid", "-d", "krum", "-d", "nnm+median", "-a", "label_flip", "-a", "scaling", *SMALL, "--jobs", "2",
             "--out", "two", cwd=tmp_path)  # fmt: skip
    agrbench("grid", "-d", "nnm+median", "-d", "krum", "-a", "scaling", "-a", "label_flip", *SMALL, "--jobs", "1",
             "--out", "one", cwd=tmp_path)  # fmt: skip
    agrbench("grid", "-d", "amp+krum", "-a", "scaling", *SMALL, "--out", "alone", cwd=tmp_path)
    two, one, alone = (stored(tmp_path / name) for name in ("two", "one", "alone"))
    assert set(two) == set(one) > set(alone)
    for path, record in one.items():
        assert curves(two[path]) == curves(record)
    for path, record in alone.items():
        assert curves(one[path]) == curves(record)


def test_killed_at_ten_random_moments_a_grid_ends_with_the_same_records(tmp_path: Path) -> None:
    words = ("grid", "-d", "cosden", "-d", "median", "-a", "label_flip", "-a", "min_max", *SMALL, "--seeds", "2", "-q")
    began = time.monotonic()
    agrbench(*words, "--out", "whole", cwd=tmp_path)
    length = time.monotonic() - began
    moments = random.Random(0)
    for _ in range(10):
        killed = subprocess.Popen(
            [AGRBENCH, *words, "--out", "killed"], cwd=tmp_path, start_new_session=True, stdout=subprocess.DEVNULL
        )
        time.sleep(moments.uniform(0.3, 1.0) * length)
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
        stored(tmp_path / "killed") if (tmp_path / "killed").exists() else None  # every file there is a whole record
    agrbench(*words, "--out", "killed", cwd=tmp_path)
    whole, resumed = stored(tmp_path / "whole"), stored(tmp_path / "killed")
    assert set(whole) == set(resumed)
    for path, record in whole.items():
        assert curves(resumed[path]) == curves(record)


def test_an_interrupted_grid_keeps_what_is_finished_and_prints_how_to_go_on(tmp_path: Path) -> None:
    interrupt(["grid", "-d", "krum", "-a", "label_flip", "--seeds", "40", "--rounds", "100"], tmp_path)
    assert stored(tmp_path / "results")


def test_an_edited_plugin_makes_its_records_stale_and_only_those(tmp_path: Path) -> None:
    mine = plugins.defense(tmp_path, "mine", f"defense = {MEAN}")
    words = ("grid", "--plugin", mine, "-d", "mine", "-d", "krum", "-a", "label_flip", *SMALL)
    agrbench(*words, cwd=tmp_path)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "results").rglob("*.json")}
    mine.write_text(mine.read_text() + "edited = True\n")
    kept = agrbench(*words, "--keep-stale", cwd=tmp_path)
    assert "used as they are: digits mine none, digits mine label_flip" in kept.stderr
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "results").rglob("*.json")}
    told = agrbench(*words, cwd=tmp_path).stderr
    assert "computed again: digits mine none, digits mine label_flip" in told
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "results").rglob("*.json")}
    assert {path.parts[-3] for path in after if after[path] != before[path]} == {"mine"}


@pytest.mark.usefixtures("patient")
def test_a_dry_run_says_how_many_cells_and_how_long_and_computes_nothing(tmp_path: Path) -> None:
    words = ("grid", "-d", "krum", "-d", "mean_pool+fang", "-a", "label_flip", *SMALL, "--malicious", "4", "--dry-run")
    done = invoke(*words, "--out", tmp_path / "results")
    first, about, measured = done.stdout.splitlines()
    assert first == "8 cells: 2 to compute, 0 there, 6 skipped"
    assert re.fullmatch(r"About \d+ s with --jobs 1 on a machine that is otherwise idle, within a factor of 2", about)
    assert measured.endswith("scaled: 1 of 1 training setups, 1 of 1 stacks, 1 of 1 attacks")
    assert "Skipped: krum, amp+krum: krum requires 2 * f + 2 < n, and here n=10, f=4" in done.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.usefixtures("patient")
def test_a_verbose_dry_run_lists_cells_after_the_summary(tmp_path: Path) -> None:
    agrbench("grid", "-d", "fedavg", "-a", "none", *SMALL, cwd=tmp_path)
    words = ("grid", "-d", "krum", "-d", "mean_pool+fang", "-a", "label_flip", *SMALL, "--malicious", "4", "--dry-run")
    listed = invoke(*words, "-v", "--out", tmp_path / "results").stdout.splitlines()
    assert listed[0] == "8 cells: 2 to compute, 0 there, 6 skipped"
    assert len(listed) == 3 + 8
    assert "digits krum label_flip seed 0: skip: krum requires 2 * f + 2 < n, and here n=10, f=4" in listed
    assert "digits mean_pool+fang none seed 0: skip: fang needs a restored view, which mean_pool lacks" in str(listed)
    assert listed[3] == "digits fedavg none seed 0: compute"
    there = invoke("grid", "-d", "krum", "-a", "none", *SMALL, "--dry-run", "-v", "--out", tmp_path / "results").stdout
    assert "digits fedavg none seed 0: there" in there


@pytest.mark.parametrize(
    ("load", "said"),
    [
        ("time.sleep(3600)", "No estimate"),
        ("os._exit(3)", "The process that measures ended early"),
        ("1 / 0", "slow fedavg none seed 0 will fail"),
    ],
)
def test_a_dry_run_answers_whatever_a_plugin_does(
    tmp_path: Path, load: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "PATIENCE", 8.0 if "sleep" in load else 600.0)
    text = f"import os, time\nfrom agrbench.plugins import Dataset, Source\ndef load():\n    {load}\n"
    text += "dataset = Dataset(load, model='mlp(4)', rate=0.1, root_size=4, source=Source('here'))"
    slow = plugins.write(tmp_path, "slow", text)
    done = invoke("grid", "--plugin", slow, "-D", "slow", "-d", "krum", "-a", "none", *SMALL, "--out", tmp_path / "out",
                  "--dry-run")  # fmt: skip
    assert said in done.stdout + done.stderr
    assert "3 cells: 3 to compute" in done.stdout or "could not be planned" in done.stdout


def test_the_time_in_which_a_program_started_counts_as_time_of_the_dry_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_began", time.monotonic() - 20)
    done = invoke("grid", "-d", "krum", *SMALL, "--out", tmp_path / "out", "--dry-run")
    assert done.stdout == "No estimate: the grid could not be planned within 15 s\n"


def test_a_dry_run_names_what_it_could_not_measure() -> None:
    settings: dict[str, Any] = {"clients": 10, "rounds": 20}
    cells = tuple(Cell("digits", rule, attack, **settings) for rule in ("krum", "median") for attack in ("none", "lie"))
    plan, costs = Plan(cells, {}, (), cells, ()), Costs()

    def about() -> list[str]:
        return list(estimate.told(plan, costs, 2))[1:]

    assert about() == ["No estimate: nothing could be measured within 15 s"]
    for part, value in (("start", 1.0), ("begin", 1.0), ("train", 1.0), ("test", 0.0)):
        costs.add(Measured(part, cells[0], value))
    time, _, stacks, attacks = about()
    assert time.startswith("At least ")
    assert stacks == "Not measured in time, and left out: krum, median"
    assert attacks == "Not measured in time, and left out: lie"
    for part in ("forge", "rehearsals"):
        costs.add(Measured(part, cells[1], 0.0))
    costs.add(Measured("server", cells[0], 9.0))
    time, _, stacks = about()
    assert time.startswith("Roughly ")
    assert stacks == "Not measured in time, and taken as the mean of the measured stacks: median"
    costs.add(Measured("server", cells[2], 9.0))
    assert about()[0].startswith("About ")


@pytest.mark.usefixtures("patient")
def test_absent_data_is_not_counted_in_a_dry_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AGRBENCH_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    done = invoke("grid", "-D", "purchase100", "-d", "krum", "-a", "none", *SMALL, "--out", tmp_path, "--dry-run")
    assert "Not counted: purchase100, whose files are not at hand; write `agrbench data get purchase100`" in done.stdout
    assert "About" not in done.stdout


def test_what_does_not_exist_is_skipped_with_its_reason_and_not_ranked(tmp_path: Path) -> None:
    done = agrbench("grid", "-d", "krum", "-a", "label_flip", *SMALL, "--malicious", "4", cwd=tmp_path)
    assert "Skipped: krum, amp+krum: krum requires 2 * f + 2 < n, and here n=10, f=4" in done.stderr
    assert "Not ranked: krum under none" in done.stdout
    statuses = {record["cell"]["defense"]: record["status"] for record in stored(tmp_path / "results").values()}
    assert statuses == {"fedavg": "done", "krum": "skipped", "amp+krum": "skipped"}


@pytest.mark.usefixtures("patient")
def test_forms_can_be_left_out(tmp_path: Path) -> None:
    base = invoke(
        "grid", "-d", "krum", "-a", "none", *SMALL, "--only-base", "--dry-run", "-v", "--out", tmp_path
    ).stdout
    assert "digits krum none" in base
    assert "amp+krum" not in base
    amplified = invoke(
        "grid", "-d", "krum", "-a", "none", *SMALL, "--only-amplified", "--dry-run", "-v", "--out", tmp_path
    ).stdout
    assert "digits amp+krum none" in amplified
    assert "digits krum" not in amplified
    chosen = invoke(
        "grid", "-d", "sample(kernel=3)+krum", "-a", "none", *SMALL, "--dry-run", "-v", "--out", tmp_path
    ).stdout
    assert "digits sample(kernel=3)+krum none" in chosen
    assert "amp+" not in chosen


@pytest.mark.usefixtures("patient")
def test_the_paper_s_settings_hold_where_axes_are_given_and_the_demo_s_where_none_is(tmp_path: Path) -> None:
    own = invoke("grid", "-d", "krum", "-a", "none", "--seeds", "1", "--dry-run", "--out", tmp_path)
    assert "4 cells" not in own.stdout
    from agrbench.simulation.suites import choose

    (chosen,) = choose(None, ["none"], ["krum"], [], None, {})
    assert (chosen.settings, chosen.seeds, chosen.datasets) == ({}, 3, ("digits",))
    assert choose(None, [], [], [], None, {})[0].settings == {"clients": 20, "rounds": 100, "start": 20}
    assert choose("demo", ["none"], [], [], 1, {"rounds": 30})[0].settings["rounds"] == 30


def test_a_plugin_that_nothing_names_is_mentioned(tmp_path: Path) -> None:
    mine = plugins.defense(tmp_path, "mine", "defense = Defense(lambda round: torch.ones(10))")
    done = agrbench("grid", "--plugin", mine, "-d", "fedavg", "-a", "none", *SMALL, cwd=tmp_path)
    assert "nothing names the plugin mine; write -a, -d or -D mine" in done.stderr


def test_absent_data_stops_a_grid_before_anything_is_computed(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "AGRBENCH_DATA"}
    environment |= {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HTTPS_PROXY": "http://127.0.0.1:9"}
    words = ["grid", "-D", "digits", "-D", "location30", "-d", "krum", "-a", "none", *SMALL]
    done = subprocess.run(
        [AGRBENCH, *words], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "put it at" in done.stderr
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-D", "digits", "--partition", "natural"], "this dataset has no natural owners; write --partition iid"),
        (["-D", "synthetic", "--model", "cnn"], "cnn takes images (channels, height, width)"),
        (["-D", "digits", "--clients", "5000"], "write --clients 1337 or fewer"),
        (["-D", "synthetic(rows=100)"], "100 training examples cannot spare 100 for the root set; write --root test"),
        (["-D", "synthetic(test=50)", "--root", "test"], "50 test examples cannot spare 100 for the root set"),
    ],
)  # fmt: skip
def test_settings_that_the_data_cannot_meet_are_refused_before_anything_is_computed(
    tmp_path: Path, words: list[str], said: str
) -> None:
    done = agrbench("grid", *words, "-d", "krum", "-a", "none", "--rounds", "2", cwd=tmp_path, ok=2)
    assert done.stdout == ""
    assert said in done.stderr
    assert not list(tmp_path.rglob("*.json"))


def test_a_start_after_the_end_warns(tmp_path: Path) -> None:
    done = agrbench("grid", "-d", "fedavg", "-a", "label_flip", "--rounds", "5", "--seeds", "1", "--clients", "10",
                    cwd=tmp_path)  # fmt: skip
    assert "Warning: the attack would start in round 10 and there are 5: nobody attacks" in done.stderr


@pytest.mark.usefixtures("patient")
def test_a_suite_file_is_read_and_its_mistakes_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    axes = 'datasets = ["digits"]\nattacks = ["none"]\ndefenses = ["krum"]'
    path.write_text(f"{axes}\nseeds = 1\n[settings]\nrounds = 10\n")
    shown = invoke("grid", "--suite", path, "--dry-run", "--out", tmp_path / "results").stdout
    assert "3 cells" in shown
    for text, complaint in [
        ("datasets = [", "not TOML"),
        ('dataset = ["digits"]', "'dataset' is no key of a suite; write datasets"),
        ('datasets = ["digits"]\nattacks = "none"\ndefenses = ["krum"]', "attacks is not a list of specs"),
        (f"{axes}\n[settings]\nround = 1", "write rounds"),
    ]:
        path.write_text(text)
        assert complaint in agrbench("grid", "--suite", path, cwd=tmp_path, ok=2).stderr
