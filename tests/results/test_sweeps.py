"""Figures along a hyperparameter or setting, and of breaking points: what they draw is what the metrics say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from agrbench.cells import Cell
from agrbench.errors import AgrbenchError
from agrbench.results import metrics
from agrbench.results.figures import drawing
from agrbench.results.record import Record
from agrbench.results.searches import recorded
from agrbench.results.tables import breaking
from tests.helpers.figures import by, drawn, said
from tests.helpers.records import REGISTRY, finished
from tests.helpers.triad import everything


def draw(kind: str, records: list[Record], *given: Any, **options: Any) -> Any:
    return drawing(kind)(metrics.groups(records), *given, **options)


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


def test_more_lines_than_there_are_colours_are_refused() -> None:
    names = ["median", "krum", "bulyan", "euden", "cosden", "mgden", "fltrust", "lasa"]
    records = {str(record["cell"]): record for name in names for record in grid(name, 5)}
    with pytest.raises(AgrbenchError, match=r"can tell 7 defenses apart, and these records have 8: .*; choose some"):
        draw("curves", list(records.values()))
