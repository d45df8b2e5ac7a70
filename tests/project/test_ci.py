"""The workflow that docs/ci.md tells projects to copy: its commands, as they stand, on pull requests of a repository.

Only the environment differs: git finds the files under test where the workflow names agrbench's repository, pip uses no
index, and the suite is a small one of a single seed, where the tolerance alone decides.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
import yaml

from tests.helpers import workflow
from tests.helpers.project import ROOT
from tests.helpers.workflow import Outcome, Step, git

PAGE = (ROOT / "docs" / "ci.md").read_text()
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
WHOLE, PACKAGED = map(yaml.safe_load, BLOCKS)
(JOB,) = WHOLE["jobs"].values()
WHEEL = ("agrbench", "attacks", "defenses", "datasets")
SUITE = """
title = "a gate of seconds"
datasets = ["synthetic"]
attacks = ["gaussian"]
defenses = ["fedavg"]
forms = "base"
seeds = 1

[settings]
clients = 10
malicious = 3
rounds = 20
start = 10
"""
RULE = '''"""Average what is left."""

from agrbench.plugins import Defense


def mine(round):
    """Return equal weights of the rows that are left."""
    return {left}


defense = Defense(mine, family="norm", amplifier=None, waives={{"amplified": "it reads norms, not the view"}})
'''
KEPT, ALL = RULE.format(left="round.norms <= 2 * round.norms.median()"), RULE.format(left="round.norms >= 0")
PROJECT = """
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "your-package"
version = "1.0"

[project.entry-points."agrbench.plugins"]
mine = "your_package.mine"

[tool.setuptools]
packages = ["your_package"]
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the workflow's step that installs agrbench, from a repository of the files under test."""
    folder = tmp_path_factory.mktemp("install")
    source = folder / "agrbench"
    for name in WHEEL:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    commit(source)
    repository, _, named = JOB["env"]["AGRBENCH"].removeprefix("git+").rpartition("@")
    git("tag", named, cwd=source)
    found = workflow.fresh_python(folder / "venv")
    install = [step for step in JOB["steps"] if step.get("name") == "Install"]
    instead = {
        "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.file://{source}.insteadOf", "GIT_CONFIG_VALUE_0": repository
    }  # fmt: skip
    done = workflow.run(install, folder, environment(found) | instead)
    assert done.green, done.told
    return found


def environment(programs: Path) -> dict[str, str]:
    """Return the workflow's environment, with the programs first, as actions/setup-python puts them."""
    offline = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_EXTRA_INDEX_URL": ""}  # 0: not isolated
    first = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "GITHUB_BASE_REF": "main"}
    return {**JOB["env"], **offline, **first}


def commit(folder: Path) -> None:
    git("init", "--quiet", "--initial-branch=main", folder, cwd=folder)
    git("add", "--all", cwd=folder)
    git("commit", "--quiet", "--message=as it is", cwd=folder)


def lay(files: dict[str, str], folder: Path) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def pull_request(
    before: dict[str, str], after: dict[str, str], steps: list[Step], programs: Path, tmp: Path
) -> Outcome:
    """Push `main` and a branch that is merged with it to a bare repository, and run the job on a checkout of that."""
    remote, person, checkout = (tmp / name for name in ("remote.git", "person", "checkout"))
    person.mkdir()
    lay({"README.md": "", **before}, person)
    commit(person)
    git("init", "--quiet", "--bare", remote, cwd=tmp)
    git("remote", "add", "origin", remote, cwd=person)
    git("push", "--quiet", "origin", "main", cwd=person)
    git("checkout", "--quiet", "-b", "change", cwd=person)
    lay(after, person)
    git("add", "--all", cwd=person)
    git("commit", "--quiet", "--message=a change", cwd=person)
    git("push", "--quiet", "origin", "HEAD:refs/pull/1/merge", cwd=person)
    (fetch,) = [step["with"] for step in steps if step.get("uses", "").startswith("actions/checkout@")]
    workflow.check_out(remote, "refs/pull/1/merge", fetch.get("fetch-depth", 1), checkout)
    (tmp / "small.toml").write_text(SUITE)
    return workflow.run(
        [step for step in steps if step.get("name") != "Install"],
        checkout,
        environment(programs) | {"SUITE": str(tmp / "small.toml")},
    )


def package(rule: str) -> dict[str, str]:
    """Lay a rule out as a package whose plugin imports the rule from another of its modules."""
    plugin = "from agrbench.plugins import Defense\nfrom your_package import rule\n"
    return {
        "pyproject.toml": PROJECT, "your_package/__init__.py": "", "your_package/rule.py": rule,
        "your_package/mine.py": f"{plugin}\ndefense = Defense(rule.mine, amplifier=None)\n",
    }  # fmt: skip


def test_the_workflow_is_whole() -> None:
    assert WHOLE[True] == "pull_request"  # YAML 1.1 reads `on` so
    assert WHOLE["permissions"] == {"contents": "read"}
    assert JOB["env"]["SUITE"] == "baseline"
    assert [step["name"] for step in JOB["steps"] if "run" in step] == ["Install", "Before", "After", "Compare"]
    assert {step["uses"].partition("@")[0] for step in JOB["steps"] if "uses" in step} == {
        "actions/checkout", "actions/setup-python"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "codes", "verdict", "named"),
    [
        pytest.param(KEPT, f"# a comment\n{KEPT}", (0, 0, 0), "**Green", "every difference is 0", id="unchanged"),
        pytest.param(ALL, KEPT, (0, 0, 0), "**Green", "Other code in HEAD: defense mine", id="improved"),
        pytest.param(KEPT, ALL, (0, 0, 1), "**Red", "mine loss under gaussian", id="worsened"),
        pytest.param(None, KEPT, (0, 0, 0), "**Green", "New, only HEAD has it: mine", id="first"),
        pytest.param("def mine(", KEPT, (0, 0, 0), "**Green", "New, only HEAD has it: mine", id="mended"),
        pytest.param(KEPT, RULE.format(left="1 / 0"), (0, 1, 1), "**Red", "lost", id="failing"),
    ],
)
def test_the_workflow_judges_a_pull_request(
    before: str | None, after: str, codes: tuple[int, ...], verdict: str, named: str, programs: Path, tmp_path: Path
) -> None:
    main = {} if before is None else {"mine.py": before}
    job = pull_request(main, {"mine.py": after}, JOB["steps"], programs, tmp_path)
    assert tuple(job.codes.values()) == codes, job.told
    assert job.summary.startswith(verdict)
    assert named in job.summary
    if (before, after) == (KEPT, ALL):
        (shown,) = re.findall(r"^\*\*Red.*", PAGE, re.MULTILINE)
        assert re.sub(r"\d+", "0", job.summary.partition("\n")[0]) == re.sub(r"\d+", "0", shown)


def test_the_workflow_judges_a_rule_in_an_installed_package(programs: Path, tmp_path: Path) -> None:
    """What it computes is in a module that it imports by the package's name, so each side needs its own package."""
    replaced = {step["name"]: step for step in PACKAGED}
    steps = [replaced.get(step.get("name"), step) for step in JOB["steps"]]
    job = pull_request(package(KEPT), package(ALL), steps, programs, tmp_path)
    assert tuple(job.codes.values()) == (0, 0, 1), job.told
    assert "mine loss under gaussian" in job.summary.partition("\n")[0]
