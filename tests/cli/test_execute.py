"""What is said while cells run: text of records and of data is shown and never obeyed."""

from __future__ import annotations

from pathlib import Path

import pytest

from agrbench.cli.execute import How, report_failures
from agrbench.results.record import failed
from agrbench.results.store import Store
from agrbench.simulation.engines.local import Local
from tests.helpers.records import REGISTRY
from tests.helpers.triad import cell

SAID = "\x1b[2Jgone\nFailed (9 cells): all"


def test_a_reason_is_one_line_and_a_traceback_keeps_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = failed(cell("krum", "none", 0), REGISTRY, SAID, f"Traceback\n{SAID}")
    report_failures([record], Store(tmp_path), trace=True)
    told = capsys.readouterr().err
    assert all(each.isprintable() or each == "\n" for each in told)
    first, *trace = told.splitlines()
    assert first.endswith(r": \x1b[2Jgone Failed (9 cells): all")
    assert trace == ["Traceback", r"\x1b[2Jgone", "Failed (9 cells): all"]


def test_a_remark_of_a_dataset_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    engine = Local(REGISTRY)
    How(engine).say(SAID)
    assert capsys.readouterr().err == "\\x1b[2Jgone Failed (9 cells): all\n"
    How(engine, quiet=True).say(SAID)
    assert capsys.readouterr().err == ""
