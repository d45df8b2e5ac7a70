"""Figures: what they draw is what the metrics say, whatever the order of the records."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import agrbench
from agrbench.cells import Cell
from agrbench.errors import AgrbenchError
from agrbench.results import metrics, statistics
from agrbench.results.figures import KINDS, drawing
from agrbench.results.figures.pareto import front
from agrbench.results.metrics import Group
from agrbench.results.record import Record
from agrbench.results.searches import recorded
from agrbench.results.tables import breaking, triad, worst
from agrbench.results.tables.matrix import METRICS
from tests.helpers.figures import by, drawn, said
from tests.helpers.records import REGISTRY, fill, finished
from tests.helpers.triad import ATTACKS, DEFENSES, PERCENT, SEEDS, everything, without


def group(records: list[Record]) -> Group:
    (only,) = metrics.groups(records)
    return only


def draw(kind: str, records: list[Record], *given: Any, **options: Any) -> Any:
    return drawing(kind)(metrics.groups(records), *given, **options)


@pytest.mark.parametrize("metric", ["loss", "fidelity", "time", "trust", "final"])
@pytest.mark.parametrize("kind", ["bars", "heatmap"])
def test_bars_and_heat_maps_hold_the_numbers_of_the_metrics(kind: str, metric: str) -> None:
    found, of = group(everything()), METRICS[metric]
    rows = by(drawn(draw(kind, everything(), metric=metric), "value"), "defense", "attack")
    assert set(rows) == {(defense, attack) for defense in DEFENSES for attack in of.rows(found)}
    for (defense, attack), row in rows.items():
        sample = of.of(found, defense, attack)
        within = statistics.interval(sample)
        assert row["value"] == pytest.approx(of.scale * sample.mean, abs=1e-12)
        assert within is not None
        assert (row["low"], row["high"]) == pytest.approx((of.scale * within.low, of.scale * within.high), abs=1e-9)
        assert row["seeds"] == len(SEEDS)


def test_bars_of_the_worst_and_the_mean_loss_hold_the_numbers_of_their_tables() -> None:
    rows = by(drawn(draw("bars", everything(), metric="worst"), "value"), "defense")
    assert {name: (row["value"], row["low"], row["high"], row["attack"]) for (name,), row in rows.items()} == {
        row["defense"]: (row["loss"], row["low"], row["high"], row["attack"])
        for row in worst.table(group(everything())).data
    }
    rows = by(drawn(draw("bars", everything(), metric="mean"), "value"), "defense")
    assert {name: row["value"] for (name,), row in rows.items()} == {
        row["defense"]: row["mean_loss"] for row in triad.table(group(everything())).data
    }


def test_a_curve_is_the_mean_of_the_seeds_in_each_round() -> None:
    rows = drawn(draw("curves", everything()), "round")
    ours = by((row for row in rows if row["rule"] not in ("no attack", "fedavg")), "defense", "attack", "round")
    assert len(ours) == 2 * 2 * 3
    for defense in ("krum", "amp+krum"):
        for attack in ATTACKS[1:]:
            lost = 1 if (defense, attack) == ("amp+krum", "gradient_ascent") else 0  # the mean of 0, 1 and 2 points
            values = [ours[defense, attack, number]["value"] for number in (0, 10, 20)]
            assert values == pytest.approx([10, *(each - lost for each in PERCENT[defense, attack])])
            within = ours[defense, attack, 20]["low"], ours[defense, attack, 20]["high"]
            assert within == pytest.approx((values[2] - 2.484 * lost, values[2] + 2.484 * lost), abs=1e-3)  # t, 2 df


def test_curves_mark_the_attack_and_show_what_happens_without_one() -> None:
    chart = draw("curves", everything())
    calm = [row for row in drawn(chart, "round") if row["rule"] == "no attack"]
    assert {(row["form"], row["attack"]) for row in calm} == {
        (form, attack) for form in ("as published", "amplified") for attack in ATTACKS[1:]
    }
    assert [row["value"] for row in calm if row["round"] == 20] == pytest.approx([92] * 4)
    assert {row["first"] for row in drawn(chart, "first")} == {10}
    assert "3 seeds; bands: 95% interval (Student's t)" in said(chart)
    assert "Dotted: the attack's first round." in said(chart)


def test_one_seed_has_no_bands_and_the_caption_says_so() -> None:
    chart = draw("curves", everything([0]))
    assert {row["low"] for row in drawn(chart, "low")} == {None}
    assert "One seed" in said(chart)


def test_the_numbers_do_not_depend_on_the_order_of_the_records() -> None:
    shuffled = random.Random(0).sample(everything(), len(everything()))
    for kind, options in (("bars", {"metric": "loss"}), ("heatmap", {}), ("curves", {}), ("pareto", {})):
        assert draw(kind, shuffled, **options).to_dict() == draw(kind, everything(), **options).to_dict(), kind


def test_a_field_of_a_heat_map_without_runs_is_crossed_out() -> None:
    records = everything()
    for seed in SEEDS:
        records = without(records, "krum", "label_flip", seed)
    chart = draw("heatmap", records)
    lacking = [row for row in drawn(chart, "attack") if "value" not in row]
    assert lacking == [{"defense": "krum", "attack": "label_flip"}]
    assert "Crossed out" in said(chart)
    assert "Crossed out" not in said(draw("heatmap", everything()))


def test_forms_with_their_own_hyperparameters_are_never_drawn_over_one_another() -> None:
    records = [
        finished(dataclasses.replace(Cell.from_json(record["cell"]), defense=defense), record["accuracy"])
        for record in everything()
        for defense in ("amp+krum", "amp(kernel=3)+krum")
        if record["cell"]["defense"] == "amp+krum"
    ] + [record for record in everything() if record["cell"]["defense"] == "fedavg"]
    rows = drawn(draw("bars", records), "value")
    assert len({(row["rule"], row["form"]) for row in rows}) == 3
    assert "amp(kernel=3)+krum" in {row["rule"] for row in rows}


# Loss against time


def test_pareto_holds_the_numbers_of_the_triad() -> None:
    rows = by(drawn(draw("pareto", everything()), "server_ms"), "defense")
    told = {row["defense"]: row for row in triad.table(group(everything())).data}
    assert set(rows) == {(name,) for name in told}
    for (name,), row in rows.items():
        assert [row["value"], row["server_ms"], row["fidelity_loss"]] == [
            told[name][field] for field in ("worst_loss", "server_ms", "fidelity_loss")
        ]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12))
def test_the_front_has_those_that_none_beats(costs: list[tuple[int, int]]) -> None:
    named = [(str(place), float(time), float(loss)) for place, (time, loss) in enumerate(costs)]
    found = front(named)
    at = {name: (time, loss) for name, time, loss in named}

    def beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
        return one != other and one[0] <= other[0] and one[1] <= other[1]

    unbeaten = {at[name] for name in at if not any(beats(at[other], at[name]) for other in at)}
    assert {at[name] for name in found} == unbeaten
    assert len(found) == len(unbeaten)  # of equal ones, one
    assert [at[name][0] for name in found] == sorted(at[name][0] for name in found)


# Sweeps


def swept(defense: str, attack: str, seed: int, lost: float, **more: Any) -> Record:
    cell = Cell("digits", defense, attack, seed, rounds=20, **more)
    return finished(cell, [0.1, 0.9 - lost / 100, 0.9 - lost / 100])


def grid(defense: str, lost: float, **more: Any) -> list[Record]:
    """Make the records of a defense that loses some points under an attack, and those it is compared with."""
    return [
        swept(name, attack, seed, points, **more)
        for seed in (0, 1)
        for name, attack, points in (
            ("fedavg", "none", 0),
            ("fedavg", "lie", 40),
            (defense, "none", 0),
            (defense, "lie", lost),
        )
    ]


def along(chart: Any) -> dict[Any, float]:
    """Return the values of the median by their place."""
    rows = by((row for row in drawn(chart, "x") if row["rule"] == "median"), "x")
    return {x: row["value"] for (x,), row in rows.items()}


@settings(max_examples=6, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(
    st.dictionaries(st.integers(4, 400), st.integers(0, 60), min_size=2, max_size=6),
    st.sampled_from(["loss", "worst", "mean"]),
)
def test_a_sweep_over_clients_draws_each_loss_at_its_number(losses: dict[int, int], metric: str) -> None:
    records = [record for clients, lost in losses.items() for record in grid("median", lost, clients=clients)]
    chart = draw("sweep", records, "clients", REGISTRY, metric=metric)
    rows = by((row for row in drawn(chart, "x") if row["rule"] == "median"), "x")
    assert {x: row["value"] for (x,), row in rows.items()} == pytest.approx(losses)
    assert {row["panel"] for row in rows.values()} == {"lie" if metric == "loss" else ""}
    assert "30% malicious" in said(chart)


def test_a_sweep_over_a_kernel_has_a_default_and_level_lines_for_those_without() -> None:
    losses = {"krum": 20, "amp+krum": 11, "amp(kernel=3)+krum": 12, "amp(kernel=7)+krum": 13}
    records = {str(record["cell"]): record for name, lost in losses.items() for record in grid(name, lost)}
    chart = draw("sweep", list(records.values()), "amp.kernel", REGISTRY)
    rows = drawn(chart, "x")
    amplified = by((row for row in rows if row["form"] == "amplified"), "x")
    assert {x: row["value"] for (x,), row in amplified.items()} == pytest.approx({2: 11, 3: 12, 7: 13})
    assert {row["rule"] for row in amplified.values()} == {"krum"}
    level = by((row for row in rows if row["rule"] == "krum" and row["form"] == "as published"), "x")
    assert {x: row["value"] for (x,), row in level.items()} == pytest.approx({2: 20, 3: 20, 7: 20})
    assert not any(row["own"] for row in level.values())
    assert "no amp.kernel" in said(chart)


def test_a_sweep_over_the_malicious_share_is_in_percent() -> None:
    records = [record for count in (2, 5) for record in grid("median", count, clients=20, malicious=count)]
    rows = by(
        (row for row in drawn(draw("sweep", records, "malicious", REGISTRY), "x") if row["rule"] == "median"), "x"
    )
    assert {x: row["value"] for (x,), row in rows.items()} == pytest.approx({10: 2, 25: 5})


def test_a_sweep_over_a_partitions_hyperparameter() -> None:
    alphas = {0.1: 30, 1.0: 9}
    records = [
        record for a, lost in alphas.items() for record in grid("median", lost, partition=f"dirichlet(alpha={a})")
    ]
    rows = by((row for row in drawn(draw("sweep", records, "alpha", REGISTRY), "x") if row["rule"] == "median"), "x")
    assert {x: row["value"] for (x,), row in rows.items()} == pytest.approx(alphas)


def test_a_sweep_over_what_no_record_varies_is_refused() -> None:
    for over, told in (("clients", "one value"), ("nope", "no value"), ("krum.kernel", "no value")):
        with pytest.raises(AgrbenchError, match=rf"--over {over}: the records have {told} of it; write"):
            draw("sweep", everything(), over, REGISTRY)


def test_a_sweep_that_would_draw_two_values_at_one_place_is_refused() -> None:
    partitions = ("dirichlet(alpha=0.1)", "dirichlet(alpha=0.1,malicious='all')", "dirichlet(alpha=1.0)")
    records = [record for each in partitions for record in grid("median", 5, partition=each)]
    with pytest.raises(AgrbenchError, match=r"has 2 values at 0.1, because these records differ in more"):
        draw("sweep", records, "alpha", REGISTRY)


# Breaking points


def test_breaking_points_are_those_of_the_table() -> None:
    records = [
        record for count in range(11) for record in grid("median", 9 if count < 4 else 30, clients=20, malicious=count)
    ]
    (found,) = recorded(records, REGISTRY).values()
    told = {row["defense"]: row for row in breaking.table(found).data}
    assert (told["median"]["held"], told["median"]["broken"]) == (3, 4)
    rows = by(drawn(drawing("breaking")(records, REGISTRY), "share"), "defense")
    assert (rows["median",]["held"], rows["median",]["share"], rows["median",]["end"]) == (15, 20, "breaks")
    assert rows["fedavg",]["breaks_at"] == f"{told['fedavg']['broken']}/20"


def test_a_defense_that_holds_is_drawn_to_its_limit() -> None:
    records = [record for count in range(11) for record in grid("median", 1, clients=20, malicious=count)]
    row = by(drawn(drawing("breaking")(records, REGISTRY), "share"), "defense")["median",]
    limit = next(each.limit for each in recorded(records, REGISTRY).popitem()[1] if each.cell.defense == "median")
    assert (row["share"], row["held"], row["end"]) == (5 * limit, 5 * limit, "holds to its limit")


# All kinds


def test_there_is_a_function_for_each_kind_and_it_takes_paths_and_results(tmp_path: Path) -> None:
    assert set(KINDS) | {"save"} == set(agrbench.plot.__all__)
    folder = fill(tmp_path / "records", everything())
    for kind in ("curves", "bars", "heatmap", "pareto"):
        function = getattr(agrbench.plot, kind)
        assert function(folder).to_dict() == function(agrbench.load(folder)).to_dict(), kind


def test_more_lines_than_there_are_colours_are_refused() -> None:
    names = ["median", "krum", "bulyan", "euden", "cosden", "mgden", "fltrust", "lasa"]
    records = {str(record["cell"]): record for name in names for record in grid(name, 5)}
    with pytest.raises(AgrbenchError, match=r"can tell 7 defenses apart, and these records have 8: .*; choose some"):
        draw("curves", list(records.values()))


@pytest.mark.parametrize("width", [1.0, 50.0, float("nan")])
def test_a_width_that_no_paper_has_is_refused(width: float) -> None:
    with pytest.raises(AgrbenchError, match=r"write 3\.3 for a column"):
        draw("bars", everything(), width=width)
