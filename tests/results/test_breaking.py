"""Breaking points: the bisection for any truth, what breaks, which runs are needed, and the rows of the table."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agrbench.cells import Cell
from agrbench.cli import execute
from agrbench.errors import AgrbenchError, Inapplicable
from agrbench.plugins.registry import Registry
from agrbench.results import breaking
from agrbench.results.breaking import Level, Search
from agrbench.results.formats import Entry
from agrbench.results.record import Record, failed
from agrbench.results.statistics import Sample
from agrbench.results.store import Store
from agrbench.results.tables.breaking import table
from agrbench.simulation.engines.local import Local
from agrbench.simulation.grid import Plan
from tests.helpers import plugins
from tests.helpers.records import finished
from tests.helpers.tables import headers, row

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
    return finished(cell, [0.1, percent / 100, percent / 100])


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
    assert search.measure(4, written(search, 4, KRUM, tmp_path).read)
    level = search.levels[4]
    # By seed lie costs 20 and 0, min_max 6 and 16: 10 and 11 in the mean.
    assert level.attack == "min_max"
    assert level.loss.seeds == (0, 1)
    assert level.loss.values == pytest.approx((6, 16), abs=1e-11)  # two-digit decimals, averaged and subtracted
    assert level.breaks


def test_with_nobody_malicious_what_the_defense_costs_without_attack_counts(tmp_path: Path) -> None:
    search = begin("krum")
    assert search.measure(0, written(search, 0, KRUM, tmp_path).read)
    assert search.levels[0].attack == "none"
    assert search.levels[0].loss.values == pytest.approx((3, 1), abs=1e-11)  # as above
    assert not search.levels[0].breaks
    costly = begin("krum")
    assert costly.measure(0, written(costly, 0, {**KRUM, ("krum", "none"): (70, 80)}, tmp_path).read)
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
        assert search.measure(3, store.read)
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
        assert not search.measure(malicious, store.read)
        assert malicious not in search.levels
        store.write(before)
    assert search.measure(malicious, store.read)


def test_records_of_other_numbers_of_malicious_clients_do_not_count(tmp_path: Path) -> None:
    search = begin("krum")
    store = written(search, 3, KRUM, tmp_path)
    assert not any(search.measure(other, store.read) for other in (0, 1, 2, 4, 8))
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
    path = plugins.defense(
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
    failures = execute.search(found, REGISTRY, Store(tmp_path), execute.How(Local(REGISTRY), quiet=True))
    assert {search.cell.defense: (search.held, search.broken) for search in found} == {
        "fedavg": (2, 3), "krum": (8, None), "median": (None, 0), "mda": (None, None),
    }  # fmt: skip
    assert [search.next is None for search in found] == [True, True, True, False]
    assert len(set(computed)) == len(computed), "what is there is not computed again"
    assert {(failure["cell"]["defense"], failure["cell"]["seed"]) for failure in failures} == {("mda", 0), ("mda", 1)}
    assert len(failures) == 2
    again = breaking.searches(settings(), ["krum", "median"], ["lie"], 2, REGISTRY)
    before = len(computed)
    assert execute.search(again, REGISTRY, Store(tmp_path), execute.How(Local(REGISTRY), quiet=True)) == []
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
        assert search.measure(wanted, store.read)
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
