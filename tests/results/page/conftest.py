"""A page of a few made records, and a browser that all tests of a module share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.helpers.commands import invoke
from tests.helpers.records import fill
from tests.helpers.reports import records


@pytest.fixture(scope="session")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the page of two collections: `many` has three seeds, `one` has one."""
    folder = tmp_path_factory.mktemp("report")
    many, one = fill(folder / "many", records((0, 1, 2))), fill(folder / "one", records((0,)))
    invoke("report", many, one, "--out", folder / "report.html")
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start Debian's Chromium; where it is missing, the tests fail."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield started
        started.close()
