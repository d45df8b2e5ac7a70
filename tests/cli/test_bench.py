"""`agrbench bench`: what it prints in each format, which mistakes it names, and what it says of byzfl."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import torch
from click.testing import Result

from agrbench.bench.workload import nearest
from tests.helpers import plugins
from tests.helpers.commands import invoke

SMALL = ("--clients", "8", "--parameters", "600", "--repeat", "2", "--threads", "1")
ROW = [
    "defense", "clients", "parameters", "byzantine", "dtype", "seconds", "ratio", "ratio_low", "ratio_high",
    "peak_bytes", "peak_ratio",
]  # fmt: skip


def run(*words: str | Path, ok: int = 0) -> Result:
    return invoke("bench", *words, ok=ok)


def test_a_broken_plugin_is_named_and_the_others_are_measured(tmp_path: Path) -> None:
    file = plugins.rule(tmp_path, "broken", "def weigh(round):\n    raise ValueError('no')\n")
    done = run(*SMALL, "--plugin", file, "-d", "broken", "-d", "median", "--format", "json", ok=1)
    found = json.loads(done.stdout)
    assert [row["defense"] for row in found["rows"]] == ["fedavg", "median", "amp+median"]
    (skip,) = found["skipped"]
    assert skip["defense"] == "broken"
    assert str(file) in skip["reason"]


def test_a_rule_that_loops_is_named_and_the_others_are_measured(tmp_path: Path) -> None:
    file = plugins.rule(tmp_path, "loops", "def weigh(round):\n    while True: pass\n")
    words = ("--plugin", file, "-d", "loops", "-d", "median", "--format", "json", "--patience", "2")
    found = json.loads(run(*SMALL, *words, ok=1).stdout)
    assert [row["defense"] for row in found["rows"]] == ["fedavg", "median", "amp+median"]
    (skip,) = found["skipped"]
    assert f"{file}: a round takes longer than --patience 2" in skip["reason"]


def test_json_is_one_object_of_the_documented_form() -> None:
    done = run(*SMALL, "-d", "krum", "-d", "bulyan", "--clients", "8,12", "--format", "json")
    found = json.loads(done.stdout)
    assert list(found) == ["schema", "kind", "environment", "repeat", "rows", "exponents", "skipped"]
    assert (found["schema"], found["kind"], found["repeat"]) == (1, "bench", 2)
    known = ["agrbench", "torch", "numpy", "python", "cpu", "threads", "device", "cpu_capability"]
    assert [name for name in found["environment"] if name.islower()] == known
    stacks = ["fedavg", "krum", "amp+krum", "bulyan", "amp+bulyan"]
    assert [row["defense"] for row in found["rows"]] == [*stacks[:3], *stacks]
    for row in found["rows"]:
        assert list(row) == ROW
        assert (row["parameters"], row["byzantine"], row["dtype"]) == (nearest(600), 2, "float32")
        assert 0 < row["ratio_low"] <= row["ratio"] <= row["ratio_high"]
        assert row["seconds"] > 0
        assert isinstance(row["peak_bytes"], int)
        assert row["peak_bytes"] >= 4 * row["clients"] * row["parameters"]
    assert [row["defense"] for row in found["exponents"]] == stacks
    for row in found["exponents"]:
        assert list(row) == ["defense", "clients", "parameters"]
        assert row["parameters"] is None
        assert (row["clients"] is None) == ("bulyan" in row["defense"])
    assert [list(skip) for skip in found["skipped"]] == [["defense", "clients", "parameters", "reason"]] * 2


def test_csv_has_a_line_a_row_and_a_line_a_skip() -> None:
    rows = list(csv.DictReader(run(*SMALL, "-d", "krum", "-d", "bulyan", "--format", "csv").stdout.splitlines()))
    assert [row["defense"] for row in rows] == ["fedavg", "krum", "amp+krum", "bulyan", "amp+bulyan"]
    assert [bool(row["seconds"]) for row in rows] == [True] * 3 + [False] * 2
    assert [bool(row["reason"]) for row in rows] == [False] * 3 + [True] * 2


MISTAKES = {"-d kurm": "krum", "--clients ten": "20,50", "--clients 0": "20,50", "--help": "Usage:"}


def test_mistakes_are_told_without_torch() -> None:
    code = (
        "import sys; from agrbench.cli import main\n"
        f"for words in {list(MISTAKES)!r}:\n"
        "    try: main(['bench', *words.split()])\n"
        "    except SystemExit as error: print(error.code)\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    for words, told in MISTAKES.items():
        assert told in run(*words.split(), ok=0 if words == "--help" else 2).output


def test_a_model_that_is_too_small_or_a_device_that_is_absent_is_told() -> None:
    assert "507" in run("--parameters", "5", ok=2).stderr
    if not torch.cuda.is_available():
        assert "--device cpu" in run("--device", "cuda", ok=2).stderr


def test_without_byzfl_one_sentence_says_how_to_get_it() -> None:
    code = (
        "import sys; sys.modules['byzfl'] = None\n"  # what Python itself raises ModuleNotFoundError on
        f"from agrbench.cli import main; main(['bench', *{[*SMALL, '--against', 'byzfl']!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("Error: byzfl cannot be imported (")
    assert "pip install --no-deps byzfl" in done.stderr
    assert done.stderr.count("\n") == 1


def test_against_byzfl_adds_its_ratio_and_says_what_differs() -> None:
    words = (*SMALL, "-d", "krum", "-d", "lasa", "-d", "mda", "--against", "byzfl")
    rows = {row["defense"]: row for row in json.loads(run(*words, "--format", "json").stdout)["rows"]}
    for name, row in rows.items():
        extra = ["byzfl_ratio", "byzfl_ratio_low", "byzfl_ratio_high"] if name in ("fedavg", "krum", "amp+krum") else []
        assert list(row) == [*ROW, *extra], name
    shown = run(*words).stdout
    assert "n - f - 1 neighbours" in shown
    assert "tries every subset" in shown
