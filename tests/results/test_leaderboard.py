"""The leaderboard: its page is what its records say, and no file gets among them that should not."""

from __future__ import annotations

import copy
import json
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from agrbench.cells import Cell
from agrbench.cli import main
from agrbench.errors import AgrbenchError
from agrbench.plugins.registry import Registry
from agrbench.results.leaderboard import page as leaderboard
from agrbench.results.leaderboard import publish
from agrbench.results.record import Record, failed, skipped
from agrbench.results.store import Store, collect, place, read, write_packed
from agrbench.simulation import suites
from tests.helpers import plugins
from tests.helpers.project import ROOT
from tests.helpers.records import fill, finished

BOARD = ROOT / "leaderboard"
REGISTRY = Registry()
ATTACKS = ("none", "lie", "scaling")
PERCENT = {"fedavg": (90, 40, 70), "krum": (85, 80, 82), "median": (88, 86, 60)}


def made(defense: str, attack: str, seed: int = 0, registry: Registry = REGISTRY) -> Record:
    level = PERCENT.get(defense, (80, 80, 80))[ATTACKS.index(attack)] / 100
    return finished(
        Cell("digits", defense, attack, seed, clients=20, rounds=25),
        [0.1, level, level, level],
        rounds=[0, 10, 20, 25],
        registry=registry,
        loss=[2.3, 1.5, 1.0, 0.5],
        training={"rate": 0.5, "parameters": 650},
        time={"server_s": 0.002 if defense == "krum" else 0.001, "round_s": 0.5, "alone": True},
        environment={
            "agrbench": "0.1.0", "torch": "2.13.0", "numpy": "2.0", "python": "3.11", "cpu": "some processor",
            "threads": 1, "device": "cpu",
        },
    )  # fmt: skip


def everything() -> list[Record]:
    return [made(defense, attack) for defense in PERCENT for attack in ATTACKS]


@pytest.fixture
def board(tmp_path: Path) -> Path:
    (tmp_path / "leaderboard" / "records").mkdir(parents=True)
    return tmp_path / "leaderboard"


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return fill(tmp_path / "mine", everything())


def published(folder: Path | None, board: Path, *more: object) -> Result:
    words = [] if folder is None else [str(folder)]
    return CliRunner().invoke(main, ["leaderboard", "publish", *words, "--to", str(board), *map(str, more)])


def copies(board: Path, *where: str) -> list[Record]:
    """Return the published records, of one defense and attack if they are named."""
    found = [record for _, record in collect([board / "records" / "mine.jsonl"])]
    return [each for each in found if not where or (each["cell"]["defense"], each["cell"]["attack"]) == where]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# What is committed


def test_the_committed_page_is_what_the_committed_records_say() -> None:
    """To refresh it: `agrbench leaderboard publish`."""
    assert (BOARD / leaderboard.PAGE).read_text(encoding="utf-8") == leaderboard.page(
        BOARD, REGISTRY, suites.demanded(REGISTRY)
    )


def test_breaking_points_are_those_that_the_command_prints() -> None:
    shown = re.findall(r"^(\S+) +(\d+/\d+|> \d+/\d+)", (BOARD / "breaking.md").read_text(), re.MULTILINE)
    (points,) = leaderboard.breaking_points(BOARD / "records" / "breaking.jsonl", REGISTRY).values()
    assert len(shown) > 1
    assert points == dict(shown)


# What is published


def test_records_are_copied_whole_and_the_page_shows_them(mine: Path, board: Path) -> None:
    done = published(mine, board)
    assert done.exit_code == 0, done.output
    assert "9 records copied, 0 there already, 0 refused" in done.output
    assert [record for _, record in collect([board / "records" / "mine.jsonl"])] == [
        record for _, record in collect([mine])
    ]
    page = (board / "README.md").read_text()
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if "`" in line[:20]]
    ranked = [line for line in lines if len(line) == len(leaderboard.HEADERS)]
    # Accuracy without attack and defense is 90: krum loses 10 at worst, median 30 to scaling, fedavg 50 to lie.
    assert ranked == [
        ["—", "`krum`", "10.0", "`lie`", "—", "5.0", "2.0", "—"],
        ["—", "`median`", "30.0", "`scaling`", "—", "2.0", "1.0", "—"],
        ["—", "`fedavg`", "50.0", "`lie`", "—", "0.0", "1.0", "—"],
    ]
    assert "One seed (0): no interval, and nothing is ranked." in page


def test_defenses_of_two_seeds_are_ranked_by_their_worst_loss(mine: Path, board: Path) -> None:
    fill(mine, [made(defense, attack, 1) for defense in PERCENT for attack in ATTACKS])
    published(mine, board)
    page = (board / "README.md").read_text()
    assert re.findall(r"^\| (\d+|—) +\| `(\w+)` +\| (\S+)", page, re.MULTILINE) == [
        ("1", "krum", "10.0"), ("2", "median", "30.0"), ("—", "fedavg", "50.0"),
    ]  # fmt: skip


def test_publishing_again_changes_nothing(mine: Path, board: Path) -> None:
    published(mine, board)
    before = files(board)
    for folder in (mine, board / "records" / "mine.jsonl", None):
        done = published(folder, board)
        assert done.exit_code == 0
        assert files(board) == before
        assert folder is None or "0 records copied, 9 there already" in done.output


def test_records_join_a_folder_that_is_named(mine: Path, board: Path) -> None:
    published(mine, board, "--as", "demo")
    published(fill(mine.parent / "other", [made("cosden", attack) for attack in ATTACKS]), board, "--as", "demo")
    page = (board / "README.md").read_text()
    assert page.count("## demo") == page.count("| `cosden`") == page.count("| `krum`") == 1


def test_what_is_incomplete_is_named_with_its_reason_and_not_ranked(mine: Path, board: Path) -> None:
    other = Cell("digits", "bulyan", "lie", 0, clients=20, rounds=25)
    fill(mine, [skipped(other, REGISTRY, "bulyan requires more clients"), made("cosden", "lie")])
    assert published(mine, board).exit_code == 0
    page = (board / "README.md").read_text()
    said = "bulyan requires 4 * f + 3 <= n, and here n=20, f=6"  # which the plugin says, whatever the record does
    assert f"Not ranked: `bulyan`: skipped: {said}." in page
    assert "Not ranked: `cosden`: records are missing." in page


def test_a_plugin_of_an_author_counts_where_its_file_is_given(mine: Path, board: Path) -> None:
    file = plugins.write(
        mine.parent,
        "nearest",
        """
        from agrbench.defenses import fedavg

        defense = fedavg.defense
        """,
    )
    registry = Registry([file])
    fill(mine, [made("nearest", attack, registry=registry) for attack in ATTACKS])
    refused = published(mine, board)
    assert refused.exit_code == 1
    assert "9 records copied, 0 there already, 3 refused" in refused.output
    assert "write --plugin FILE" in refused.output
    assert "`nearest`" not in (board / "README.md").read_text()
    assert published(mine, board, "--plugin", file).exit_code == 0
    assert "| `nearest`" in (board / "README.md").read_text()


def test_what_a_record_says_beyond_its_fields_stays_behind(mine: Path, board: Path) -> None:
    record = made("krum", "none") | {"advertisement": "x" * 1000}
    published(fill(mine, [record]), board)
    (record,) = copies(board, "krum", "none")
    assert record == made("krum", "none")


# What is refused


def edited(record: Record, path: str, value: object) -> Record:
    """Put a value at a place of a record such as `environment.cpu`; `...` takes the place away."""
    record = copy.deepcopy(record)
    *above, last = path.split(".")
    holder: Any = record
    for name in above:
        holder = holder[name]
    if value is ...:
        del holder[last]
    else:
        holder[last] = value
    return record


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("protocol", 0, "computed under protocol 0"),
        ("source.defense", "0" * 64, "made by other plugin files"),
        ("source.attack", ..., "made by other plugin files"),
        ("training", None, "lacks the learning rate"),
        ("training", {"rate": -1, "parameters": 3}, "lacks the learning rate"),
        ("training.rate", "fast", "lacks the learning rate"),
        ("environment", {}, "environment lacks agrbench, torch"),
        ("environment.cpu", "x" * 1000, "environment lacks cpu"),
        ("environment.cpu", "\x1b[2J", "environment lacks cpu"),
        ("environment.note", "hello", "says more"),
        ("rounds", [0, 1, 2, 25], "not measured in every 10th of its 25 rounds"),
        ("rounds", [25, 20, 10, 0], "not measured in every 10th of its 25 rounds"),
        ("schema", 99, "upgrade agrbench"),
        ("accuracy", [0.1, 0.2, 0.3, 7.0], "no share from 0 to 1"),
        ("accuracy", [0.1, 0.2, 0.3, math.nan], "accuracy holds more than numbers"),
        ("accuracy", [0.1, 0.2, 0.3, 10**400], "accuracy holds more than numbers"),
        ("accuracy", "high", "accuracy"),
        ("cell.settings.clients", 20.0, "clients is 20.0"),
        ("cell.defense", "../../../../etc/cron.d/x", "do not rename or edit records"),
        ("cell", [], "not a complete record"),
    ],
)
def test_a_record_that_is_not_whole_is_refused_by_name_and_the_others_published(
    path: str, value: object, said: str, mine: Path, board: Path
) -> None:
    place = Store(mine).path(Cell.from_json(made("krum", "lie")["cell"]))
    place.write_text(json.dumps(edited(made("krum", "lie"), path, value)))
    done = published(mine, board)
    assert done.exit_code == 1, done.output
    assert "8 records copied, 0 there already, 1 refused" in done.output
    assert f"Refused: {place}: " in done.stderr
    assert said in done.stderr
    assert len(copies(board)) == 8
    assert {str(path.relative_to(board.parent)).split("/")[0] for path in board.parent.rglob("*")} == {
        "mine", "leaderboard",
    }  # fmt: skip


@pytest.mark.parametrize("spec", ["krum(power=2)", "amp(kernel=2)+krum", "kurm", "krum(colour=3)", "../krum", "amp"])
def test_a_spec_that_is_not_in_its_one_form_or_names_nothing_is_refused(spec: str, mine: Path, board: Path) -> None:
    cell = Cell("digits", spec, "none", 0, clients=20, rounds=25)
    fill(mine, [made("krum", "none") | {"cell": cell.as_json()}])
    done = published(mine, board)
    assert done.exit_code == 1
    assert "9 records copied, 0 there already, 1 refused" in done.output
    assert files(board.parent).keys() == {f"mine/{name}" for name in files(mine)} | {
        f"leaderboard/{name}" for name in files(board)
    }


def test_a_failed_run_is_refused_and_a_skipped_one_is_kept_if_the_plugins_would_skip_it(
    mine: Path, board: Path
) -> None:
    cells = [Cell("digits", name, "lie", 1, clients=20, rounds=25) for name in ("krum", "median", "bulyan")]
    fill(mine, [failed(cells[0], REGISTRY, "out of memory")])
    fill(mine, [skipped(cell, REGISTRY, "not defined") for cell in cells[1:]])
    done = published(mine, board)
    assert "10 records copied, 0 there already, 2 refused" in done.output
    assert "the run failed (out of memory)" in done.stderr
    assert "skipped, but its plugins are defined for this cell" in done.stderr
    assert not copies(board, "median", "lie")[1:]
    assert copies(board, "bulyan", "lie")[0]["reason"].startswith("bulyan requires 4 * f + 3 <= n")


def truncate(folder: Path) -> None:
    path = next((folder / "digits" / "krum" / "lie").iterdir())
    path.write_bytes(path.read_bytes()[:100])


HOSTILE: dict[str, Callable[[Path], object]] = {
    "truncated": truncate,
    "foreign": lambda folder: (folder / "package.json").write_text("{}"),
    "deep": lambda folder: (folder / "deep.json").write_text("[" * 100_000),
    "a picture": lambda folder: (folder / "picture.json").write_bytes(b"\x89PNG\r\n\xff"),
    "a pipe": lambda folder: os.mkfifo(folder / "pipe.json"),
    "an endless link": lambda folder: (folder / "zero.json").symlink_to("/dev/zero"),
    "a link in a circle": lambda folder: (folder / "loop.json").symlink_to(folder / "loop.json"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_file_that_is_no_record_is_refused_and_nothing_else_lost(kind: str, mine: Path, board: Path) -> None:
    HOSTILE[kind](mine)
    whole = sum(path.is_file() and path.parent.name in ATTACKS for path in mine.rglob("*.json")) - (kind == "truncated")
    done = published(mine, board)
    assert done.exit_code == 1, done.output
    assert f"{whole} records copied, 0 there already, 1 refused" in done.output
    assert "README.md" in files(board)


def test_a_record_that_differs_never_takes_the_place_of_another(mine: Path, board: Path) -> None:
    published(mine, board)
    before = files(board)
    fill(mine, [edited(made("krum", "lie"), "accuracy", [0.1, 0.99, 0.99, 0.99])])
    done = published(mine, board)
    assert done.exit_code == 1
    assert "is the same cell with another result; remove one of them" in done.stderr
    assert files(board) == before


def test_a_stale_record_gives_its_place_up_and_it_is_said(mine: Path, board: Path) -> None:
    old = edited(edited(made("krum", "lie"), "accuracy", [0.1, 0.2, 0.2, 0.2]), "source.defense", "0" * 64)
    write_packed(board / "records" / "mine.jsonl", [old])
    done = published(mine, board)
    assert done.exit_code == 0
    assert "Replaced, its plugin files have changed since: " in done.stderr
    assert read(board / "records" / "mine.jsonl" / place(Cell.from_json(old["cell"]))) == made("krum", "lie")


def test_times_of_another_run_leave_the_record_that_is_there(mine: Path, board: Path) -> None:
    published(mine, board)
    before = files(board)
    fill(mine, [edited(made("krum", "lie"), "time.server_s", 9.0)])
    assert published(mine, board).exit_code == 0
    assert files(board) == before


@pytest.mark.parametrize(("accuracy", "code"), [(0.81, 0), (0.9, 1)])
def test_what_another_processor_computed_is_kept_out_quietly_only_if_it_is_nearly_the_same(
    accuracy: float, code: int, mine: Path, board: Path
) -> None:
    published(mine, board)
    before = files(board)
    other = edited(made("krum", "lie"), "accuracy", [0.1, accuracy, accuracy, accuracy])
    fill(mine, [edited(other, "environment.cpu", "another processor")])
    assert published(mine, board).exit_code == code
    assert files(board) == before
    fill(mine, [other])  # on the same processor the same code repeats bit for bit
    assert published(mine, board).exit_code == 1
    assert files(board) == before


@pytest.mark.parametrize("target", ["outside", "absent"])
def test_a_link_in_the_leaderboard_leads_nowhere(target: str, mine: Path, board: Path) -> None:
    outside = board.parent / "outside"
    outside.write_text("")
    (board / "records" / "mine.jsonl").symlink_to(board.parent / target)
    done = published(mine, board)
    assert done.exit_code == 2
    assert "lead out of the leaderboard" in done.stderr
    assert outside.read_text() == ""
    assert not (board.parent / "absent").exists()


# Where it is


@pytest.mark.parametrize("name", ["..", ".", "../x", "/tmp/x", "a/b", "", "-x", ".hidden", "a b"])
def test_a_name_that_is_no_folder_of_its_own_is_refused(name: str, mine: Path, board: Path) -> None:
    with pytest.raises(AgrbenchError, match="cannot name a file"):
        publish.publish(mine, board, name, REGISTRY)
    assert files(board) == {}


def test_without_a_leaderboard_it_says_where_to_run(mine: Path) -> None:
    done = published(mine, mine.parent / "absent")
    assert done.exit_code == 2
    assert "run this in a checkout of agrbench, or name the folder: --to PATH" in done.output


def test_the_leaderboard_is_not_published_into_itself(mine: Path, board: Path) -> None:
    published(mine, board)
    for folder in (board, board / "records", board.parent):
        assert published(folder, board).exit_code == 2


def test_a_folder_that_is_not_there_is_named(board: Path) -> None:
    done = published(board / "absent", board)
    assert done.exit_code == 2
    assert "no such folder" in done.output


# Certificates


def test_certificates_are_found_by_plugin_and_joined_for_a_stack(tmp_path: Path, mine: Path, board: Path) -> None:
    known = [
        {"plugin": "krum", "holds": ["shape", "finite", "hull"], "waives": {}},
        {"plugin": "amp", "holds": ["shape"], "waives": {"restored": "why; not so", "hull": "it is `a | b`"}},
        {"plugin": "femnist", "holds": [], "waives": {}},
    ]
    (board / "certificates.json").write_text(json.dumps(known))
    certified = leaderboard.certificates(board / "certificates.json")
    assert certified == {"krum": "3 hold", "amp": "1 hold, 2 waived", "femnist": "—"}
    assert leaderboard.certificates(tmp_path / "absent.json") == {}
    published(mine, board)
    assert re.search(r"\| `krum` .* 3 hold +\|$", (board / "README.md").read_text(), re.MULTILINE)
