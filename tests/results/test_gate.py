"""The gate: a regression turns it red and is named, chance does not, and every record is accounted for."""

from __future__ import annotations

import copy
import json
import math
import os
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import scipy.stats
from hypothesis import example, given
from hypothesis import strategies as st

from agrbench.cells import Cell
from agrbench.plugins.registry import Registry
from agrbench.results.gate import compare
from agrbench.results.gate.compare import BETTER, GREEN, INCOMPARABLE, RED, SAME, WORSE, Comparison, Row
from agrbench.results.record import Record, failed, skipped
from agrbench.results.statistics import Sample, contrast
from agrbench.results.store import Store
from agrbench.simulation.computing import compute
from agrbench.simulation.grid import Grid, expand
from tests.helpers.commands import ask
from tests.helpers.records import fill, finished

REGISTRY = Registry()
ATTACKS = ("none", "lie", "scaling")
# Accuracy in percent of every attacked round, and of seed s one point more; success of scaling in percent.
PERCENT = {"fedavg": (90, 40, 70), "krum": (85, 80, 82), "median": (88, 86, 60)}
SUCCESS = {"fedavg": 95, "krum": 2, "median": 60}


def made(defense: str, attack: str, seed: int, change: float = 0.0, **fields: Any) -> Record:
    """Make a finished record; `change` points are added to its accuracy under attack."""
    level = PERCENT[defense][ATTACKS.index(attack)] + seed + change
    hit = SUCCESS[defense] / 100
    mine: dict[str, Any] = {
        "loss": [2.3, 1.5, 0.5],
        "success": [None, hit, hit] if attack == "scaling" else None,
        "time": {"server_s": 0.001, "round_s": 0.5, "alone": True},
    }
    cell = Cell("digits", defense, attack, seed, rounds=20)
    return finished(cell, [0.1, level / 100, level / 100], **mine) | fields


def everything(
    seeds: Iterable[int] = range(3), changes: Mapping[tuple[str, str], Sequence[float]] = {}
) -> list[Record]:
    """Make all records; `changes` gives points by seed for a defense under an attack."""
    return [
        made(defense, attack, seed, changes.get((defense, attack), [0.0] * 100)[place])
        for place, seed in enumerate(seeds) for defense in PERCENT for attack in ATTACKS
    ]  # fmt: skip


def rows_of(found: Comparison) -> dict[tuple[str, str, str | None], Row]:
    return {(row.defense, row.axis, row.attack): row for row in found.rows}


def red_rows(found: Comparison) -> set[tuple[str, str, str | None]]:
    return {(row.defense, row.axis, row.attack) for row in found.rows if row.red}


# What is compared


def test_every_axis_of_every_defense_has_a_row_worked_out_by_hand() -> None:
    rows = rows_of(compare.compare_records(everything(), everything()))
    axes = {("loss", "lie"), ("loss", "scaling"), ("worst loss", None), ("success", "scaling"), ("fidelity loss", None)}
    wanted = {(defense, *axis) for defense in PERCENT for axis in axes} - {("fedavg", "fidelity loss", None)}
    assert set(rows) == wanted | {("fedavg", "error", None)}
    by_hand = {
        ("krum", "loss", "lie"): 10, ("krum", "worst loss", None): 10, ("krum", "fidelity loss", None): 5,
        ("median", "worst loss", None): 30, ("fedavg", "worst loss", None): 50, ("krum", "success", "scaling"): 2,
        ("fedavg", "error", None): 100 - 91,  # 90, 91 and 92 percent by seed
    }  # fmt: skip
    for name, value in by_hand.items():
        # Differences of two-digit decimals.
        assert rows[name].base == rows[name].head == pytest.approx(value, abs=1e-9)


def test_the_same_records_are_green_with_every_difference_zero() -> None:
    found = compare.compare_records(everything(), everything())
    assert found.verdict == GREEN
    assert not found.findings
    for row in found.rows:
        assert (row.change, row.low, row.high, row.p, row.verdict) == (0, 0, 0, 1, SAME)


def test_the_worst_is_over_the_attacks_that_both_sides_have() -> None:
    base = [record for record in everything() if record["cell"]["attack"] != "lie"]
    row = rows_of(compare.compare_records(base, everything()))["fedavg", "worst loss", None]
    assert row.change == 0
    assert row.head == pytest.approx(20, abs=1e-9)  # 90 - 70, not the 50 of lie


@pytest.mark.parametrize(
    ("name", "records", "axis"),
    [
        ("accuracy under attack", [("krum", "lie")], ("krum", "loss", "lie")),
        ("accuracy without attack", [("krum", "none")], ("krum", "fidelity loss", None)),
        ("the reference", [("fedavg", "none")], ("fedavg", "error", None)),
    ],
)
@pytest.mark.parametrize("sign", [-1, 1])
def test_less_accuracy_is_worse_and_more_is_better(
    name: str, records: list[tuple[str, str]], axis: tuple[str, str, str | None], sign: int
) -> None:
    moved = everything(changes={each: [sign * points for points in (7.0, 7.1, 7.2)] for each in records})
    row = rows_of(compare.compare_records(everything(), moved))[axis]
    assert (row.verdict, row.red) == ((WORSE, True) if sign < 0 else (BETTER, False))
    assert row.change == pytest.approx(-7.1 * sign, abs=1e-9)


@pytest.mark.parametrize(("hits", "verdict"), [(0.5, WORSE), (0.0, BETTER)])
def test_more_success_of_a_targeted_attack_is_worse(hits: float, verdict: str) -> None:
    head = copy.deepcopy(everything())
    for record in head:
        if record["cell"]["defense"] == "krum" and record["success"]:
            record["success"] = [None, hits, hits]
    row = rows_of(compare.compare_records(everything(), head, tolerance=1))["krum", "success", "scaling"]
    assert (row.verdict, row.red) == (verdict, verdict == WORSE)


# What turns it red: the interval and the tolerance, both


def test_a_change_within_the_tolerance_is_worse_and_not_red() -> None:
    head = everything(changes={("krum", "lie"): [-1.9, -1.9, -1.9]})
    found = compare.compare_records(everything(), head)
    assert rows_of(found)["krum", "loss", "lie"].verdict == WORSE
    assert found.verdict == GREEN
    assert compare.compare_records(everything(), head, tolerance=1.8).verdict == RED


def test_a_change_of_exactly_the_tolerance_is_tolerated() -> None:
    head = everything(changes={("krum", "lie"): [-2.0, -2.0, -2.0]})
    assert compare.compare_records(everything(), head).verdict == GREEN


def test_a_large_change_that_seeds_explain_is_not_red() -> None:
    """Three seeds lose 30, 1 and 5 points: t = 1.3, p = 0.3."""
    found = compare.compare_records(everything(), everything(changes={("krum", "lie"): [-30, -1, -5]}))
    assert rows_of(found)["krum", "loss", "lie"].verdict == SAME
    assert found.verdict == GREEN


T_OF_3 = 6 / (1 / math.sqrt(3))  # of the differences 5, 6 and 7
ALONE = 1 - T_OF_3 / math.sqrt(T_OF_3 * T_OF_3 + 2)  # its p with 2 degrees of freedom, in closed form
MOVED = {("krum", "lie"): [-5.0, -6.0, -7.0]}


def recoded(records: list[Record], kind: str = "defense") -> list[Record]:
    """Give all records another digest of one plugin kind."""
    return [record | {"source": record["source"] | {kind: "0" * 64}} for record in records]


@pytest.mark.parametrize("kind", ["defense", "attack", "dataset"])
def test_the_correction_is_over_all_rows_of_other_code(kind: str) -> None:
    """What is significant alone is not among the other rows: p is multiplied by their number, the smallest at least."""
    found = compare.compare_records(everything(), recoded(everything(changes=MOVED), kind))
    row = rows_of(found)["krum", "loss", "lie"]
    assert ALONE < 0.05
    assert row.p == pytest.approx(min(1, ALONE * len(found.rows)), rel=1e-6)
    assert row.verdict == SAME
    assert not any(row.repeats for row in found.rows)


def test_rows_of_the_same_code_and_values_are_left_out_of_the_correction(tmp_path: Path) -> None:
    """Krum's worst loss moves with its loss under lie; all other rows repeat, so two p-values are adjusted."""
    found = compare.compare_records(everything(), everything(changes=MOVED))
    moved = {("krum", "loss", "lie"), ("krum", "worst loss", None)}
    assert {name for name, row in rows_of(found).items() if not row.repeats} == moved
    for name, row in rows_of(found).items():
        assert row.p == (pytest.approx(2 * ALONE, rel=1e-6) if name in moved else 1)
    done = ask("compare", fill(tmp_path / "a", everything()), fill(tmp_path / "b", everything(changes=MOVED)))
    left = len(found.rows) - 2
    assert f"p adjusted over 2 rows (Holm); {left} rows left out, the same plugin code" in done.output


def test_a_row_is_corrected_if_one_seed_differs_or_a_run_behind_it_has_other_code() -> None:
    one = compare.compare_records(everything(), everything(changes={("krum", "lie"): [0.0, 0.0, -1e-6]}))
    assert not rows_of(one)["krum", "loss", "lie"].repeats
    head = [recoded([record])[0] if record["cell"]["attack"] == "lie" else record for record in everything()]
    repeats = {name for name, row in rows_of(compare.compare_records(everything(), head)).items() if row.repeats}
    assert ("krum", "loss", "scaling") in repeats
    assert ("krum", "fidelity loss", None) in repeats
    assert not {("krum", "loss", "lie"), ("krum", "worst loss", None)} & repeats
    reference = [recoded([r])[0] if r["cell"]["defense"] == "fedavg" else r for r in everything()]
    assert not any(row.repeats for row in compare.compare_records(everything(), reference).rows)


def test_the_same_on_one_seed_or_on_other_seeds_is_no_repetition() -> None:
    for seeds in (range(1), range(3, 6)):
        found = compare.compare_records(everything(range(3)), everything(seeds))
        assert not any(row.repeats for row in found.rows)


def test_one_seed_is_judged_by_the_tolerance_alone_and_it_says_so(tmp_path: Path) -> None:
    base = fill(tmp_path / "base", everything([0]))
    for points, code in ((2.0, 0), (2.1, 1)):
        head = fill(tmp_path / f"head-{code}", everything([0], {("krum", "lie"): [-points]}))
        done = ask("compare", base, head)
        assert done.exit_code == code, done.output
        assert "One seed: no interval and no p; the tolerance of 2 points alone decides." in done.output
        assert "paired t" not in done.output


# The statistics


VALUES = st.floats(-50, 50).map(lambda value: round(value, 2))


@given(st.lists(st.tuples(VALUES, VALUES), min_size=2, max_size=10))
@example([(1.0, 3.0), (2.0, 4.0)])
@example([(0.1 + 0.2, 0.3), (0.3, 0.3)])
def test_pairs_are_tested_by_student_s_t(pairs: list[tuple[float, float]]) -> None:
    seeds = tuple(range(len(pairs)))
    found = contrast(*(Sample(seeds, tuple(side)) for side in zip(*pairs, strict=True)))
    gaps = [round(head - base, 9) for base, head in pairs]
    assert found.difference == pytest.approx(statistics.fmean(gaps), abs=1e-8)
    if len(set(gaps)) == 1:
        assert found.p == (1 if gaps[0] == 0 else 0)
        assert found.low == found.high == found.difference
        return
    t = statistics.fmean(gaps) / (statistics.stdev(gaps) / math.sqrt(len(gaps)))
    # Two tails of the distribution's own function, not of scipy's test; gaps are rounded to 9 digits above.
    assert found.p == pytest.approx(2 * scipy.stats.t.sf(abs(t), len(gaps) - 1), rel=1e-5, abs=1e-9)
    assert found.low is not None
    assert found.high is not None
    assert found.p is not None
    assert (found.low <= 0 <= found.high) == (found.p >= 0.05)


@given(st.lists(VALUES, min_size=2, max_size=8), st.lists(VALUES, min_size=2, max_size=8))
def test_other_seeds_are_tested_by_welch_s_t(ours: list[float], theirs: list[float]) -> None:
    base = Sample(tuple(range(len(ours))), tuple(ours))
    found = contrast(base, Sample(tuple(range(100, 100 + len(theirs))), tuple(theirs)))
    shares = [statistics.variance(side) / len(side) for side in (ours, theirs)]
    difference = statistics.fmean(theirs) - statistics.fmean(ours)
    assert found.difference == pytest.approx(difference, abs=1e-8)
    if sum(shares) == 0:
        assert found.p == (1 if abs(difference) < 1e-9 else 0)
        return
    freedom = sum(shares) ** 2 / sum(
        share**2 / (len(side) - 1) for share, side in zip(shares, (ours, theirs), strict=True)
    )
    wanted = 2 * scipy.stats.t.sf(abs(difference) / math.sqrt(sum(shares)), freedom)
    assert found.p == pytest.approx(wanted, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(
    ("base", "head", "how"),
    [
        ((0, 1, 2), (0, 1, 2), "paired t, 2 df"),
        ((0, 1, 2), (1, 2, 3), "paired t, 1 df"),
        ((0, 1, 2), (2, 3, 4), "Welch's t, 3 and 3 seeds"),
        ((0, 1, 2), (5, 6), "Welch's t, 3 and 2 seeds"),
        ((0,), (0, 1, 2), "one seed"),
        ((0,), (1,), "unpaired, 1 and 1 seeds"),
        ((0,), (1, 2, 3), "unpaired, 1 and 3 seeds"),
    ],
)
def test_pairs_are_taken_where_seeds_agree(base: tuple[int, ...], head: tuple[int, ...], how: str) -> None:
    found = contrast(*(Sample(seeds, tuple(seed * 1.5**seed for seed in seeds)) for seeds in (base, head)))
    assert found.how == how
    assert (found.p is None) == (found.low is None) == (1 in (len(base), len(head)))


def test_seeds_that_agree_leave_no_difference_whatever_other_seeds_there_are() -> None:
    found = compare.compare_records(everything(range(3)), everything(range(5)))
    assert {row.change for row in found.rows} == {0}


def test_with_three_pairs_a_clear_regression_can_be_seen() -> None:
    """Sign flips of three seeds give no p below 1/4; Student's t does."""
    found = compare.compare_records(everything(), everything(changes={("krum", "lie"): [-40.0, -40.5, -41.0]}))
    assert ("krum", "loss", "lie") in red_rows(found)


# Planted regressions, computed


TRUSTING = '''
"""Average the rows nearest to the median."""

from agrbench.plugins import Defense


def mine(round):
    away = (round.view - round.view.median(0).values).norm(dim=1)
    kept = len(away) - round.byzantine{more}
    return away <= away.sort().values[kept - 1]


defense = Defense(mine)
'''
POOLING = '''
"""Pool patches, as the amplifier does."""

from agrbench.server.amplifier import Patches, maximum
from agrbench.plugins import Stage


def pool(layout, rng, restore, *, kernel: int = {kernel}):
    return Patches.of(layout, kernel, "layers", None).pooled(maximum)


stage = Stage(columns=pool)
'''
# Cosines do not see lengths, and pooling sees that the rows lack the honest noise.
STRETCHED = '''
"""Send what min-max sends, a hundred times as long."""

from agrbench.clients.perturbations import against, within
from agrbench.plugins import Attack


def stretched(insider):
    rows = insider.honest.double()
    p = against(rows, "std")
    return (100 * (rows.mean(0) + within(rows, p) * p)).expand(insider.malicious, -1)


attack = Attack(forge=stretched)
'''


def computed(folder: Path, files: Mapping[str, str], defense: str, attack: str, clients: int = 10) -> Path:
    """Run a small grid with plugin files of these texts; give its records' folder."""
    folder.mkdir()
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    registry = Registry([folder / f"{name}.py" for name in files])
    settings = {"clients": clients, "rounds": 20, "start": 10}
    for cell in expand([Grid(("digits",), (attack,), (defense,), 3, settings, "base")], registry):
        Store(folder / "records").write(compute(cell, registry, alone=True))
    return folder / "records"


def test_a_defense_that_trusts_one_more_malicious_client_turns_it_red_and_is_named(tmp_path: Path) -> None:
    base, again, head = (
        computed(tmp_path / name, {"mine": TRUSTING.format(more=more)}, "mine", "gaussian")
        for name, more in (("base", ""), ("again", ""), ("head", " + 1"))
    )
    same = ask("compare", base, again)
    assert same.exit_code == 0, same.output
    assert "every difference is 0" in same.output
    assert all(row["change"] == 0 for row in json.loads(ask("compare", base, again, "--format", "json").output)["rows"])

    done = ask("compare", base, head)
    assert done.exit_code == 1, done.output
    first = done.output.partition("\n")[0]
    assert first.startswith("Red: ")
    assert "mine loss under gaussian (+" in first
    assert "mine worst loss (+" in first
    assert "fedavg" not in first
    assert "Other code in HEAD: defense mine." in done.output
    assert ask("compare", head, base).exit_code == 0  # what is mended is better


def test_an_amplifier_that_pools_nothing_turns_it_red_and_is_named(tmp_path: Path) -> None:
    base, head = (
        computed(
            tmp_path / name, {"pool": POOLING.format(kernel=kernel), "stretched": STRETCHED}, "pool+cosden",
            "stretched", clients=30,
        )
        for name, kernel in (("base", 2), ("head", 1))
    )  # fmt: skip
    done = ask("compare", base, head, "--format", "json")
    assert done.exit_code == 1, done.output
    red = [row for row in json.loads(done.output)["rows"] if row["red"]]
    assert {(row["defense"], row["axis"]) for row in red} == {("pool+cosden", "loss"), ("pool+cosden", "worst loss")}


# Cells of one side


def drop(records: list[Record], **where: Any) -> list[Record]:
    return [r for r in records if any(r["cell"][name] != value for name, value in where.items())]


def kinds(found: Comparison) -> set[tuple[str, str, str | None, bool]]:
    return {(each.kind, each.defense, each.attack, each.red) for each in found.findings}


def test_what_head_has_lost_is_named_and_red() -> None:
    found = compare.compare_records(everything(), drop(everything(), defense="krum", attack="lie"))
    assert kinds(found) == {("lost", "krum", "lie", True)}
    assert found.verdict == RED


def test_what_is_new_is_named_and_green() -> None:
    found = compare.compare_records(drop(everything(), defense="krum"), everything())
    assert kinds(found) == {("new", "krum", attack, False) for attack in ATTACKS}
    assert found.verdict == GREEN


@pytest.mark.parametrize("begin", [failed, skipped])
@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)], ids=str)
def test_what_fails_in_head_is_lost_with_its_reason_even_on_one_seed(
    begin: Callable[[Cell, Registry, str], Record], seeds: tuple[int, ...], tmp_path: Path
) -> None:
    def broken(record: Record) -> Record:
        cell = Cell.from_json(record["cell"])
        hit = cell.defense == "krum" and cell.attack == "lie" and cell.seed in seeds
        return begin(cell, REGISTRY, "out of\x1b[31m memory") if hit else record

    head = fill(tmp_path / "head", map(broken, everything()))
    done = ask("compare", fill(tmp_path / "base", everything()), head)
    assert done.exit_code == 1, done.output
    assert "krum under lie" in done.output
    assert rf"{begin.__name__}: out of\x1b[31m memory" in done.output
    assert ask("compare", head, head).exit_code == 0
    assert ask("compare", head, tmp_path / "base").exit_code == 0


def test_what_failed_on_both_sides_is_no_regression_and_named_where_it_was_never_finished() -> None:
    broken = failed(Cell("digits", "krum", "lie", 0, rounds=20), REGISTRY, "no")
    rest = drop(everything([0]), defense="krum", attack="lie")
    assert kinds(compare.compare_records([*rest, broken], [*rest, broken])) == {("failed", "krum", "lie", False)}


def test_another_protocol_is_named_and_not_compared() -> None:
    head = [record | {"protocol": 2} if record["cell"]["defense"] == "krum" else record for record in everything()]
    found = compare.compare_records(everything(), head)
    assert kinds(found) == {("protocol", "krum", attack, False) for attack in ATTACKS}
    assert not any(row.defense == "krum" for row in found.rows)
    assert found.verdict == INCOMPARABLE
    assert "protocol 1 in BASE, 2 in HEAD" in {each.reason for each in found.findings}


def test_other_settings_are_not_comparable(tmp_path: Path) -> None:
    settings = everything()[0]["cell"]["settings"] | {"clients": 30}
    other = [record | {"cell": record["cell"] | {"settings": settings}} for record in everything()]
    done = ask("compare", fill(tmp_path / "base", everything()), fill(tmp_path / "head", other))
    assert done.exit_code == 2
    assert done.output.startswith("Not comparable: nothing finished is in both BASE and HEAD")
    assert "rounds 20" in done.output
    assert "clients 30" in done.output


@pytest.mark.parametrize("empty", ["base", "head"])
def test_nothing_is_not_green(empty: str, tmp_path: Path) -> None:
    sides = {name: fill(tmp_path / name, [] if name == empty else everything()) for name in ("base", "head")}
    assert ask("compare", sides["base"], sides["head"]).exit_code == 2


def test_records_of_files_that_have_changed_since_are_named(tmp_path: Path) -> None:
    old = [record | {"source": record["source"] | {"defense": "0" * 64}} for record in everything()]
    done = ask("compare", fill(tmp_path / "base", old), fill(tmp_path / "head", everything()))
    assert "Stale" not in done.output
    assert "Other code in HEAD: defense fedavg, krum, median." in done.output
    assert "Stale in HEAD" in ask("compare", tmp_path / "base", tmp_path / "base").output


def test_a_plugin_out_of_reach_is_named_until_its_file_is_given(tmp_path: Path) -> None:
    folder = computed(tmp_path / "mine", {"mine": TRUSTING.format(more="")}, "mine", "zero")
    assert "write --plugin FILE: mine under" in ask("compare", folder, folder).output
    assert "--plugin" not in ask("compare", folder, folder, "--plugin", tmp_path / "mine" / "mine.py").output


# Files that are no records


def hostile(folder: Path, kind: str) -> None:
    """Put what is no record among the records of krum under lie."""
    path = next((folder / "digits" / "krum" / "lie").glob("seed-0-*.json"))
    record = json.loads(path.read_text())
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:200])
    elif kind == "foreign":
        (folder / "package.json").write_text('{"name": "something else"}')
    elif kind == "newer":
        path.write_text(json.dumps(record | {"schema": 99}))
    elif kind == "nan":
        path.write_text(json.dumps(record | {"accuracy": [math.nan] * 3}))
    elif kind == "huge":
        path.write_text(json.dumps(record | {"accuracy": [1e308] * 3}))
    elif kind == "deep":
        path.write_text("[" * 100_000)
    elif kind == "types":
        path.write_text(json.dumps(record | {"accuracy": {"0": "high"}}))
    elif kind == "name":
        path.write_text(json.dumps(record | {"cell": record["cell"] | {"defense": "krum\n\x1b[2J"}, "protocol": 0}))
    elif kind == "pipe":
        os.mkfifo(folder / "pipe.json")
    elif kind == "device":
        (folder / "device.json").symlink_to("/dev/zero")
    elif kind == "link":
        (folder / "link.json").symlink_to("/etc/passwd")


HOSTILE = ("truncated", "foreign", "newer", "nan", "huge", "deep", "types", "name", "pipe", "device", "link")


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("side", ["base", "head"])
def test_a_file_that_is_no_record_is_named_and_refused_and_all_others_compared(
    kind: str, side: str, tmp_path: Path
) -> None:
    for name in ("base", "head"):
        fill(tmp_path / name, everything())
    hostile(tmp_path / side, kind)
    done = ask("compare", tmp_path / "base", tmp_path / "head", "--format", "json")
    assert done.exit_code == 2, done.output
    found = json.loads(done.output)
    assert len(found["refused"]) == 1
    assert str(tmp_path / side) in found["refused"][0]
    assert len(found["rows"]) == len(compare.compare_records(everything(), everything()).rows)
    assert {row["change"] for row in found["rows"]} == {0}


def test_a_regression_is_red_beside_a_file_that_was_refused(tmp_path: Path) -> None:
    base, head = fill(tmp_path / "base", everything()), everything(changes={("krum", "none"): [-9, -9, -9]})
    hostile(fill(tmp_path / "head", head), "foreign")
    assert ask("compare", base, tmp_path / "head").exit_code == 1


def test_two_results_for_one_cell_on_a_side_are_named(tmp_path: Path) -> None:
    base, head = (fill(tmp_path / name, everything([0])) for name in ("base", "head"))
    fill(head / "more", [made("krum", "lie", 0, change=-50.0)])
    done = ask("compare", base, head)
    assert done.exit_code == 2
    assert "are one cell with different results" in done.output


@pytest.mark.parametrize(
    "names", [("absent", "head"), ("base", "absent"), ("base", "head/file.json")], ids=lambda names: "-".join(names)
)
def test_what_is_not_there_or_of_another_kind_is_a_sentence(names: tuple[str, str], tmp_path: Path) -> None:
    for name in ("base", "head"):
        fill(tmp_path / name, everything([0]))
    (tmp_path / "head" / "file.json").write_text("{}")
    done = ask("compare", *(tmp_path / name for name in names))
    assert done.exit_code == 2
    assert done.output.startswith("Error: ")


# How it is written


def test_markdown_holds_nothing_that_a_browser_obeys(tmp_path: Path) -> None:
    cell = Cell("digits", "<script>|x", "none", 0, rounds=20).as_json()
    strange = [made("krum", "none", 0) | {"cell": cell}]
    records = everything([0]) + strange
    done = ask("compare", fill(tmp_path / "base", records), fill(tmp_path / "head", records), "--format", "github")
    assert done.exit_code == 0, done.output
    assert "&lt;script&gt;\\|x" in done.output
    assert "<script>" not in done.output


def test_what_records_say_is_one_line_of_what_can_be_printed(tmp_path: Path) -> None:
    said = "\x1b[2J of\nGreen: none of 9 rows worse"
    undone = failed(Cell("digits", "krum", "lie", 0, rounds=20), REGISTRY, said)
    base = fill(tmp_path / "base", everything())
    head = fill(tmp_path / "head", [*everything([1, 2]), undone])
    done = ask("compare", base, head)
    assert all(each.isprintable() or each == "\n" for each in done.output)
    assert r"failed: \x1b[2J of Green: none of 9 rows worse" in done.output
    assert not re.search("^Green", done.output, re.MULTILINE)


def test_every_format_holds_the_verdict_and_every_row(tmp_path: Path) -> None:
    base = fill(tmp_path / "base", everything())
    head = fill(tmp_path / "head", everything(changes={("median", "lie"): [-50.0, -50.1, -50.2]}))
    count = len(compare.compare_records(everything(), everything()).rows)
    plain, github = (ask("compare", base, head, "--format", form) for form in ("plain", "github"))
    for done in (plain, github):
        assert done.exit_code == 1
        assert done.output.lstrip("*").startswith("Red: ")
        assert sum(each in done.output for each in ("WORSE", "Student", "paired t, 2 df")) == 2
    lines = [line for line in github.output.splitlines() if line.startswith("| ")]
    assert len(lines) == count + 1
    assert "WORSE" in lines[1]  # what is red stands first
    whole = json.loads(ask("compare", base, head, "--format", "json").output)
    assert whole["verdict"] == "red"
    assert len(whole["rows"]) == count


def test_times_of_a_grid_are_never_compared() -> None:
    slow = [record | {"time": {"server_s": 9.0, "round_s": 9.0, "alone": True}} for record in everything()]
    assert compare.compare_records(everything(), slow).verdict == GREEN
