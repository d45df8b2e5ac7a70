"""The page in a real browser, opened from disk: what is seen, clicked, linked, downloaded and read aloud."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from tests.helpers.reports import HOSTILE, MARK

SERIOUS = {"serious", "critical"}


@contextmanager
def opened(browser: Browser, file: Path, fragment: str = "", **context: Any) -> Iterator[Page]:
    """Open the page in a fresh context; nothing but the file may be asked for, and nothing may go wrong."""
    made = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **context})
    page, wrong, asked = made.new_page(), list[str](), list[str]()
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: wrong.append(dialog.message))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri() + fragment)
    yield page
    assert wrong == []
    assert {url.partition("#")[0] for url in asked} == {file.as_uri()}
    made.close()


def column(page: Page, name: str) -> list[str]:
    return [each.split("\n")[0] for each in page.locator(f"#table tbody [data-column={name}]").all_inner_texts()]


def test_it_answers_first_and_shows_every_defense_with_its_rank(browser: Browser, page_file: Path) -> None:
    with opened(browser, page_file) as page:
        assert page.locator("h1").inner_text() == "Best under the worst of 3 attacks: amp+krum (over 3 seeds)"
        assert column(page, "name") == ["amp+krum", "krum", HOSTILE, "fedavg"]
        assert column(page, "rank") == ["1", "2", "—", "—"]
        assert column(page, "loss")[:2] == ["7.0 [7.0, 7.0]", "10.0 [10.0, 10.0]"]
        assert column(page, "attack")[:2] == ["label_flip", "gradient_ascent"]
        assert "Weaker than the suite worst: no record under adaptive" in page.locator("#explained").inner_text()
        assert "3 seeds" in page.locator("#caption").inner_text()
        assert page.locator("#plots figure").count() == 3


def test_names_and_reasons_of_records_are_shown_and_never_obeyed(browser: Browser, page_file: Path) -> None:
    with opened(browser, page_file) as page:
        assert page.locator("img").count() == 0
        assert page.locator("script:not([type])").count() == 1
        assert MARK in page.locator("#table .why").inner_text()
        page.locator("#heat td[data-attack=label_flip]").nth(2).click()
        assert page.locator("#panel-title").inner_text() == f"{HOSTILE} under label_flip"
        assert MARK in page.locator("#part-machine").inner_text()


def test_sorting_is_kept_in_the_link(browser: Browser, page_file: Path) -> None:
    with opened(browser, page_file) as page:
        page.click("[data-sort=fidelity_loss]")
        assert column(page, "fidelity_loss") == ["0.0", "2.0", "4.0", "4.0"]
        page.keyboard.press("Enter")  # the button has kept its focus
        assert column(page, "fidelity_loss") == ["4.0", "4.0", "2.0", "0.0"]
        assert page.locator("th[aria-sort=descending]").inner_text().startswith("Fidelity loss")
        link = "#" + page.url.partition("#")[2]
    with opened(browser, page_file, link) as page:
        assert column(page, "fidelity_loss") == ["4.0", "4.0", "2.0", "0.0"]


def test_search_filters_and_columns_narrow_the_view_and_are_kept_in_the_link(browser: Browser, page_file: Path) -> None:
    with opened(browser, page_file) as page:
        page.fill("#q", "krum")
        assert column(page, "name") == ["amp+krum", "krum"]
        page.select_option("#form", "amplified")
        assert column(page, "name") == ["amp+krum"]
        page.select_option("#form", "")
        page.select_option("#stage", "-")
        page.select_option("#attack", "gradient_ascent")
        assert column(page, "name") == ["krum"]
        page.select_option("#stage", "amp")
        assert column(page, "loss") == ["5.0 [2.5, 7.5]"]
        page.click("#columns summary")
        page.uncheck("input[name=mean_loss]")
        assert column(page, "mean_loss") == []
        link = "#" + page.url.partition("#")[2]
        page.click("#reset")
        assert len(column(page, "name")) == 4
    with opened(browser, page_file, link) as page:
        assert (column(page, "name"), column(page, "loss"), column(page, "mean_loss")) == (
            ["amp+krum"], ["5.0 [2.5, 7.5]"], []
        )  # fmt: skip
        page.select_option("#family", "unknown")
        page.fill("#q", "")
        assert column(page, "name") == []
        assert page.locator("#count").inner_text() == "0 of 4 defenses"


def test_a_cell_opens_by_keyboard_and_its_link_opens_it_in_a_fresh_tab(browser: Browser, page_file: Path) -> None:
    with opened(browser, page_file) as page:
        page.locator("#heat td[tabindex='0']").focus()
        for key in ("ArrowRight", "ArrowDown", "Enter"):
            page.keyboard.press(key)
        assert page.locator("#panel-title").inner_text() == "krum under gradient_ascent"
        link = page.locator("#part-again .anchor").get_attribute("href")
        page.keyboard.press("Escape")
        assert not page.locator("#panel").is_visible()
        page.go_back()
        page.locator("#panel").wait_for()
    assert link is not None
    with opened(browser, page_file, link) as page:
        assert page.locator("#panel-title").inner_text() == "krum under gradient_ascent"
        assert page.locator("#panel .summary").inner_text().startswith(
            "Loss 10.0 points [10.0, 10.0] = fidelity loss 4.0 + attack damage 6.0 (3 seeds"
        )  # fmt: skip
        assert page.locator("#panel .command").inner_text() == (
            "agrbench grid -D digits -d krum -a gradient_ascent --only-base --seeds 3 --clients 20 --malicious 6 "
            "--byzantine 6 --rounds 20 --start 10 --out again"
        )
        curves = page.locator("#part-curves svg")
        assert [curves.nth(place).locator("path.seed").count() for place in range(curves.count())] == [3, 3]
        assert curves.first.locator("path.reference").count() == 1
        assert curves.first.locator("text", has_text="attack starts, round 10").count() == 1
        page.locator("#part-record details").nth(2).locator("summary").click()
        raw = json.loads(page.locator("#part-record pre").nth(2).inner_text())
        assert (raw["cell"]["seed"], raw["accuracy"]) == (2, [0.1, 0.8, 0.8])


def test_a_download_is_the_view(browser: Browser, page_file: Path, tmp_path: Path) -> None:
    with opened(browser, page_file, "#hide=certificate,mean_loss") as page:
        for form in ("csv", "json"):
            with page.expect_download() as download:
                page.click(f"#{form}")
            download.value.save_as(tmp_path / form)
    with (tmp_path / "csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["name"], row["loss_points"]) for row in rows] == [
        ("amp+krum", "7"), ("krum", "10"), (f"'{HOSTILE}", ""), ("fedavg", "60")
    ]  # fmt: skip
    told = json.loads((tmp_path / "json").read_text())
    assert (told["source"], told["attack"]) == ("many", "worst")
    assert [(row["name"], row["loss_points"]) for row in told["rows"]] == [
        ("amp+krum", 7), ("krum", 10), (HOSTILE, None), ("fedavg", 60)
    ]  # fmt: skip
    assert not {"certificate", "mean_loss_points"} & set(rows[0])


def test_one_seed_is_shown_and_not_ranked(browser: Browser, page_file: Path) -> None:
    with opened(browser, page_file) as page:
        page.select_option("#group", index=1)
        assert page.locator("h1").inner_text().startswith("One seed, so nothing is ranked.")
        assert column(page, "rank") == ["—"] * 4
        assert page.locator("#table line.whisker").count() == 0
        assert "nothing is ranked" in page.locator("#caption").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("fragment", ["", "#defense=krum&under=scaling&heat=success"])
def test_axe_finds_nothing_serious(browser: Browser, page_file: Path, scheme: str, fragment: str) -> None:
    with opened(browser, page_file, fragment, color_scheme=scheme) as page:
        if fragment:
            page.locator("#panel-title").wait_for()
        found = Axe().run(page).response["violations"]
        assert [
            (each["id"], [node["html"] for node in each["nodes"]]) for each in found if each["impact"] in SERIOUS
        ] == []


def test_a_phone_shows_it_without_scrolling_sideways_and_in_either_theme(browser: Browser, page_file: Path) -> None:
    with opened(browser, page_file, viewport={"width": 390, "height": 800}, color_scheme="light") as page:
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        background = "getComputedStyle(document.body).backgroundColor"
        light = page.evaluate(background)
        page.click("#theme")  # system, light, dark
        assert page.evaluate(background) == light
        page.click("#theme")
        assert page.evaluate(background) != light
