"""`agrbench show`: one record as a person reads it, and the command that computes it again."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from agrbench.cells import Cell
from agrbench.cli import main, show
from agrbench.results.again import reproduce
from agrbench.results.record import Record, curves, failed, skipped
from agrbench.results.store import Store
from agrbench.simulation import grid, suites
from tests.helpers.commands import SMALL, agrbench
from tests.helpers.records import REGISTRY, stored
from tests.helpers.triad import cell, made

# Accuracy in percent after rounds 10 and 20, both attacked; a further point is lost per seed where it says so.


def shown(record: Record, folder: Path) -> str:
    done = CliRunner().invoke(main, ["show", str(Store(folder).write(record))])
    assert done.exit_code == 0, done.output
    return done.output


def test_a_finished_record_is_shown_with_settings_curves_and_costs(tmp_path: Path) -> None:
    success = {"success": [None, 0.25, 1.0], "success_untriggered": [None, 0.0, 0.0]}
    output = shown(made("amp+krum", "label_flip", 2, **success), tmp_path)
    assert output.startswith("digits amp+krum label_flip seed 2: done\n")
    for said in ("20 clients", "6 malicious", "server assumes 6", "20 rounds", "attack from 10", "of the dataset"):
        assert said in output
    for curve in ("accuracy", "loss", "success", "success_untriggered", "malicious_share", "precision", "recall"):
        assert re.search(rf"^{curve} ", output, re.MULTILINE), curve
    # Accuracy goes from 0.1 over 0.82 to 0.84: of eight bars the lowest, the one before last or last, the highest.
    assert re.search(r"^accuracy +▁██  0\.1000 to 0\.8400, last 0\.8400$", output, re.MULTILINE)
    assert re.search(r"^success +  ▁█  0\.2500 to 1\.0000, last 1\.0000$", output, re.MULTILINE)
    assert re.search(r"^precision +\(no values\)$", output, re.MULTILINE)
    assert "server 3.00 ms a round, all 500.00 ms" in output
    assert "peak memory 100 MiB" in output
    assert "reason" not in output


def test_a_failed_record_is_shown_with_its_reason_and_traceback(tmp_path: Path) -> None:
    record = failed(cell("krum", "none", 0), REGISTRY, "ValueError: no", 'Traceback\n  File "x"\nValueError: no\n')
    lines = shown(record, tmp_path).splitlines()
    assert lines[0] == "digits krum none seed 0: failed"
    assert lines[1] == "reason: ValueError: no"
    assert lines[3:6] == ["Traceback", '  File "x"', "ValueError: no"]
    assert lines[6].startswith("again: agrbench grid ")


def test_a_skipped_record_is_shown_with_its_reason(tmp_path: Path) -> None:
    output = shown(skipped(cell("krum", "none", 0), REGISTRY, "krum needs 2f + 2 < n"), tmp_path)
    assert "skipped\nreason: krum needs 2f + 2 < n\n" in output
    assert "again: agrbench grid " in output


def test_what_is_no_record_is_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[]")
    for name in ("x.json", "absent.json"):
        done = CliRunner().invoke(main, ["show", str(tmp_path / name)])
        assert done.exit_code == 2
        assert done.output.startswith("Error: ")
        assert name in done.output


def planned(line: str) -> list[Cell]:
    """Read a printed command as the shell and the command line do, and list its cells."""
    agrbench, command, *words = shlex.split(line)
    assert (agrbench, command) == ("agrbench", "grid")
    assert isinstance(main, click.Group)
    given = main.commands["grid"].make_context("grid", words).params
    settings = {name: given[name] for name in grid.SETTINGS if given.get(name) is not None}
    assert given["forms"] == "base"
    suite, attacks, defenses, datasets, seeds = (
        given[name] for name in ("suite", "attacks", "defenses", "datasets", "seeds")
    )
    return list(grid.expand(suites.choose(suite, attacks, defenses, datasets, seeds, settings, "base"), REGISTRY))


CELLS = st.builds(
    Cell,
    dataset=st.sampled_from(["digits", "location30"]),
    defense=st.sampled_from(["fedavg", "krum", "amp(kernel=3)+nnm+krum", "amp(by='magnitude')+cosden(neighbours=12)"]),
    attack=st.sampled_from(["none", "label_flip(map='reverse')", "scaling(target=3)", "min_max"]),
    seed=st.integers(0, 6),
    clients=st.sampled_from([20, 50, 33]),
    malicious=st.sampled_from([0, 0.0, 0.3, 0.1, 7]),
    byzantine=st.sampled_from([None, 0, 9]),
    rounds=st.sampled_from([5, 20, 200]),
    start=st.sampled_from([None, 10, 50, 300]),
    rate=st.none() | st.floats(1e-6, 10),
    threads=st.integers(1, 3),
    device=st.sampled_from(["cpu", "cuda"]),
)


@given(cell=CELLS)
def test_the_printed_command_computes_the_same_cell_and_what_it_is_compared_with(cell: Cell) -> None:
    cells = planned(reproduce(cell, REGISTRY))
    keys = {each.key for each in cells}
    assert cell.key in keys
    for defense, attack in (("fedavg", "none"), (cell.defense, "none"), ("fedavg", cell.attack)):
        assert replace(cell, defense=defense, attack=attack).key in keys
    assert all(each.defense in ("fedavg", cell.defense) for each in cells)


def test_the_printed_command_is_the_last_line_of_what_is_shown(tmp_path: Path) -> None:
    record = made("amp+krum", "label_flip", 2)
    line = shown(record, tmp_path).splitlines()[-1].removeprefix("again: ")
    assert cell("amp+krum", "label_flip", 2).key in {each.key for each in planned(line)}


@pytest.mark.parametrize(
    ("values", "bars"),
    [([0.0, 0.5, 1.0], "▁▅█"), ([None, 1.0, 0.0], " █▁"), ([0.3, 0.3], "▁▁"), ([], "")],
)
def test_a_sparkline_goes_from_the_lowest_bar_to_the_highest(values: list[float | None], bars: str) -> None:
    known = [value for value in values if value is not None]
    assert show.sparkline(values, min(known, default=0.0), max(known, default=0.0)) == bars


def test_a_record_says_at_which_rate_it_was_trained(tmp_path: Path) -> None:
    agrbench("grid", "-d", "fedavg", "-a", "none", *SMALL, cwd=tmp_path)
    (path,) = tmp_path.rglob("*.json")
    assert "trained at rate 0.5, 4810 parameters" in agrbench("show", path, cwd=tmp_path).stdout


def test_show_prints_a_record_and_a_command_that_gives_it_again(tmp_path: Path) -> None:
    agrbench("grid", "-d", "krum", "-a", "scaling", *SMALL, "--rate", "0.3", cwd=tmp_path)
    (path,) = (tmp_path / "results/digits/krum/scaling").glob("*.json")
    shown = agrbench("show", path, cwd=tmp_path).stdout
    command = shown.splitlines()[-1].removeprefix("again: ").split()
    assert command[0] == "agrbench"
    agrbench(*command[1:], cwd=tmp_path)
    assert curves(stored(tmp_path / "again")[str(path.relative_to(tmp_path / "results"))]) == curves(
        json.loads(path.read_text())
    )
