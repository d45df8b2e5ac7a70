"""The documentation as a site: built in strict mode, whole, and asking nobody for anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.project import ROOT

FETCHED = re.compile(r"<(?:script|img|link)\b[^>]*?\b(?:src|href)=[\"']?((?:https?:)?//[^\"'>\s]+)[^>]*>")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(words, cwd=ROOT, env=quiet, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    return folder


def test_every_page_of_the_repository_is_in_the_site(site: Path) -> None:
    pages = [ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md"), *ROOT.glob("leaderboard/*.md")]
    for page in pages:
        place = page.relative_to(ROOT).with_suffix("")
        folder = site / (place.parent if place.name == "README" else place)
        assert (folder / "index.html").is_file(), page


def test_the_reference_holds_the_public_docstrings(site: Path) -> None:
    page = (site / "docs" / "reference" / "index.html").read_text(encoding="utf-8")
    for name in ("agrbench.aggregate", "agrbench.load", "agrbench.plugins.Defense", "agrbench.conformance.Case"):
        assert f'id="{name}"' in page


def test_the_leaderboard_leads_to_the_page_of_its_records(site: Path) -> None:
    assert 'href="report.html"' in (site / "leaderboard" / "index.html").read_text(encoding="utf-8")
    assert "Best under the worst" in (site / "leaderboard" / "report.html").read_text(encoding="utf-8")


def test_no_page_fetches_anything_from_elsewhere(site: Path) -> None:
    """Links lead elsewhere; scripts, styles, fonts and pictures must not."""
    fetched = {
        (page.relative_to(site), found)
        for page in site.rglob("*.html")
        for tag in FETCHED.finditer(page.read_text(encoding="utf-8"))
        if 'rel="canonical"' not in tag[0] and (found := tag[1])
    }
    assert fetched == set()
    styles = "".join(style.read_text(encoding="utf-8") for style in site.rglob("*.css"))
    assert not re.search(r"@import|url\([\"']?(https?:)?//", styles)
