"""Published numbers: what their files say, what seeds explain, and the verdict on ours."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, ttest_ind_from_stats

from agrbench.results.record import Record
from agrbench.results.store import Store
from agrbench.results.validation import published
from agrbench.results.validation.published import Published, Value
from agrbench.results.validation.table import beside
from agrbench.results.validation.verdicts import explained, judge
from agrbench.simulation import grid
from tests.helpers.commands import invoke
from tests.helpers.records import REGISTRY, fill, finished

HE = published.read("he2022")
PERCENT = st.floats(1, 99)


def value(deviation: float | None = 1.0) -> Value:
    return Value("krum", ("sign_flip",), {}, 50.0, deviation)


def runs(suite: Published, accuracies: dict[str, Sequence[Sequence[float]]], **fields: Any) -> list[Record]:
    """Make the records of a suite's first value, by attack: the curve of each seed."""
    first = suite.values[0]
    return [
        finished(suite.cell(first, attack, seed, REGISTRY), curve, **fields)
        for attack, curves in accuracies.items()
        for seed, curve in enumerate(curves)
    ]


@pytest.mark.parametrize("name", published.names())
def test_every_published_cell_can_be_run_and_names_its_source(name: str, tmp_path: Path) -> None:
    suite = published.read(name)
    cells = {suite.cell(each, attack, 0, REGISTRY) for each in suite.values for attack in each.attacks}
    assert not grid.plan(list(cells), REGISTRY, Store(tmp_path)).skips
    assert len(cells) == sum(len(each.attacks) for each in suite.values)  # no two values are one cell
    assert re.search(r"https://github.com/\S+ at [0-9a-f]{12}", suite.source)
    assert all(0 <= each.accuracy <= 100 for each in suite.values)


def test_he2022_holds_both_halves_and_deviations_with_ddof_1() -> None:
    bucketed = [each for each in HE.values if each.defense.startswith("bucketing+")]
    assert (len(HE.values), len(bucketed)) == (40, 20)
    krum = HE.values[0]
    assert (krum.defense, krum.accuracy) == ("krum(power=4)", 27.5)
    assert krum.deviation == pytest.approx(7.5 * math.sqrt(3 / 2))


def test_the_z_of_little_is_enough_is_that_of_its_paper() -> None:
    """Baruch et al. (2019): the quantile of (n - m - s) / (n - m), s = n // 2 + 1 - m."""
    for n, m, ddof, wanted in ((25, 5, 1, 0.2533), (11, 2, 0, 0.1317)):
        z = norm.ppf((n - m - (n // 2 + 1 - m)) / (n - m))
        scale = 1 if ddof else math.sqrt((n - m - 1) / (n - m))
        assert round(float(z) * scale, 4) == wanted
        assert any(
            f"lie(z=-{wanted})" in each.attacks for name in published.names() for each in published.read(name).values
        )


@pytest.mark.oracle()
@given(
    deviation=st.floats(0.01, 20), seeds=st.integers(2, 6), ours=st.lists(PERCENT, min_size=2, max_size=6, unique=True)
)
def test_what_two_deviations_explain_is_welchs_test(deviation: float, seeds: int, ours: list[float]) -> None:
    reach = explained(value(deviation), ours, seeds, rounding=0.0)
    assert reach is not None
    mean, spread = statistics.fmean(ours), statistics.stdev(ours)
    for factor, significant in ((0.99, False), (1.01, True)):
        theirs = mean + factor * reach
        test = ttest_ind_from_stats(theirs, deviation, seeds, mean, spread, len(ours), equal_var=False)
        assert (test.pvalue < 0.05) == significant


def test_one_deviation_stands_for_both() -> None:
    """Student's t at 97.5% with 2 degrees of freedom is 4.3027."""
    alone = explained(value(1.5), [70.0], 3, rounding=0.0)
    assert alone == pytest.approx(4.3027 * 1.5 * math.sqrt(1 / 3 + 1), rel=1e-4)
    unpublished = explained(value(None), [70.0, 72.0, 74.0], 3, rounding=0.0)
    assert unpublished == pytest.approx(4.3027 * 2.0 * math.sqrt(1 / 3 + 1 / 3), rel=1e-4)
    assert explained(value(None), [70.0], 3, rounding=0.5) is None


def test_rounding_is_explained_even_where_no_seed_differs() -> None:
    assert explained(value(0.0), [50.04], 3, rounding=0.05) == pytest.approx(0.05)
    assert explained(value(0.0), [50.0, 50.0], 3, rounding=0.05) == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("accuracy", "verdict"), [(0.275, "within"), (0.05, "within"), (0.95, "above")], ids=["same", "far", "contradicts"]
)
def test_a_value_is_judged_by_its_last_accuracy(accuracy: float, verdict: str) -> None:
    (first, *others) = judge(HE, runs(HE, {"sign_flip": [[0.1, 0.99, accuracy]]}), REGISTRY)
    assert first.verdict == verdict
    assert first.ours.values == pytest.approx((100 * accuracy,))
    assert {each.verdict for each in others} == {"not run"}


def test_a_worst_value_needs_all_attacks_and_takes_the_lowest_best_mean() -> None:
    byzfl = published.read("byzfl")
    attacks = byzfl.values[0].attacks
    # Eleven accuracies, ten rounds apart: those of rounds 0, 50 and 100 count, and the higher ones between them do not.
    between = [0.995] * 4
    high, low = ([[0.1, *between, best, *between, 0.1] for best in pair] for pair in ((0.97, 0.99), (0.90, 0.94)))
    (first, *_) = judge(byzfl, runs(byzfl, {attacks[0]: high, attacks[1]: low, attacks[2]: high}), REGISTRY)
    assert first.attack == attacks[1]
    assert first.ours.mean == pytest.approx(92.0)
    (first, *_) = judge(byzfl, runs(byzfl, {attacks[0]: high, attacks[1]: low}), REGISTRY)
    assert first.verdict == "not run"


def test_threads_do_not_make_another_cell_of_a_record() -> None:
    cell = replace(HE.cell(HE.values[0], "sign_flip", 0, REGISTRY), threads=2)
    assert judge(HE, [finished(cell, [0.1, 0.275])], REGISTRY)[0].verdict == "within"


def test_the_verdict_counts_what_was_run() -> None:
    table = beside(HE, judge(HE, runs(HE, {"sign_flip": [[0.1, 0.95]]}), REGISTRY))
    assert table.notes[-1] == (
        "Verdict: he2022: 1 of 40 values run; 0 within what seeds and rounding explain, 1 above, 0 below: contradicted."
    )


@pytest.mark.parametrize(("accuracy", "code"), [(0.275, 0), (0.95, 1)], ids=["agrees", "contradicts"])
def test_the_command_reads_records_and_exits_with_the_verdict(accuracy: float, code: int, tmp_path: Path) -> None:
    folder = fill(tmp_path / "records", runs(HE, {"sign_flip": [[0.1, accuracy]]}, rounds=[0, 600]))
    result = invoke("validate", "he2022", folder, ok=code)
    assert "27.5 ± 9.2" in result.stdout and f"{100 * accuracy:.1f}" in result.stdout


def test_without_a_name_the_command_lists_what_was_published() -> None:
    result = invoke("validate")
    assert [line.split()[0] for line in result.stdout.splitlines()[4:7]] == ["byzfl", "he2022", "velocity"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("he2O22",), "no suite of published values is named 'he2O22'; write he2022"),
        (("he2022", "-d", "cosden"), "he2022 has no value of cosden; it has krum(power=4), median"),
        (("he2022", "NOWHERE"), "NOWHERE"),
        (("he2022", "EMPTY"), "no finished record of he2022 there"),
    ],
)
def test_errors_say_what_to_write(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    (tmp_path / "EMPTY").mkdir()
    result = invoke("validate", *(tmp_path / word if word.isupper() else word for word in words), ok=2)
    assert said in result.stderr


def test_cells_that_fail_are_told_and_make_the_command_fail(tmp_path: Path) -> None:
    """A real cell, which no machine computes within its tenth of a second."""
    words = ("velocity", "-d", "krum", "-a", "gaussian(deviation=100)", "--seeds", "1", "--cell-timeout", "0.1")
    result = invoke("validate", *words, "--out", tmp_path / "out", "-q", ok=2)
    assert "Failed (1 cell" in result.stderr and "no finished record" in result.stderr
