"""`agrbench check`: what holds, what is waived, the counterexample, and what is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from agrbench.cli import main
from agrbench.conformance import claims
from agrbench.errors import AgrbenchError
from tests.helpers import plugins


def test_command_prints_what_holds_what_is_waived_and_the_counterexample(tmp_path: Path) -> None:
    path = plugins.faulty("secret_mean", tmp_path)
    done = subprocess.run(
        [str(Path(sys.executable).with_name("agrbench")), "check", path, "--examples", "10", "--format", "github"],
        capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "120"},
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "| resists | **violated** |" in done.stdout
    code = done.stdout.split("```python\n")[1].split("```")[0]
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert shown.returncode == 1
    assert "Violation: the step lies" in shown.stderr


def test_json_has_every_verdict() -> None:
    done = CliRunner().invoke(main, ["check", "sample", "--examples", "2", "--format", "json", "-q"])
    assert done.exit_code == 0
    (data,) = json.loads(done.stdout)
    assert {each["verdict"] for each in data["properties"]} == {"holds"}
    assert data["kind"] == "stage"


def test_waiver_is_printed_with_its_reason() -> None:
    done = CliRunner().invoke(main, ["check", "none", "--examples", "2", "-q"])
    assert done.exit_code == 0
    assert "waived    moves        it is the baseline" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["krun"], "no plugin is named 'krun'; did you mean krum?"),
        (["rfa"], "no plugin is named 'rfa'; did you mean geometric_median(steps=3)?"),
        (["krum(neighbours=1)"], "neighbours is 'paper' or 'byzfl'"),
        (["absent.py"], "cannot be read"),
        (["label_flip", "--against", "krum"], "label_flip is no defense"),
        (["krum", "--against", "zero"], "zero is an attack, not a defense"),
        (["purchase100"], "not at hand"),
    ],
)
def test_command_refuses_in_one_sentence(words: list[str], said: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    done = CliRunner().invoke(main, ["check", *words])
    assert done.exit_code == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_dataset_that_misses_one_of_several_files_that_may_serve_is_refused_and_not_judged(tmp_path: Path) -> None:
    path = plugins.write(
        tmp_path,
        "own",
        '''
        """Own."""
        from agrbench.errors import DataError
        from agrbench.plugins import Dataset, Source
        def load():
            raise DataError('neither a.bin nor b.bin is at hand')
        dataset = Dataset(load, model='mlp(4)', rate=0.1, root_size=4, source=Source('here'))
        ''',
    )
    done = CliRunner().invoke(main, ["check", str(path)])
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr == "Error: own: neither a.bin nor b.bin is at hand\n"


def test_unknown_waiver_is_refused_with_the_nearest_property(tmp_path: Path) -> None:
    path = plugins.write(
        tmp_path,
        "own",
        '''
        """Own."""
        from agrbench.plugins import Defense
        defense = Defense(lambda round: round.norms * 0 + 1, waives={'scalling': 'why'})
        ''',
    )
    with pytest.raises(AgrbenchError, match="'scalling', which is no property; did you mean scaling"):
        claims(path)
