"""What is said of how each plugin is tested: every column is filled from facts, and both pages are up to date."""

import importlib
import inspect
import json
import runpy
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from agrbench.conformance.subjects import Subject
from tests.helpers.project import ROOT

SCRIPT: dict[str, Any] = runpy.run_path(str(ROOT / "benchmarks" / "certificates.py"))
ENTRIES = list(SCRIPT["entries"]())
COVERED = SCRIPT["coverage"]()
CERTIFIED = json.loads(SCRIPT["DATA"].read_text())
# Attacks that have no like here; the peer's label flipping is the mean of whatever vectors it is given.
ELSEWHERE = {"Inf", "LabelFlipping", "Optimal_ALittleIsEnough", "Optimal_InnerProductManipulation"}


@pytest.mark.parametrize(("kind", "entry"), ENTRIES, ids=lambda each: getattr(each, "name", each))
def test_plugin_has_an_oracle_and_a_trap(kind: str, entry: Any) -> None:
    """To mend it, mark the tests: `@pytest.mark.oracle("name")`, `@pytest.mark.trap("name")`."""
    assert COVERED[entry.name].oracle
    assert COVERED[entry.name].trap


@pytest.mark.parametrize(("kind", "entry"), ENTRIES, ids=lambda each: getattr(each, "name", each))
def test_certificate_is_that_of_the_plugin_as_it_is(kind: str, entry: Any) -> None:
    """To mend it, run `python benchmarks/certificates.py`."""
    (made,) = [each for each in CERTIFIED if (each["kind"], each["plugin"]) == (kind, entry.name)]
    subject, run = Subject(kind, entry.name), (True, False) if kind == "dataset" else (True,)
    assert made in [SCRIPT["facts"](subject, entry, each) | {"coefficients": made["coefficients"]} for each in run]
    assert SCRIPT["row"](made) in SCRIPT["CERTIFICATES"].read_text().splitlines()


def test_status_is_up_to_date() -> None:
    """To mend it, run `python benchmarks/certificates.py`."""
    page = SCRIPT["STATUS"].read_text()
    assert page == SCRIPT["status"]()
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) == len(ENTRIES)
    assert all(cell.strip("| ") for row in rows for cell in row)


def test_marks_are_read_from_constants_and_from_named_lists(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "RULES = {'krum': 1, 'multi_krum(m=3)': 2}\n"
        "@pytest.mark.oracle(*RULES)\ndef test_a(): ...\n"
        "@pytest.mark.peer('median', of='byzfl.Median')\n@given(x)\ndef test_b(): ...\n"
    )
    found = SCRIPT["coverage"](tmp_path)
    assert found["multi_krum"].oracle == found["krum"].oracle == ["test_it.py::test_a"]
    assert found["median"].peer == ["byzfl.Median"]
    assert not found["median"].oracle


def test_every_rule_and_attack_of_the_peer_is_compared_with_ours() -> None:
    """So that `none in byzfl` is true where a status says so."""
    sys.modules.setdefault("byzfl.benchmark", types.ModuleType("byzfl.benchmark"))
    byzfl = importlib.import_module("byzfl")
    named = {
        name for name, value in vars(byzfl).items()
        if inspect.isclass(value) and value.__module__.startswith(("byzfl.aggregators", "byzfl.attacks"))
    }  # fmt: skip
    compared = {peer.removeprefix("byzfl.") for covered in COVERED.values() for peer in covered.peer}
    assert {"Krum", "ALittleIsEnough"} <= named
    assert named - ELSEWHERE <= compared
