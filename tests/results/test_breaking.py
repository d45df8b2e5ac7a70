"""Breaking points: the bisection for any truth, what breaks, what is run, and the command as a person meets it."""

from __future__ import annotations

import contextlib
import json
import math
import statistics
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import example, given
from hypothesis import strategies as st

from agrbench.cells import Cell
from agrbench.cli import execute, main
from agrbench.errors import AgrbenchError, Inapplicable
from agrbench.plugins.registry import Registry
from agrbench.results import breaking
from agrbench.results.breaking import Level, Search
from agrbench.results.formats import Entry
from agrbench.results.record import Record, blank, failed
from agrbench.results.statistics import Sample
from agrbench.results.store import Store
from agrbench.results.tables.breaking import table
from agrbench.simulation import suites
from agrbench.simulation.grid import Plan
from tests.cli.test_grid import agrbench, interrupt, plugin, records
from tests.results.test_tables import headers, row

REGISTRY = Registry()
HOLDS, BREAKS = Level("lie", Sample((0,), (0.0,))), Level("lie", Sample((0,), (40.0,)))


def settings(clients: int = 20) -> Cell:
    return Cell("digits", "fedavg", "none", clients=clients, rounds=20, start=10)


def begin(
    defense: str, attacks: Sequence[str] = ("lie", "min_max"), seeds: int = 2, clients: int = 20, **change: Any
) -> Search:
    found = breaking.searches(settings(clients), [defense], attacks, seeds, change.get("registry", REGISTRY))
    (search,) = [each for each in found if each.cell.defense == defense]
    return search


def search_over(limit: int, clients: int) -> Search:
    return Search(settings(clients), ("lie",), 1, limit, "", {})


# The bisection


def bisected(search: Search, breaks: Callable[[int], bool]) -> list[int]:
    """Fill in the levels that a search asks for, by the truth, and list what it asked."""
    asked: list[int] = []
    while (wanted := search.next) is not None:
        assert 0 <= wanted <= search.limit
        assert wanted not in asked
        asked.append(wanted)
        search.levels[wanted] = BREAKS if breaks(wanted) else HOLDS
    # A bisection of limit + 2 places, between -1 (taken to hold) and limit + 1 (taken to break).
    assert len(asked) <= math.ceil(math.log2(search.limit + 2))
    return asked


@given(data=st.data(), clients=st.integers(1, 300))
def test_a_threshold_is_found_whatever_it_is(data: st.DataObject, clients: int) -> None:
    limit = data.draw(st.integers(0, clients // 2))
    threshold = data.draw(st.integers(0, limit + 1))
    search = search_over(limit, clients)
    bisected(search, lambda count: count >= threshold)
    assert search.broken == (threshold if threshold <= limit else None)
    assert search.held == (threshold - 1 if threshold > 0 else None)
    decisive = search.decisive
    assert decisive is search.levels[threshold if threshold <= limit else limit]


@given(truth=st.lists(st.booleans(), min_size=1, max_size=60))
@example(truth=[False, True, False, True, False])
@example(truth=[True, False, True, False])
def test_without_a_threshold_it_still_ends_between_one_that_holds_and_the_next_that_breaks(truth: list[bool]) -> None:
    search = search_over(len(truth) - 1, 2 * len(truth))
    asked = bisected(search, truth.__getitem__)
    if search.broken is None:
        assert search.held == search.limit
    else:
        assert truth[search.broken]
        assert search.broken in asked
        assert (-1 if search.held is None else search.held) + 1 == search.broken
    if search.held is not None:
        assert not truth[search.held]
        assert search.held in asked


@given(truth=st.lists(st.booleans(), min_size=1, max_size=30), data=st.data())
def test_next_is_the_floor_of_the_middle_whatever_was_measured_before(truth: list[bool], data: st.DataObject) -> None:
    limit = len(truth) - 1
    measured = data.draw(st.sets(st.integers(0, limit)))
    search = search_over(limit, 2 * len(truth))
    search.levels.update({count: BREAKS if truth[count] else HOLDS for count in sorted(measured, reverse=True)})
    high = min((count for count in measured if truth[count]), default=limit + 1)
    low = max((count for count in measured if not truth[count] and count < high), default=-1)
    assert search.next == (None if low + 1 == high else (low + high) // 2)
    assert search.broken == (None if high > limit else high)
    assert search.held == (None if low < 0 else low)


@pytest.mark.parametrize(
    ("limit", "truth", "asked"),
    [
        (10, lambda count: count >= 3, [5, 2, 3]),
        (10, lambda count: False, [5, 8, 9, 10]),
        (10, lambda count: True, [5, 2, 0]),
        (8, lambda count: count >= 8, [4, 6, 7, 8]),
        (0, lambda count: False, [0]),
    ],
)
def test_the_numbers_asked_for_are_those_one_works_out_by_hand(
    limit: int, truth: Callable[[int], bool], asked: list[int]
) -> None:
    """Between -1 and 11: 5; between -1 and 5: 2; between 2 and 5: 3. And between 5 and 11: 8, then 9, then 10."""
    assert bisected(search_over(limit, 20), truth) == asked


# What breaks


@pytest.mark.parametrize(
    ("values", "breaks"),
    [
        ((10.0,), True),
        ((math.nextafter(10, 0) - 1e-3,), False),
        ((5.0, 15.0), True),
        ((9.0, 10.0, 10.5), False),
        ((0.0, 0.0, 30.0), True),
        ((-50.0,), False),
    ],
)
def test_ten_points_in_the_mean_over_seeds_break(values: tuple[float, ...], breaks: bool) -> None:
    assert Level("lie", Sample(tuple(range(len(values))), values)).breaks == breaks


def record(cell: Cell, percent: float) -> Record:
    return blank(cell, REGISTRY) | {
        "rounds": [0, 10, 20], "accuracy": [0.1, percent / 100, percent / 100], "loss": [1.0] * 3, "classes": 10,
        "trust": {rate: [None] * 3 for rate in ("malicious_share", "precision", "recall")},
    }  # fmt: skip


Accuracies = Mapping[tuple[str, str], Sequence[float]]
KRUM: Accuracies = {  # percent, a number a seed
    ("fedavg", "none"): (90, 80),
    ("krum", "none"): (87, 79),
    ("krum", "lie"): (70, 80),
    ("krum", "min_max"): (84, 64),
}


def written(search: Search, malicious: int, accuracies: Accuracies, folder: Path) -> Store:
    store = Store(folder)
    for cell in search.cells(malicious):
        store.write(record(cell, accuracies[cell.defense, cell.attack][cell.seed]))
    return store


def test_a_level_is_the_attack_of_the_largest_mean_loss_in_points(tmp_path: Path) -> None:
    search = begin("krum")
    assert search.measure(4, written(search, 4, KRUM, tmp_path))
    level = search.levels[4]
    # By seed lie costs 20 and 0, min_max 6 and 16: 10 and 11 in the mean.
    assert level.attack == "min_max"
    assert level.loss.seeds == (0, 1)
    assert level.loss.values == pytest.approx((6, 16), abs=1e-11)  # two-digit decimals, averaged and subtracted
    assert level.breaks


def test_with_nobody_malicious_what_the_defense_costs_without_attack_counts(tmp_path: Path) -> None:
    search = begin("krum")
    assert search.measure(0, written(search, 0, KRUM, tmp_path))
    assert search.levels[0].attack == "none"
    assert search.levels[0].loss.values == pytest.approx((3, 1), abs=1e-11)  # as above
    assert not search.levels[0].breaks
    costly = begin("krum")
    assert costly.measure(0, written(costly, 0, {**KRUM, ("krum", "none"): (70, 80)}, tmp_path))
    assert costly.levels[0].breaks


@pytest.mark.parametrize("of", [100, 360, 1000])
def test_ten_points_break_whatever_the_rounding_of_the_accuracies(of: int, tmp_path: Path) -> None:
    """0.9 less 0.8 is below 0.1 in binary: ten points on paper must be ten points."""
    search = begin("krum", ["lie"], seeds=1)
    held = []
    for right in range(of // 10, of + 1, of // 20 - 1):
        store = Store(tmp_path)
        for cell in search.cells(3):
            share = right / of if cell.attack == "none" else (right - of // 10) / of
            store.write(record(cell, 0) | {"accuracy": [0.1, share, share]})
        assert search.measure(3, store)
        if not search.levels[3].breaks:
            held.append(right)
    assert held == []


@pytest.mark.parametrize("malicious", [0, 3])
@pytest.mark.parametrize("how", ["missing", "failed"])
def test_where_a_record_is_missing_or_failed_nothing_is_measured(malicious: int, how: str, tmp_path: Path) -> None:
    search = begin("krum")
    store = written(search, malicious, KRUM, tmp_path)
    for cell in search.cells(malicious):
        before = store.read(cell)
        assert before is not None
        store.path(cell).unlink()
        if how == "failed":
            store.write(failed(cell, REGISTRY, "out of memory"))
        assert not search.measure(malicious, store)
        assert malicious not in search.levels
        store.write(before)
    assert search.measure(malicious, store)


def test_records_of_other_numbers_of_malicious_clients_do_not_count(tmp_path: Path) -> None:
    search = begin("krum")
    store = written(search, 3, KRUM, tmp_path)
    assert not any(search.measure(other, store) for other in (0, 1, 2, 4, 8))
    assert not search.levels


# What is run


@pytest.mark.parametrize("malicious", [0, 1, 6, 8])
@pytest.mark.parametrize("defense", ["fedavg", "krum", "amp+median"])
def test_the_runs_are_the_attacks_on_the_defense_and_the_reference_under_a_bound_that_is_right(
    defense: str, malicious: int
) -> None:
    cells = list(begin(defense).cells(malicious))
    under = ("lie", "min_max") if malicious else ("none",)
    wanted = {
        Cell("digits", name, attack, seed, clients=20, rounds=20, start=10, malicious=malicious)
        for seed in (0, 1)
        for name, attack in (("fedavg", "none"), *((defense, attack) for attack in under))
    }
    assert {cell.key for cell in cells} == {cell.key for cell in wanted}
    assert {cell.attackers for cell in cells} == {cell.bound for cell in cells} == {malicious}


RULES = ("fedavg", "krum", "bulyan", "median", "amp+cosden", "bucketing+krum", "nnm+trimmed_mean", "smea", "mda")


def legal(defense: str, clients: int, bound: int, registry: Registry = REGISTRY) -> bool:
    try:
        registry.stack(defense).check(clients, bound)
    except Inapplicable:
        return False
    return True


@given(defense=st.sampled_from(RULES), clients=st.integers(1, 60))
@example(defense="krum", clients=20)
@example(defense="krum", clients=2)
def test_the_limit_is_half_of_the_clients_or_the_last_number_the_rule_is_defined_for(
    defense: str, clients: int
) -> None:
    if not legal(defense, clients, 0):
        with pytest.raises(AgrbenchError):
            begin(defense, clients=clients)
        return
    limit = begin(defense, clients=clients).limit
    assert limit <= clients // 2
    assert all(legal(defense, clients, bound) for bound in range(limit + 1))
    assert limit == clients // 2 or not legal(defense, clients, limit + 1)


def test_a_rule_with_a_gap_is_searched_below_the_gap_only(tmp_path: Path) -> None:
    path = plugin(
        tmp_path, "gap", "defense = Defense(lambda round: torch.ones(2), requires=lambda n, f: f != 2, amplifier=None)"
    )
    search = begin("gap", registry=Registry([path]))
    assert search.limit == 1
    assert "f != 2" in search.limited_by


def test_the_baseline_comes_first_and_once() -> None:
    for given_names in (["krum", "amp+krum"], ["krum", "fedavg", "amp+krum"]):
        found = breaking.searches(settings(), given_names, ["lie"], 1, REGISTRY)
        assert [each.cell.defense for each in found] == ["fedavg", "krum", "amp+krum"]


def test_an_attack_that_a_defense_refuses_is_left_out_for_it_alone_and_named() -> None:
    found = breaking.searches(settings(), ["fedinv"], ["adaptive", "lie"], 1, REGISTRY)
    baseline, refusing = found
    assert {cell.attack for cell in baseline.cells(3)} == {"none", "adaptive", "lie"}
    assert {cell.attack for cell in refusing.cells(3)} == {"none", "lie"}
    assert list(refusing.left_out) == ["adaptive"]
    assert not baseline.left_out
    for search in found:
        bisected(search, lambda count: count > 3)
    (note,) = [note for note in table(found).notes if "does not rehearse" in note or "left out" in note.lower()]
    assert "adaptive" in note
    assert "fedinv" in note


# Several searches side by side


def test_searches_go_on_until_each_is_done_and_one_that_fails_stops_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    thresholds = {"fedavg": 3, "krum": 99, "median": 0, "mda": 5}
    computed: list[Cell] = []

    def pretend(plan: Plan, registry: Registry, store: Store, *_: Any) -> list[Record]:
        """Write records that lose 40 points from the threshold on; mda fails wherever somebody is malicious."""
        computed.extend(plan.waiting)
        made = []
        for cell in plan.waiting:
            lost = 40 if cell.attackers >= thresholds[cell.defense] else 0
            fails = cell.defense == "mda" and cell.attackers > 0
            reference = (cell.defense, cell.attack) == ("fedavg", "none")
            made.append(failed(cell, registry, "a fuse") if fails else record(cell, 90 - (0 if reference else lost)))
            store.write(made[-1])
        return [each for each in made if each["status"] == "failed"]

    monkeypatch.setattr(execute, "compute", pretend)
    found = breaking.searches(settings(), [name for name in thresholds if name != "fedavg"], ["lie"], 2, REGISTRY)
    failures = execute.search(found, REGISTRY, Store(tmp_path), 1, True)
    assert {search.cell.defense: (search.held, search.broken) for search in found} == {
        "fedavg": (2, 3), "krum": (8, None), "median": (None, 0), "mda": (None, None),
    }  # fmt: skip
    assert [search.next is None for search in found] == [True, True, True, False]
    assert len(set(computed)) == len(computed), "what is there is not computed again"
    assert {(failure["cell"]["defense"], failure["cell"]["seed"]) for failure in failures} == {("mda", 0), ("mda", 1)}
    assert len(failures) == 2
    again = breaking.searches(settings(), ["krum", "median"], ["lie"], 2, REGISTRY)
    before = len(computed)
    assert execute.search(again, REGISTRY, Store(tmp_path), 1, True) == []
    assert len(computed) == before


# The table


def filled(defense: str, threshold: int, clients: int = 20) -> Search:
    search = begin(defense, seeds=1, clients=clients)
    bisected(search, lambda count: count >= threshold)
    return search


def entries(search: Search) -> dict[str, Entry]:
    return row(table([search]), search.cell.defense)


@pytest.mark.parametrize(
    ("defense", "threshold", "breaks", "holds"),
    [
        ("fedavg", 3, "3/20 (15%)", "2/20"),
        ("krum", 0, "0/20 (0%)", "-"),
        ("krum", 8, "8/20 (40%)", "7/20"),
        ("krum", 9, "> 8/20, legal limit", "8/20"),
        ("fedavg", 10, "10/20 (50%)", "9/20"),
        ("fedavg", 11, "> 10/20, half", "10/20"),
    ],
)
def test_a_row_says_what_breaks_and_what_holds(defense: str, threshold: int, breaks: str, holds: str) -> None:
    search = filled(defense, threshold)
    shown = entries(search)
    assert " ".join(shown["breaks at"].lines) == breaks
    assert " ".join(shown["holds at"].lines) == holds
    said = "krum requires 2 * f + 2 < n" in " ".join(table([search]).notes)
    assert said == ("legal limit" in breaks)


@pytest.mark.parametrize(("defense", "clients"), [("fedavg", 20), ("fedavg", 9), ("krum", 20), ("median", 50)])
def test_a_bar_has_20_letters_for_a_half_and_a_mark_where_it_breaks_or_ends(defense: str, clients: int) -> None:
    limit = begin(defense, clients=clients).limit
    marks = []
    for threshold in range(limit + 2):
        (bar,) = entries(filled(defense, threshold, clients))[headers(table([filled("krum", 3)]))[-1]].lines
        assert len(bar) == 20
        mark, other = ("|", ">") if threshold <= limit else (">", "|")
        assert bar.count(mark) == 1
        assert other not in bar
        # A letter is 1/40 of the clients: the mark is within a letter of the share.
        assert abs(bar.index(mark) + 0.5 - 40 * min(threshold, limit) / clients) <= 1
        marks.append(bar.index(mark))
    assert marks == sorted(marks)


def test_the_row_has_the_worst_attack_there_with_its_loss_and_interval(tmp_path: Path) -> None:
    search, store = begin("krum"), Store(tmp_path)
    for count in (4, 1, 0):  # the middle of -1 and 9, of -1 and 4, of -1 and 1
        written(search, count, KRUM, tmp_path)
    while (wanted := search.next) is not None:
        assert search.measure(wanted, store)
    made = table([search])
    (each,) = made.data
    # Fidelity costs 3 and 1, the worst attack 6 and 16: anybody malicious breaks it, nobody does not.
    assert (each["broken"], each["held"], each["limit"], each["complete"]) == (1, 0, 8, True)
    assert each["attack"] == "min_max"
    assert each["loss"] == pytest.approx(11, abs=1e-11)
    shown = " ".join(text for entry in row(made, "krum").values() for text in entry.lines)
    # t(0.975, 1 df) = 12.706 and the standard error is 5: 11 -+ 63.5.
    assert "min_max 11.0 [-52.5, 74.5]" in shown
    assert json.loads(json.dumps(each)) == each


def test_what_was_not_measured_is_unknown() -> None:
    search = begin("krum", seeds=1)
    search.levels[search.limit // 2] = HOLDS
    made = table([filled("fedavg", 3), search])
    assert "unknown: runs failed" in " ".join(row(made, "krum")["breaks at"].lines)
    assert [each["complete"] for each in made.data] == [True, False]


def test_no_run_is_said_to_have_failed_where_none_was_to_be_done() -> None:
    """The one attack never meets the defense: that is said, or refused, before anything is computed."""
    with contextlib.suppress(AgrbenchError):
        found = breaking.searches(settings(), ["fedinv"], ["adaptive"], 1, REGISTRY)
        bisected(found[0], lambda count: count > 3)
        assert "runs failed" not in " ".join(row(table(found), "fedinv")["breaks at"].lines)


def test_the_limit_of_two_forms_of_one_rule_is_explained_once() -> None:
    notes = table([filled("median", 11), filled("amp+median", 11)]).notes
    assert any("median requires" in note for note in notes)
    assert len(set(notes)) == len(notes)


# The command

SMALL = ("--clients", "6", "--seeds", "1", "--jobs", "1")
WHOLE = ("-D", "digits", "-d", "median", "-a", "gaussian", "-a", "zero", *SMALL, "--rounds", "20", "--start", "10")


Whole = tuple[Path, subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    """Search for the breaking points of the median under two attacks, once for all tests that read the result."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "200")  # so that no table is cut
        yield folder, agrbench("breaking-point", *WHOLE, "--out", "records", cwd=folder)


def invoke(*words: str | Path, ok: int = 0) -> str:
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exit_code == ok, done.output
    return done.stdout


def defenses_of(told: str) -> list[str]:
    """List the first words of the rows between the line below the headers and the notes."""
    body = told.split("\n\n")[1].splitlines()
    (ruled,) = [place for place, line in enumerate(body) if line.startswith("---")]
    return [line.split()[0] for line in body[ruled + 1 :]]


def again(folder: Path, *words: str) -> str:
    """Run the same search with more words, which must find all that it needs."""
    before = {path: (path.stat().st_mtime_ns, path.read_text()) for path in folder.rglob("*.json")}
    told = invoke("breaking-point", *WHOLE, "--out", folder / "records", *words)
    assert before == {path: (path.stat().st_mtime_ns, path.read_text()) for path in folder.rglob("*.json")}
    return told


def test_the_table_is_alone_on_stdout_and_progress_on_stderr(whole: Whole) -> None:
    _, done = whole
    assert done.stdout.startswith("Breaking points: digits, 6 clients")
    assert defenses_of(done.stdout) == ["fedavg", "median", "amp+median"]
    assert "records" not in done.stdout
    assert done.stderr.strip()
    assert "fedavg  " not in done.stderr


def test_the_same_search_again_computes_nothing_and_prints_the_same(whole: Whole) -> None:
    folder, done = whole
    assert again(folder) == done.stdout
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.json")}
    quiet = agrbench("breaking-point", *WHOLE, "--out", "records", "-q", cwd=folder)
    assert quiet.stdout == done.stdout
    assert quiet.stderr == ""
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*.json")}


def test_every_number_is_what_the_records_say(whole: Whole) -> None:
    folder, _ = whole
    accuracy: dict[tuple[int, str, str], float] = {}
    for found in records(folder / "records").values():
        cell = Cell.from_json(found["cell"])
        assert cell.attackers == cell.bound <= 3
        assert found["rounds"] == [0, 10, 20]
        accuracy[cell.attackers, cell.defense, cell.attack] = statistics.fmean(found["accuracy"][1:])
    rows = json.loads(again(folder, "--format", "json"))
    assert [(each["defense"], each["limit"]) for each in rows] == [("fedavg", 3), ("median", 2), ("amp+median", 2)]
    used = set()
    for each in rows:
        worst: dict[int, tuple[float, str]] = {}
        low, high = -1, each["limit"] + 1
        while high - low > 1:
            count = (low + high) // 2
            under = ("gaussian", "zero") if count else ("none",)
            used |= {(count, "fedavg", "none"), *((count, each["defense"], attack) for attack in under)}
            worst[count] = max(
                (100 * (accuracy[count, "fedavg", "none"] - accuracy[count, each["defense"], attack]), attack)
                for attack in under
            )
            low, high = (low, count) if worst[count][0] >= 10 else (count, high)
        assert each["broken"] == (high if high <= each["limit"] else None)
        assert each["held"] == (low if low >= 0 else None)
        assert each["complete"]
        assert each["attack"] == worst[high if high in worst else low][1]
        # Means and differences of a few numbers below 100, taken in another order.
        assert each["loss"] == pytest.approx(worst[high if high in worst else low][0], abs=1e-9)
        assert {level["malicious"] for level in each["levels"]} == set(worst)
        for level in each["levels"]:
            assert (level["loss"], level["attack"]) == (
                pytest.approx(worst[level["malicious"]][0], abs=1e-9), worst[level["malicious"]][1],
            )  # fmt: skip
    assert set(accuracy) == used, "nothing is run that no search asked for"


def test_the_amplified_forms_can_be_left_out(whole: Whole) -> None:
    folder, _ = whole
    told = again(folder, "--only-base")
    assert defenses_of(told) == ["fedavg", "median"]
    assert "amp+" not in told


@pytest.mark.parametrize("form", ["plain", "github", "csv", "latex", "json"])
def test_every_format_is_written_and_has_every_defense(whole: Whole, form: str) -> None:
    told = again(whole[0], "--format", form)
    assert all(name in told for name in ("fedavg", "median", "amp+median"))


def test_the_records_serve_tables_and_grids(whole: Whole) -> None:
    folder, _ = whole
    for words in ([], ["--metric", "worst"], ["--metric", "loss"]):
        assert "digits, 6 clients" in invoke("table", folder / "records", *words)
    at_one = invoke("grid", *WHOLE, "--malicious", "1", "--out", folder / "records", "--dry-run")
    needed = [f"digits {name} {attack} seed 0: compute" for name, attack in
              (("median", "gaussian"), ("median", "zero"), ("amp+median", "zero"), ("fedavg", "none"))]  # fmt: skip
    assert "digits median none seed 0: compute" in at_one
    assert not any(line in at_one for line in needed)


def test_a_failed_run_leaves_its_row_unknown_with_the_reason_and_exit_code_1(tmp_path: Path) -> None:
    path = tmp_path / "boom.py"
    path.write_text(
        '"""An attack that fails."""\nfrom agrbench.plugins import Attack\n\n\n'
        "def boom(insider):\n"
        '    """Fail."""\n'
        '    raise RuntimeError("the fuse is wet")\n\n\n'
        "attack = Attack(forge=boom)\n"
    )
    # Of four clients Krum tolerates none that is malicious, so that no attack is asked for.
    done = agrbench("breaking-point", "--plugin", path, "-D", "digits", "-d", "krum", "-a", "boom", "--clients", "4",
                    *SMALL[2:], "--rounds", "10", "--start", "10", "--only-base", cwd=tmp_path, ok=1)  # fmt: skip
    assert "the fuse is wet" in done.stderr
    baseline, krum = (line for line in done.stdout.splitlines() if line.split()[:1] in (["fedavg"], ["krum"]))
    assert "unknown: runs failed" in baseline
    assert "unknown" not in krum


@pytest.mark.parametrize("words", [["--rounds", "10", "--start", "20"], ["--rounds", "10"]], ids=" ".join)
def test_an_attack_after_the_last_round_is_not_a_failed_run(words: list[str], tmp_path: Path) -> None:
    """There is no round to compare: that is a mistake of the command, or a start that does not fit its rounds."""
    line = ["breaking-point", "-D", "digits", "-d", "krum", "-a", "zero", "--only-base", "--clients", "4"]
    done = CliRunner().invoke(main, [*line, *SMALL[2:], *words, "--out", str(tmp_path / "records")])
    assert done.exit_code == 2
    assert "the attack would start in round 20 and there are 10; write --start 10" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-D", "digits", "-d", "krum", "--clients", "2"], "krum requires 2 * f + 2 < n"),
        (["-D", "digits", "-d", "median", "-d", "bulyan", "--clients", "2"], "bulyan requires"),
        (["-D", "digits", "-d", "kurm"], "did you mean krum"),
        (["-D", "digits", "-d", "krum", "-a", "label_flop"], "did you mean label_flip"),
        (["-D", "digit", "-d", "krum"], "did you mean digits"),
        (["-D", "digits", "-d", "krum", "--start", "15"], "write a multiple of 10"),
        (["-d", "krum"], "-D"),
        (["-D", "digits"], "-d"),
    ],
    ids=" ".join,
)
def test_a_mistake_is_answered_by_a_sentence_and_exit_code_2(words: list[str], said: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["breaking-point", *words, "--out", str(tmp_path / "records")])
    assert done.exit_code == 2
    assert done.stdout == ""
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("Error: ")
    assert not (tmp_path / "records").exists()


def test_the_command_explains_itself() -> None:
    told = invoke("breaking-point", "--help")
    for option in ("-D", "-d", "-a", "--seeds", "--clients", "--only-base", "--plugin", "--format", "--out", "-q"):
        assert option in told
    assert "--malicious" not in told
    assert "breaking-point" in invoke("--help")


def test_the_help_names_the_settings_that_a_search_really_has() -> None:
    (grid,) = suites.read("worst").grids
    told = " ".join(invoke("breaking-point", "--help").split())
    for name, value in grid.settings.items():
        described = told.partition(f"--{name} INTEGER ")[2].partition(" --")[0]
        assert described.endswith(f"(default {value}).")
    assert f"How many seeds, from 0 (default {grid.seeds})." in told


def test_an_interrupted_search_keeps_what_is_finished_and_prints_how_to_go_on(tmp_path: Path) -> None:
    interrupt(["breaking-point", "-D", "digits", "-d", "krum", "-a", "zero", "--seeds", "40", "--jobs", "1"], tmp_path)
    assert records(tmp_path / "results")
