"""A GitHub workflow, run on this machine: its `run` steps as they are, and what `actions/checkout` does."""

from __future__ import annotations

import os
import subprocess
import sysconfig
import venv
from pathlib import Path
from typing import Any, NamedTuple

Step = dict[str, Any]
GIT = {
    f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in
    (("NAME", "A person"), ("EMAIL", "person@example.org"))
}  # fmt: skip


class Outcome(NamedTuple):
    """The exit code of each step that ran, by its name, and what a person sees of the job."""

    codes: dict[str, int]
    summary: str
    told: str

    @property
    def green(self) -> bool:
        """Return whether every step passed."""
        return not any(self.codes.values())


def git(*words: str | Path, cwd: Path) -> None:
    """Run git as a person whom it knows."""
    subprocess.run(["git", *words], cwd=cwd, env={**os.environ, **GIT}, check=True, capture_output=True)


def fresh_python(folder: Path) -> Path:
    """Make an environment that has the packages of this one, pip included, and return its folder of programs."""
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def check_out(remote: Path, reference: str, depth: int, folder: Path) -> None:
    """Fetch what `actions/checkout` fetches: one commit, or at depth 0 all branches with their history."""
    git("init", "--quiet", folder, cwd=remote)
    git("remote", "add", "origin", f"file://{remote}", cwd=folder)
    history = [f"--depth={depth}"] if depth else ["+refs/heads/*:refs/remotes/origin/*"]
    git("fetch", "--quiet", "origin", *history, f"+{reference}:refs/remotes/pull/merge", cwd=folder)
    git("checkout", "--quiet", "--detach", "refs/remotes/pull/merge", cwd=folder)


def run(steps: list[Step], folder: Path, environment: dict[str, str]) -> Outcome:
    """Run steps as GitHub does, by `bash -e`; after one that failed, only those that run unless cancelled."""
    summary, codes, told = folder.with_name("summary.md"), dict[str, int](), list[str]()
    summary.write_text("")
    known = {**os.environ, **GIT, **environment, "GITHUB_STEP_SUMMARY": str(summary)}
    known.pop("PYTHONPATH", None)
    for step in steps:
        if "run" in step and (not any(codes.values()) or "!cancelled()" in step.get("if", "")):
            done = subprocess.run(
                ["bash", "-e", "-c", step["run"]], cwd=folder, env=known, capture_output=True, text=True, check=False
            )
            codes[step["name"]] = done.returncode
            told += [done.stdout, done.stderr]
    return Outcome(codes, summary.read_text(), "".join(told))
