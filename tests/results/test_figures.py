"""Figures: what they draw is what the metrics say, whatever the order of the records."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import agrbench
from agrbench.cells import Cell
from agrbench.errors import AgrbenchError
from agrbench.results import metrics, statistics
from agrbench.results.figures import KINDS, drawing
from agrbench.results.figures.pareto import front
from agrbench.results.metrics import Group
from agrbench.results.record import Record
from agrbench.results.tables import triad, worst
from agrbench.results.tables.matrix import METRICS
from tests.helpers.figures import by, drawn, held, said
from tests.helpers.records import fill, finished
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


def test_every_panel_has_the_curves_of_its_attack_and_form_even_if_others_have_none() -> None:
    """A panel without records keeps its place, and nothing else is drawn there."""
    records = [
        record
        for record in everything()
        if record["cell"]["attack"] != "label_flip" or "krum" not in record["cell"]["defense"]
    ] + [
        finished(Cell("digits", "krum", attack, 0, clients=30, rounds=20), [0.1, 0.2, 0.3])
        for attack in ("none", "lie")
    ]
    spec = draw("curves", records).to_dict()
    titles = [row["title"]["text"] for row in spec["vconcat"]]
    assert len(titles) == len(set(titles)) == 3
    shown = 0
    for row, title in zip(spec["vconcat"], titles, strict=True):
        for part, form in zip(row["hconcat"], ("as published", "amplified"), strict=True):
            mine = [each for each in held(part) if "panel" in each]
            assert {(each["panel"], each["form"]) for each in mine} <= {(title, form)}
            shown += len(mine)
    assert shown == sum("panel" in each for each in held(spec)) > 0
    assert "Empty: no records." in said(draw("curves", records))


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


# All kinds


def test_there_is_a_function_for_each_kind_and_it_takes_paths_and_results(tmp_path: Path) -> None:
    assert set(KINDS) | {"save"} == set(agrbench.plot.__all__)
    folder = fill(tmp_path / "records", everything())
    for kind in ("curves", "bars", "heatmap", "pareto"):
        function = getattr(agrbench.plot, kind)
        assert function(folder).to_dict() == function(agrbench.load(folder)).to_dict(), kind


@pytest.mark.parametrize("width", [1.0, 50.0, float("nan")])
def test_a_width_that_no_paper_has_is_refused(width: float) -> None:
    with pytest.raises(AgrbenchError, match=r"write 3\.3 for a column"):
        draw("bars", everything(), width=width)
