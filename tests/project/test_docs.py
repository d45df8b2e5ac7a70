"""The documentation: its commands run, its Python runs, its files run as plugins, its links lead somewhere."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.commands import invoke
from tests.helpers.project import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"] + [
    page for folder in ("leaderboard", "docs") for page in sorted(ROOT.glob(f"{folder}/*.md"))
]
PRINTED = re.compile(
    r"^Printed by `(agrbench (?:table|breaking-point|check|pack|validate) [^`]*)`:\n\n```text\n(.*?)^```",
    re.MULTILINE | re.DOTALL,
)
FIGURES = ROOT / "docs" / "figures"
DRAWN = re.compile(r"^Drawn by `(agrbench (?:plot|snapshot) [^`]*) --out docs/figures/(\w+)\.svg`", re.MULTILINE)
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[tuple[str, str]]:
    return FENCE.findall(page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_what_a_page_tells_to_type_runs(page: Path, tmp_path: Path) -> None:
    for language, text in blocks(page):
        saved = re.match(r"# save as (\w+\.py)\n", text)
        if language == "python" and saved:
            (tmp_path / saved[1]).write_text(text.partition("\n")[2])
        elif language == "python":
            subprocess.run([sys.executable, "-W", "error", "-c", text], cwd=tmp_path, check=True)
        elif language == "console":
            for line in text.splitlines():
                if line.startswith("$ agrbench "):
                    command = [str(Path(sys.executable).with_name("agrbench")), *shlex.split(line)[2:]]
                    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
                    assert done.returncode == 0, (line, done.stderr)
                    assert done.stdout, line


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_table_is_what_its_command_prints(page: Path) -> None:
    """To refresh one, paste what the command prints at a width of 120."""
    for command, shown in PRINTED.findall(page.read_text()):
        environment, printed, told = {**os.environ, "COLUMNS": "120"}, "", ""
        for each in command.split(" && "):
            words = [str(Path(sys.executable).with_name("agrbench")), *shlex.split(each)[1:]]
            done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
            printed, told = printed + done.stdout, told + done.stderr
        assert printed == shown, (command, told)


@pytest.mark.parametrize(
    "figure", sorted({figure for page in PAGES for figure in DRAWN.findall(page.read_text())}), ids=lambda each: each[1]
)
def test_every_figure_says_what_its_command_draws(
    figure: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All text is compared: where it stands depends on the fonts there are."""
    monkeypatch.chdir(ROOT)
    command, kind = figure
    for each in f"{command} --out {tmp_path}/{kind}.svg".replace("build/", f"{tmp_path}/").split(" && "):
        invoke(*shlex.split(each)[1:])
    texts = [re.findall(r"<text[^>]*>([^<]+)", (folder / f"{kind}.svg").read_text()) for folder in (tmp_path, FIGURES)]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_files_of_the_project(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_page_is_reached_from_the_readme(page: Path) -> None:
    assert page.name == "README.md" or name(page) in (ROOT / "README.md").read_text()


def test_every_test_that_the_page_on_reliability_names_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs" / "reliability.md").read_text())
    assert named
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text(), (file, test)
