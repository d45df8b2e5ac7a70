"""Lay the repository out as a site: every page keeps its place, so that its links hold here and there."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from agrbench.plugins.registry import Registry
from agrbench.results.page.build import build
from agrbench.simulation import suites

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/*.md", "leaderboard/*.md")
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
PUBLIC = (
    "agrbench",
    "agrbench.plugins",
    "agrbench.conformance",
    "agrbench.plot",
    "agrbench.flower",
    "agrbench.nvflare",
)
REFERENCE = "docs/reference.md"
STYLE = "docs/site.css"
BOARD = "leaderboard/README.md"
REPORT = "leaderboard/report.html"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replace the files of docs/ by all pages of the repository, what they link to, a reference and the report."""
    for file in [each for each in files if not each.src_uri.startswith("assets/")]:  # those are the theme's
        files.remove(file)
    pages = [page for pattern in PAGES for page in sorted(ROOT.glob(pattern))]
    linked = {file for page in pages for file in _linked(page)} - set(pages)
    for path in (*pages, *sorted(linked), ROOT / STYLE):
        files.append(File.generated(config, str(path.relative_to(ROOT)), abs_src_path=str(path)))
    files.append(File.generated(config, REFERENCE, content=_reference()))
    files.append(File.generated(config, REPORT, content=_report()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead from the leaderboard to its records, which the site has as a page of their own."""
    if page.file.src_uri != BOARD:
        return markdown
    title, _, rest = markdown.partition("\n")
    return f"{title}\n\n**[Look at these records](report.html)**: rank, sort, filter, and open every cell.\n{rest}"


def _linked(page: Path) -> list[Path]:
    """List the files of the repository that a page links to."""
    targets = ((page.parent / link).resolve() for link in LINK.findall(page.read_text(encoding="utf-8")))
    return [target for target in targets if target.is_file() and target.is_relative_to(ROOT)]


def _report() -> str:
    """Build the page of all published records."""
    records = sorted(ROOT.glob("leaderboard/records/*.jsonl"))
    registry = Registry()
    return build(records, registry, suites.demanded(registry), ROOT / "leaderboard" / "certificates.json")


def _reference() -> str:
    """Write the page that mkdocstrings fills with the docstrings of the public modules."""
    return "# Reference\n\n" + "\n".join(f"::: {module}\n" for module in PUBLIC)
