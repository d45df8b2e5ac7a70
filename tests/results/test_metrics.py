"""The metrics: sums that come out exactly, and groups of records that can be compared."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agrbench.cells import Cell
from agrbench.plugins.registry import Registry
from agrbench.results import metrics
from agrbench.results import statistics as inference
from agrbench.results.metrics import Group
from agrbench.results.record import Record, blank, failed
from agrbench.results.statistics import Sample
from tests.helpers.records import measured as made
from tests.helpers.records import sample

REGISTRY = Registry()


def grouped(*records: Record) -> Group:
    (group,) = metrics.groups(records)
    return group


# Losses

EIGHTHS = st.integers(0, 1024).map(lambda k: k / 1024)
CURVES = st.lists(EIGHTHS, min_size=5, max_size=5)


@given(a=CURVES, b=CURVES, c=CURVES)
def test_robustness_loss_is_fidelity_loss_plus_attack_damage_exactly(
    a: list[float], b: list[float], c: list[float]
) -> None:
    """Multiples of 1/1024, averaged over four rounds, are added and subtracted without rounding."""
    group = grouped(
        made("fedavg", "none", 0, a), made("krum", "label_flip", 0, b), made("krum", "none", 0, c)
    )  # fmt: skip
    robustness = metrics.loss(group, "krum", "label_flip").values
    costs, damage = metrics.fidelity(group, "krum").values, metrics.damage(group, "krum", "label_flip").values
    assert robustness == (costs[0] + damage[0],)
    assert robustness == (float(sum(Fraction(x) - Fraction(y) for x, y in zip(a[1:], b[1:], strict=True)) / 4),)
    assert costs == (float(sum(Fraction(x) - Fraction(y) for x, y in zip(a[1:], c[1:], strict=True)) / 4),)


@given(st.lists(st.floats(0, 1), min_size=15, max_size=15))
def test_the_parts_of_the_loss_add_up_for_any_accuracy(values: list[float]) -> None:
    a, b, c = values[:5], values[5:10], values[10:]
    group = grouped(
        made("fedavg", "none", 0, a), made("krum", "label_flip", 0, b), made("krum", "none", 0, c)
    )  # fmt: skip
    whole = metrics.loss(group, "krum", "label_flip").values[0]
    parts = metrics.fidelity(group, "krum").values[0] + metrics.damage(group, "krum", "label_flip").values[0]
    # Ten roundings (nine differences and means, one sum), each of numbers below 2 in size: 10 half units of 2^-52.
    assert abs(whole - parts) <= 10 * 2**-53 * 2


@pytest.mark.parametrize(("start", "wanted"), [(None, (1 + 2 + 3 + 4) / 4), (20, 3.0), (30, 3.5), (40, 4.0)])
def test_means_run_over_the_evaluated_rounds_from_the_first_attacked_one_on(start: int | None, wanted: float) -> None:
    def record(defense: str, attack: str, accuracy: list[float]) -> Record:
        cell = Cell("digits", defense, attack, 0, rounds=40, start=start)
        return blank(cell, REGISTRY) | {
            "rounds": [0, 10, 20, 30, 40],
            "accuracy": accuracy,
            "loss": accuracy,
            "classes": 10,
        }

    group = grouped(record("fedavg", "none", [0.0] * 5), record("krum", "label_flip", [9.0, -1.0, -2.0, -3.0, -4.0]))
    assert metrics.loss(group, "krum", "label_flip").values == (wanted,)


def test_a_last_evaluation_that_is_no_multiple_of_ten_counts_like_any_other() -> None:
    def record(defense: str, accuracy: list[float]) -> Record:
        cell = Cell("digits", defense, "none", 0, rounds=25)
        return blank(cell, REGISTRY) | {"rounds": [0, 10, 20, 25], "accuracy": accuracy, "loss": accuracy}

    group = grouped(record("fedavg", [0.0, 0.5, 0.5, 0.5]), record("krum", [1.0, 0.5, 0.5, 0.25]))
    assert metrics.fidelity(group, "krum").values == (0.25 / 3,)


def test_differences_are_paired_by_seed_whatever_the_order_of_the_records() -> None:
    references = {0: 0.5, 1: 0.75, 2: 1.0, 5: 0.25}
    measured = {5: 0.125, 2: 0.5, 0: 0.25, 7: 0.0}
    records = [made("fedavg", "none", seed, [value] * 5) for seed, value in references.items()]
    records += [made("krum", "label_flip", seed, [value] * 5) for seed, value in measured.items()]
    found = metrics.loss(grouped(*reversed(records)), "krum", "label_flip")
    assert found == Sample((0, 2, 5), (0.25, 0.5, 0.125))


def test_a_seed_without_its_reference_or_with_other_rounds_has_no_loss() -> None:
    other = made("krum", "label_flip", 1, [0.5] * 5, rounds=[0, 5, 10, 20, 40])
    group = grouped(made("fedavg", "none", 1, [0.5] * 5), made("krum", "label_flip", 0, [0.5] * 5), other)
    assert metrics.loss(group, "krum", "label_flip") == Sample((), ())
    assert math.isnan(metrics.loss(group, "krum", "label_flip").mean)


def test_the_undefended_run_without_attack_loses_nothing() -> None:
    group = grouped(*(made("fedavg", "none", seed, [0.1, 0.7, 0.8, 0.9, 0.9]) for seed in range(3)))
    assert metrics.fidelity(group, "fedavg").values == (0.0, 0.0, 0.0)


def test_a_difference_of_samples_keeps_the_seeds_that_both_have() -> None:
    ours, theirs = Sample((0, 1, 3), (1.0, 2.0, 4.0)), Sample((3, 0, 2), (1.0, 0.5, 9.0))
    assert ours.minus(theirs) == Sample((0, 3), (0.5, 3.0))
    assert ours.minus(Sample((), ())) == Sample((), ())


def test_an_average_is_taken_seed_by_seed_over_the_seeds_that_all_have() -> None:
    samples = [Sample((0, 1, 2), (1.0, 2.0, 3.0)), Sample((2, 1), (5.0, 0.0))]
    assert inference.averaged(samples) == Sample((1, 2), (1.0, 4.0))
    assert inference.averaged([]) == Sample((), ())


# Other rates


def test_success_is_the_mean_of_the_curve_without_what_came_before_the_attack() -> None:
    success = {"success": [None, None, 0.5, 0.75, 1.0], "success_untriggered": [None, None, 0.0, 0.0, 0.75]}
    group = grouped(made("fedavg", "none", 0, [0.5] * 5), made("krum", "scaling", 0, [0.5] * 5, **success))
    assert metrics.success(group, "krum", "scaling") == Sample((0,), (0.75,))
    assert metrics.untriggered(group, "krum", "scaling") == Sample((0,), (0.25,))
    assert metrics.success(group, "fedavg", "none") == Sample((), ())
    assert group.targeted("scaling")
    assert not group.targeted("none")


def test_a_rate_of_trust_is_the_mean_of_the_rounds_that_have_it() -> None:
    rates = {"malicious_share": [None, 0.25, 0.75, None, 0.5], "precision": [None] * 5, "recall": [1.0] * 5}
    group = grouped(made("krum", "label_flip", 3, [0.5] * 5, trust=rates))
    assert metrics.trust(group, "krum", "label_flip", "malicious_share") == Sample((3,), (0.5,))
    assert metrics.trust(group, "krum", "label_flip", "precision") == Sample((), ())
    assert metrics.trust(group, "krum", "label_flip", "recall") == Sample((3,), (1.0,))


def test_final_is_the_accuracy_after_the_last_round() -> None:
    group = grouped(made("krum", "none", 0, [0.0, 0.1, 0.2, 0.9, 0.4]), made("krum", "none", 1, [0.5] * 5))
    assert metrics.final(group, "krum", "none") == Sample((0, 1), (0.4, 0.5))


def test_server_time_is_a_mean_over_attacks_and_a_run_is_all_rounds() -> None:
    def timed(attack: str, seed: int, server: float) -> Record:
        return made("krum", attack, seed, [0.5] * 5, time={"server_s": server, "round_s": 2.0, "alone": True})

    group = grouped(timed("none", 0, 1.0), timed("label_flip", 0, 2.0), timed("scaling", 0, 6.0), timed("none", 1, 5.0))
    assert metrics.server_seconds(group, "krum") == Sample((0, 1), (3.0, 5.0))
    assert metrics.run_seconds(group, "krum", "none") == Sample((0, 1), (80.0, 80.0))


@pytest.mark.parametrize(
    ("ends", "classes", "fallen"),
    [
        ([0.19], 10, True),
        ([0.2], 10, False),
        ([0.9, 0.1], 10, True),
        ([0.9, 0.9], 10, False),
        ([0.05], 30, True),
        ([0.07], 30, False),
        ([0.59], 2, True),
        ([0.6], 2, False),
        ([0.29], 5, True),
        ([0.31], 5, False),
    ],
)
def test_a_model_is_collapsed_below_twice_chance_or_near_chance_in_any_seed(
    ends: list[float], classes: int, fallen: bool
) -> None:
    records = [
        made("krum", "label_flip", seed, [0.9, 0.9, 0.9, 0.0, end], classes=classes) for seed, end in enumerate(ends)
    ]
    group = grouped(*records, made("median", "label_flip", 0, [0.0] * 5), made("krum", "none", 0, [0.0] * 5))
    assert metrics.collapsed(group, "krum", "label_flip") == fallen


# The worst case


def test_the_worst_attack_is_the_one_of_the_largest_mean() -> None:
    samples = {"a": sample(1.0, 1.0, 1.0), "b": sample(0.0, 0.0, 4.5), "c": sample(1.4, 1.4, 1.4)}
    assert metrics.worst(samples, (0, 1, 2)) == ("b", samples["b"])


@pytest.mark.parametrize(
    "samples",
    [
        {},
        {"a": sample(1.0, 2.0, 3.0), "b": sample(1.0, 2.0)},
        {"a": Sample((0, 1, 3), (1.0, 2.0, 3.0))},
        {"a": Sample((), ())},
    ],
    ids=str,
)
def test_an_incomplete_row_has_no_worst_attack(samples: Mapping[str, Sample]) -> None:
    assert metrics.worst(samples, (0, 1, 2)) is None


# Groups


def test_records_that_cannot_be_compared_are_kept_apart() -> None:
    base = made("krum", "none", 0, [0.5] * 5)

    def variant(**settings: Any) -> Record:
        cell = Cell("digits", "krum", "none", 0, **{"rounds": 40, **settings})
        return base | {"cell": cell.as_json()}

    others = [
        variant(rounds=80), variant(clients=20), variant(malicious=3), variant(rate=0.5), base | {"protocol": 0},
        base | {"cell": Cell("location30", "krum", "none", 0, rounds=40).as_json()},
    ]  # fmt: skip
    assert len(metrics.groups([base, *others])) == 1 + len(others)
    assert len(metrics.groups([base, variant(malicious=15, start=10), made("median", "scaling", 4, [0.5] * 5)])) == 1


def test_what_did_not_finish_is_kept_with_its_reason() -> None:
    broken = failed(Cell("digits", "krum", "label_flip", 2, rounds=40), REGISTRY, "out of memory")
    group = grouped(made("krum", "none", 0, [0.5] * 5), broken)
    assert group.missing == {("krum", "label_flip", 2): "failed: out of memory"}
    assert group.seeds("krum", "label_flip") == []
    assert group.attacks == ["label_flip"]
    assert metrics.groups([broken]) == []


def test_defenses_are_listed_baseline_first_and_each_amplified_form_after_its_base() -> None:
    names = ["median", "amp+krum", "cosden", "amp(kernel=3)+median", "krum", "amp+cosden", "fedavg", "nnm+krum"]
    group = grouped(*(made(name, "none", 0, [0.5] * 5) for name in names))
    found = group.defenses
    assert found[0] == "fedavg"
    assert sorted(found) == sorted(names)
    for name in found:
        if metrics.base_of(name) != name:
            assert found[found.index(name) - 1] == metrics.base_of(name)


@pytest.mark.parametrize(
    ("defense", "base"),
    [
        ("krum", "krum"),
        ("amp+krum", "krum"),
        ("amp(kernel=3)+krum", "krum"),
        ("amp+nnm+krum", "nnm+krum"),
        ("nnm+amp+krum", "nnm+amp+krum"),
        ("sample+krum", "sample+krum"),
        ("amp+clip(bound=1e+20)", "clip(bound=1e+20)"),
    ],
)
def test_the_base_of_an_amplified_form_is_the_rest_of_its_spec(defense: str, base: str) -> None:
    assert metrics.base_of(defense) == base


# The order of rows


def test_rows_are_in_natural_order_with_the_baseline_first_and_each_base_before_its_amplified_forms() -> None:
    defenses = [
        "fedavg", "krum", "amp+krum", "amp(kernel=9)+krum", "amp(kernel=17)+krum", "krum(m=2)", "amp+krum(m=2)",
        "krum(m=10)", "median",
    ]  # fmt: skip
    attacks = ["ipm(epsilon=0.001)", "ipm(epsilon=0.01)", "ipm(epsilon=9)", "ipm(epsilon=17)", "lie"]
    group = grouped(*(made(d, a, 0, [0.5] * 5) for d in reversed(defenses) for a in ["none", *reversed(attacks)]))
    assert group.defenses == defenses
    assert group.attacks == attacks


def test_tables_are_in_the_order_of_their_settings_numbers_by_value() -> None:
    settings: list[dict[str, Any]] = [
        {"clients": 6}, {"clients": 20, "partition": "dirichlet(alpha=0.5)"},
        {"clients": 20, "partition": "dirichlet(alpha=10.0)"}, {"clients": 100}, {},
    ]  # fmt: skip
    records = [made("krum", "none", 0, [0.5] * 5) for _ in settings]
    for record, changed in zip(records, settings, strict=True):
        record["cell"] = Cell("digits", "krum", "none", 0, rounds=40, **changed).as_json()
    titles = [{**group.settings} for group in metrics.groups(reversed(records))]
    assert titles == [changed | {"rounds": 40} for changed in settings]
