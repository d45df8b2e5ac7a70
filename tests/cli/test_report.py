"""`agrbench report`: one page of whatever records there are, quickly, and what it refuses."""

from __future__ import annotations

import base64
import gzip
import json
import re
import time
from pathlib import Path

import pytest

from tests.helpers.commands import ask, invoke
from tests.helpers.project import ROOT
from tests.helpers.records import fill
from tests.helpers.triad import everything

PUBLISHED = sorted((ROOT / "leaderboard" / "records").glob("*.jsonl"))


def test_the_committed_records_make_a_page_of_five_megabytes_at_most_in_ten_seconds(tmp_path: Path) -> None:
    started = time.process_time()
    done = invoke(
        "report",
        *PUBLISHED,
        "--out",
        tmp_path / "all.html",
        "--certificates",
        ROOT / "leaderboard" / "certificates.json",
    )
    assert time.process_time() - started < 10
    page = (tmp_path / "all.html").read_text()
    assert len(page) < 5e6
    assert f"Wrote {tmp_path / 'all.html'}, {len(page) / 1e6:.1f} MB" in done.output
    packed = re.findall('<script type="text/plain" class="records">(.*?)</script>', page)
    held = [record for each in packed for record in json.loads(gzip.decompress(base64.b64decode(each)))["records"]]
    lines = [json.loads(line) for path in PUBLISHED for line in path.read_text().splitlines()]
    finished = [{name: value for name, value in line.items() if name != "key"} for line in lines if line["classes"]]
    assert sorted(map(json.dumps, held)) == sorted(map(json.dumps, finished))
    (told,) = re.findall('id="model">(.*?)</script>', page)
    groups = {group["id"]: group for group in json.loads(told)["groups"]}
    demo = groups[json.loads(told)["start"]]
    assert (demo["source"], len(demo["defenses"]), len(demo["seeds"])) == ("demo", 21, 10)
    assert {row["name"]: row["breaks"] for row in demo["defenses"]}["krum"] == "5/20"


def test_the_same_records_make_the_same_page(tmp_path: Path) -> None:
    folder = fill(tmp_path / "mine", everything((0, 1)))
    for name in ("one.html", "two.html"):
        invoke("report", folder, "--out", tmp_path / name)
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()


def test_collections_of_one_name_are_told_apart_by_their_paths(tmp_path: Path) -> None:
    folders = [fill(tmp_path / name / "results", everything((0,))) for name in ("ours", "theirs")]
    invoke("report", *folders, "--out", tmp_path / "page.html")
    (told,) = re.findall('id="model">(.*?)</script>', (tmp_path / "page.html").read_text())
    groups = json.loads(told)["groups"]
    assert [group["source"] for group in groups] == list(map(str, folders))
    assert groups[0]["id"] != groups[1]["id"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: folder / "nowhere", "no such folder"),
        (lambda folder: fill(folder / "empty", []), "no finished record there; run `agrbench grid` first"),
    ],
)
def test_without_records_it_says_what_to_do_and_writes_nothing(tmp_path: Path, make: object, said: str) -> None:
    assert callable(make)
    done = ask("report", make(tmp_path), "--out", tmp_path / "page.html")
    assert done.exit_code == 2
    assert said in done.output
    assert not (tmp_path / "page.html").exists()


def test_a_folder_that_is_not_there_cannot_take_the_page(tmp_path: Path) -> None:
    done = ask("report", fill(tmp_path / "mine", everything((0,))), "--out", tmp_path / "no" / "page.html")
    assert (done.exit_code, "cannot be written" in done.output) == (2, True)


def test_the_leaderboard_writes_the_page_of_what_is_published(tmp_path: Path) -> None:
    board = tmp_path / "board"
    (board / "records").mkdir(parents=True)
    (board / "records" / "paper.jsonl").write_bytes((ROOT / "leaderboard" / "records" / "paper.jsonl").read_bytes())
    invoke("leaderboard", "publish", "--to", board, "--page", tmp_path / "page.html")
    invoke(
        "report", board / "records" / "paper.jsonl", "--out", tmp_path / "same.html", "--certificates", board / "none"
    )
    assert (tmp_path / "page.html").read_bytes() == (tmp_path / "same.html").read_bytes()
