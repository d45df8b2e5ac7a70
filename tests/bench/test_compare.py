"""Costs compared by `agrbench compare`: a slower defense is red only beyond both ranges and the factor."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agrbench.results.gate.compare import BETTER, SAME, WORSE
from tests.helpers.commands import ask


def bench(path: Path, ratios: Mapping[str, tuple[float, float, float]], **change: Any) -> Path:
    rows = [
        {
            "defense": name, "clients": 50, "parameters": 1000, "byzantine": 15, "dtype": "float32",
            "seconds": 0.01 * ratio,
            "ratio": ratio, "ratio_low": low, "ratio_high": high, "peak_bytes": None, "peak_ratio": None,
        }
        for name, (low, ratio, high) in ratios.items()
    ]  # fmt: skip
    whole = {
        "schema": 1, "kind": "bench", "environment": {"cpu": "x", "threads": 1, "device": "cpu"}, "repeat": 5,
        "rows": rows, "exponents": [], "skipped": [],
    }  # fmt: skip
    path.write_text(json.dumps(whole | change))
    return path


BEFORE = {"fedavg": (0.9, 1.0, 1.1), "krum": (3.8, 4.0, 4.3), "median": (9.0, 10.0, 11.0)}


def test_a_defense_three_times_as_slow_is_red_and_named(tmp_path: Path) -> None:
    base = bench(tmp_path / "base.json", BEFORE)
    done = ask("compare", base, bench(tmp_path / "head.json", BEFORE | {"krum": (11.5, 12.0, 12.7)}))
    assert done.exit_code == 1
    assert done.output.startswith("Red: 1 of 2 rows worse, beyond 1.5 times: krum server time at 50 x 1,000 (x3.00).")


@pytest.mark.parametrize(
    ("now", "verdict"),
    [
        ((3.8, 4.0, 4.3), SAME),
        ((5.0, 5.9, 6.5), WORSE),  # the ranges are apart, and it is less than 1.5 times
        ((4.2, 6.5, 9.0), SAME),  # more than 1.5 times, and the ranges overlap
        ((1.0, 1.1, 1.2), BETTER),
    ],
    ids=str,
)
def test_slower_is_red_only_beyond_both_the_ranges_and_the_factor(
    now: tuple[float, float, float], verdict: str, tmp_path: Path
) -> None:
    head = bench(tmp_path / "head.json", BEFORE | {"krum": now})
    done = ask("compare", bench(tmp_path / "base.json", BEFORE), head, "--format", "json")
    assert done.exit_code == 0
    assert [row["verdict"] for row in json.loads(done.output)["rows"] if row["defense"] == "krum"] == [verdict]


def test_a_defense_that_could_not_be_timed_any_more_is_lost_and_one_more_is_new(tmp_path: Path) -> None:
    gone = {"defense": "krum", "clients": 50, "parameters": 1000, "reason": "it would take too long"}
    now = {name: value for name, value in BEFORE.items() if name != "krum"} | {"cosden": (2.0, 2.0, 2.0)}
    done = ask("compare", bench(tmp_path / "base.json", BEFORE), bench(tmp_path / "head.json", now, skipped=[gone]))
    assert done.exit_code == 1
    assert "1 lost: krum" in done.output
    assert "it would take too long" in done.output
    assert "New, only HEAD has it: cosden" in done.output


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2}, {"schema": "1"}, {"kind": "compare"}, {"rows": None}, {"rows": [{}]}, {"skipped": 3},
        {"environment": []}, {"rows": [[1]]}, {"rows": "krum"},
    ],
    ids=str,
)  # fmt: skip
def test_a_file_that_is_no_bench_output_is_refused_by_name(change: dict[str, Any], tmp_path: Path) -> None:
    head = bench(tmp_path / "head.json", BEFORE, **change)
    done = ask("compare", bench(tmp_path / "base.json", BEFORE), head)
    assert done.exit_code == 2
    assert done.output.startswith(f"Error: {head}: ")


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, 1e300, -1.0, 0, True, "4", None, 10**400], ids=lambda v: f"{v!r:.9}"
)
def test_a_ratio_that_is_none_is_refused(value: object, tmp_path: Path) -> None:
    head = bench(tmp_path / "head.json", BEFORE)
    whole = json.loads(head.read_text())
    whole["rows"][1]["ratio_high"] = value
    head.write_text(json.dumps(whole))
    done = ask("compare", bench(tmp_path / "base.json", BEFORE), head)
    assert done.exit_code == 2
    assert done.output.startswith(f"Error: {head}: ")


@pytest.mark.parametrize("name", ["threads", "device"])
def test_other_threads_or_devices_are_not_comparable(name: str, tmp_path: Path) -> None:
    environment = {"cpu": "x", "threads": 1, "device": "cpu"} | {name: "other"}
    head = bench(tmp_path / "head.json", BEFORE, environment=environment)
    assert ask("compare", bench(tmp_path / "base.json", BEFORE), head).exit_code == 2
