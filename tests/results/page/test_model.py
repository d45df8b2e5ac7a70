"""What the page says of made records, worked out by hand, and that nothing in a record can leave the page's data."""

from __future__ import annotations

import base64
import gzip
import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agrbench.cells import Cell
from agrbench.plugins.registry import Registry
from agrbench.results import metrics
from agrbench.results.page.build import write
from agrbench.results.page.model import Known, model
from agrbench.results.record import Record
from tests.helpers.records import REGISTRY, finished, measured
from tests.helpers.reports import HOSTILE, MARK, records
from tests.helpers.triad import cell, everything, made

NONE = [0.1, 0.9, 0.9, 0.9, 0.9]


def shown(found: Sequence[Record], **known: Any) -> dict[str, Any]:
    (group,) = metrics.groups(found)
    return model("mine", group, Known(REGISTRY, **known))


def row(page: dict[str, Any], defense: str) -> dict[str, Any]:
    (found,) = [each for each in page["defenses"] if each["name"] == defense]
    return dict(found)


def at(page: dict[str, Any], defense: str, attack: str) -> dict[str, Any]:
    (found,) = [each for each in page["cells"] if (each["defense"], each["attack"]) == (defense, attack)]
    return dict(found)


def losing(defense: str, loss: float, seeds: int, attack: str = "lie") -> list[Record]:
    """Make runs that lose so many points under an attack, and none without."""
    level = 0.9 - loss / 100
    attacked = [measured(defense, attack, seed, [0.1, level, level, level, level]) for seed in range(seeds)]
    return [*attacked, *(measured(defense, "none", seed, NONE) for seed in range(seeds))]


def test_a_row_has_the_numbers_of_the_definition() -> None:
    """krum loses 8 and 12 points under gradient_ascent, 4 and 8 under the others; it costs 3 and 5 by itself."""
    found = row(shown(records((0, 1, 2))), "krum")
    numbers = {
        name: found[name] for name in ("worst_attack", "worst_loss", "fidelity_loss", "server_ms", "server_ratio")
    }
    assert numbers == {
        "worst_attack": "gradient_ascent", "worst_loss": 10.0, "fidelity_loss": 4.0, "server_ms": 5.0,
        "server_ratio": 5.0,
    }  # fmt: skip
    assert found["mean_loss"] == pytest.approx((10 + 6 + 6) / 3, abs=1e-6)
    assert found["worst_success"] == pytest.approx(30)
    assert (found["rank"], found["family"], found["stages"], found["amplified"]) == (2, "distance", [], False)
    amplified = row(shown(records((0, 1, 2))), "amp+krum")
    assert (amplified["rank"], amplified["base"], amplified["stages"]) == (1, "krum", ["amp"])
    assert amplified["gain"] == pytest.approx((5 + 7 + 7) / 3 - 22 / 3, abs=1e-6)


def test_a_cell_has_its_loss_its_parts_and_its_success() -> None:
    page = shown(records((0, 1, 2)))
    found = at(page, "krum", "scaling")
    assert (found["loss"], found["fidelity"], found["damage"], found["success"]) == (6.0, 4.0, 2.0, pytest.approx(30))
    assert (found["seeds"], found["rank"]) == ([0, 1, 2], 1)
    assert at(page, "krum", "none")["loss"] == 4.0
    assert at(page, "fedavg", "gradient_ascent")["loss"] == 60.0
    assert page["missing"] == [{"defense": HOSTILE, "attack": "scaling", "reason": f"failed: out of memory {MARK}"}]


def test_an_attack_that_few_met_is_the_best_known_and_does_not_count_in_the_ranking() -> None:
    runs = [each for name in ("fedavg", "krum", "median", "mda") for each in losing(name, 3, 2)]
    page = shown([*runs, *losing("krum", 40, 2, "ipm"), *losing("fedavg", 50, 2, "ipm")])
    found = row(page, "krum")
    assert (found["worst_attack"], found["worst_loss"], found["best_attack"]) == ("lie", pytest.approx(3), "ipm")
    assert {each["name"]: each["common"] for each in page["attacks"]} == {"none": True, "lie": True, "ipm": False}
    assert row(page, "median")["best_attack"] == "lie"


def test_the_best_known_attack_is_shown_with_its_author(tmp_path: Path) -> None:
    plugin = tmp_path / "sharper.py"
    plugin.write_text(
        '"""Sharper: clean updates reversed."""\n\nfrom agrbench.plugins import Attack\n\n'
        'attack = Attack(forge=lambda insider: -insider.clean, author="Jane Doe")\n'
    )
    registry = Registry([str(plugin)])
    cells = [Cell("digits", "krum", "sharper", seed, rounds=40) for seed in (0, 1)]
    sharp = [finished(cell, [0.1, 0.5, 0.5, 0.5, 0.5], registry=registry) for cell in cells]
    runs = [each for name in ("fedavg", "krum", "median", "mda") for each in losing(name, 3, 2)]
    (group,) = metrics.groups([*runs, *sharp])
    page = model("mine", group, Known(registry))
    found = {name: (row(page, name)["best_attack"], row(page, name)["best_author"]) for name in ("krum", "median")}
    assert found == {"krum": ("sharper", "Jane Doe"), "median": ("lie", "")}


def test_breaking_points_and_certificates_stand_in_the_rows_that_they_are_about() -> None:
    found = everything()
    setting = json.dumps(replace(cell("fedavg", "none", 0), malicious=0).as_json(), sort_keys=True)
    page = shown(found, points={setting: {"krum": "5/20"}}, certified={"krum": "19 hold"})
    assert [row(page, name)["breaks"] for name in ("krum", "amp+krum")] == ["5/20", None]
    assert row(page, "amp+krum")["certificate"] == "— + 19 hold"
    assert row(page, "fedavg")["certificate"] is None


@pytest.mark.parametrize(
    ("found", "before", "names", "after"),
    [
        (everything((0,)), "One seed, so nothing is ranked.*worst of 2 attacks:", ["amp+krum"], "chance"),
        (losing("fedavg", 9, 3) + losing("krum", 2, 3), "Best under lie:", ["krum"], "over 3 seeds"),
        (losing("fedavg", 9, 3) + losing("krum", 2, 3) + losing("mda", 2, 3), "Best", ["krum", "mda"], "tied"),
        (losing("fedavg", 1, 3) + losing("krum", 2, 3), "no defense loses less than plain averaging", [], "^$"),
        ([made("fedavg", "none", 0), made("krum", "none", 0)], "Nobody attacks", [], "^$"),
        (losing("fedavg", 1, 2) + losing("krum", 2, 1), "no defense has all its runs on two seeds", [], "^$"),
    ],
)  # fmt: skip
def test_the_answer_names_the_best_or_says_why_there_is_none(
    found: list[Record], before: str, names: list[str], after: str
) -> None:
    answer = shown(found)["answer"]
    assert re.search(before, answer["before"])
    assert answer["names"] == names
    assert re.search(after, answer["after"])


def test_records_of_different_settings_are_different_groups_with_links_of_their_own() -> None:
    found = [
        each | {"cell": replace(cell("krum", "none", 0), clients=30, malicious=9).as_json()}
        for each in everything((0,))[:1]
    ]
    made_of = [model("mine", group, Known(REGISTRY)) for group in metrics.groups([*everything((0,)), *found])]
    other = [model("other", group, Known(REGISTRY)) for group in metrics.groups(everything((0,)))]
    assert len({page["id"] for page in (*made_of, *other)}) == 3
    assert [page["title"].partition(",")[2][:11] for page in made_of] == [" 20 clients", " 30 clients"]


def test_no_text_of_a_record_ends_the_element_that_holds_it_and_all_of_it_comes_back() -> None:
    found = [*records((0,)), made("krum", "none", 7, environment={"cpu": f"{MARK}\u2028\ud800&"}, peak_bytes=math.nan)]
    page = write([shown(found)], [{"records": found, "again": []}])
    elements = re.findall(r"<script([^>]*)>(.*?)</script>", page, re.DOTALL)
    assert [kind for kind, _ in elements] == [
        ' type="application/json" id="model"', ' type="text/plain" class="records"', ""
    ]  # fmt: skip
    told = json.loads(elements[0][1])
    assert HOSTILE in [each["name"] for each in told["groups"][0]["defenses"]]
    (*_, last) = json.loads(gzip.decompress(base64.b64decode(elements[1][1])))["records"]
    assert (last["environment"], last["peak_bytes"]) == (found[-1]["environment"], None)
    assert "<!--" not in page.replace("<!doctype", "")
    assert "http" not in re.sub(r"http://www\.w3\.org/2000/svg|http-equiv", "", page)


def test_the_page_runs_one_program_and_loads_nothing() -> None:
    page = write([shown(everything((0,)))], [{"records": [], "again": []}])
    assert "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-" in page
    assert not re.search(r"\{\{[a-z]+\}\}", page)
