"""`agrbench new`: what it writes passes as it stands, runs in a grid, and nothing is written over."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from agrbench.cli import main
from agrbench.conformance import claims
from agrbench.plugins import registry
from tests.helpers.project import ROOT

KINDS = ["attack", "defense", "stage", "dataset"]
BIN = Path(sys.executable).parent


@pytest.fixture
def here(tmp_path: Path, monkeypatch: Any) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("kind", KINDS)
def test_new_plugin_passes_its_certificate_and_its_test_runs_it(kind: str, here: Path) -> None:
    assert CliRunner().invoke(main, ["new", kind, "own_idea"]).exit_code == 0
    for claim in claims("own_idea.py"):
        claim.verify(8)
    words = [str(BIN / "pytest"), "-q", "-p", "no:cacheprovider", "--collect-only", "test_own_idea.py"]
    done = subprocess.run(words, cwd=here, capture_output=True, text=True, check=True)
    assert done.stdout.count("::test_own_idea[") == len(claims("own_idea.py"))


def test_written_test_fails_where_the_plugin_does(here: Path) -> None:
    assert CliRunner().invoke(main, ["new", "attack", "own_idea"]).exit_code == 0
    path = here / "own_idea.py"
    path.write_text(path.read_text().replace("-strength * insider.clean", "insider.clean"))
    words = [str(BIN / "pytest"), "-q", "-p", "no:cacheprovider", "test_own_idea.py"]
    done = subprocess.run(words, cwd=here, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "FAILED test_own_idea.py::test_own_idea[moves]" in done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_new_plugin_runs_by_file_and_its_hyperparameter_can_be_typed(kind: str, here: Path) -> None:
    assert CliRunner().invoke(main, ["new", kind, "own_idea"]).exit_code == 0
    own = {
        "attack": ["-a", "own_idea(strength=3.0)", "-d", "median"],
        "defense": ["-a", "zero", "-d", "own_idea(dropped=1)"],
        "stage": ["-a", "zero", "-d", "own_idea(share=0.5)+median"],
        "dataset": ["-a", "zero", "-d", "median", "-D", "own_idea(rows=300)"],
    }[kind]
    words = [
        "grid",
        "--plugin",
        "own_idea.py",
        *own,
        "--clients",
        "8",
        "--rounds",
        "2",
        "--seeds",
        "1",
        "--jobs",
        "1",
        "-q",
    ]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("kind", KINDS)
def test_scaffold_is_linted_and_typed_as_the_project_is(kind: str, here: Path) -> None:
    assert CliRunner().invoke(main, ["new", kind, "own_idea"]).exit_code == 0
    for words in (
        [str(BIN / "ruff"), "check", "--config", str(ROOT / "pyproject.toml"), "--ignore", "D1,I", "own_idea.py"],
        [str(BIN / "ruff"), "format", "--check", "--config", str(ROOT / "pyproject.toml"), "."],
    ):
        done = subprocess.run(words, cwd=here, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("there", ["own_idea.py", "test_own_idea.py"])
def test_nothing_is_written_over(there: str, here: Path) -> None:
    (here / there).write_text("mine")
    done = CliRunner().invoke(main, ["new", "defense", "own_idea"])
    assert done.exit_code == 2
    assert f"{there} exists already" in done.stderr
    assert [path.name for path in here.iterdir()] == [there]
    assert (here / there).read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("own-idea", "'own-idea' is no name for a plugin"),
        ("class", "'class' is no name"),
        ("_own", "'_own' is no name"),
        ("../own", "'../own' is no name"),
        ("krum", "agrbench has the defense krum already"),
    ],
)
def test_name_that_no_spec_can_hold_is_refused(name: str, said: str, here: Path) -> None:
    done = CliRunner().invoke(main, ["new", "defense", name])
    assert done.exit_code == 2
    assert said in done.stderr
    assert not list(here.iterdir())


def test_new_defense_is_found_as_an_entry_point(here: Path, monkeypatch: Any) -> None:
    """As an installed package would name it, `own_idea = "own_idea"`."""
    assert CliRunner().invoke(main, ["new", "defense", "own_idea"]).exit_code == 0
    info = here / "own-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[agrbench.plugins]\nown_idea = own_idea\n")
    monkeypatch.syspath_prepend(str(here))
    assert "own_idea" in registry.Registry().names("defense")
