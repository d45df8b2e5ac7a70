"""The time of a grid, from parts that were measured: each round, attack and evaluation counts where it takes place."""

from __future__ import annotations

from typing import Any

import pytest

from agrbench.cells import Cell
from agrbench.simulation.costs import Absent, Costs, Fault, Measured

SETTINGS: dict[str, Any] = {"clients": 10, "rounds": 40, "start": 20}
CALM = Cell("digits", "fedavg", "none", **SETTINGS)
ATTACKED = Cell("digits", "krum", "lie", **SETTINGS)


def costs(*found: Measured | Fault | Absent) -> Costs:
    made = Costs()
    for each in found:
        made.add(each)
    return made


KNOWN = (
    Measured("start", CALM, 5.0),
    Measured("begin", CALM, 7.0),
    Measured("train", CALM, 1.0),
    Measured("test", CALM, 0.5),
    Measured("server", CALM, 0.1),
    Measured("server", Cell("digits", "krum", "none", **SETTINGS), 0.3),
    Measured("forge", Cell("digits", "fedavg", "lie", **SETTINGS), 0.2),
    Measured("rehearsals", Cell("digits", "fedavg", "lie", **SETTINGS), 4.0),
)


def test_a_cell_takes_its_rounds_its_attacked_rounds_and_its_evaluations() -> None:
    assert costs(*KNOWN).seconds([CALM], 1) == pytest.approx(5 + 7 + 40 * 1.1 + 5 * 0.5, rel=1e-12)
    forging = 21 * (0.2 + 4 * 0.3)  # rounds 20 to 40; krum is rehearsed, and fedavg was measured
    assert costs(*KNOWN).seconds([ATTACKED], 1) == pytest.approx(5 + 7 + 40 * 1.3 + forging + 5 * 0.5, rel=1e-12)


def test_rounds_before_the_attack_count_once_a_trunk_and_data_once_a_seed() -> None:
    calm = Cell("digits", "krum", "none", **SETTINGS)
    alone, both = (costs(*KNOWN).seconds(cells, 1) for cells in ([calm], [calm, ATTACKED]))
    assert both - alone == pytest.approx(21 * (1.3 + 0.2 + 4 * 0.3) + 3 * 0.5, rel=1e-12)
    other = Cell("digits", "krum", "none", seed=1, **SETTINGS)
    assert costs(*KNOWN).seconds([calm, other], 1) - alone == pytest.approx(alone - 5, rel=1e-12)


def test_jobs_share_the_rounds_but_each_loads_the_data() -> None:
    cells = [CALM, Cell("digits", "krum", "none", **SETTINGS)]
    one, two, many = (costs(*KNOWN).seconds(cells, jobs) for jobs in (1, 2, 50))
    assert one - 12 == pytest.approx(2 * (two - 12), rel=1e-12)
    assert many == two


def test_nobody_forges_without_malicious_clients_or_after_the_end() -> None:
    changes: list[dict[str, Any]] = [{"malicious": 0}, {"start": 50}]
    for change in changes:
        cell = Cell("digits", "krum", "lie", **SETTINGS | change)
        known = [found._replace(cell=cell) if found.part != "server" else found for found in KNOWN]
        assert costs(*known).value("forge", cell) == 0.2
        calm = costs(*known).seconds([cell], 1)
        assert calm == pytest.approx(costs(*known, Measured("forge", cell, 99.0)).seconds([cell], 1), rel=1e-12)


def test_what_was_not_measured_is_the_mean_of_its_like() -> None:
    median = Cell("digits", "median", "none", **SETTINGS)
    assert costs(*KNOWN).value("server", median) == pytest.approx(0.2, rel=1e-12)
    elsewhere = Cell("mnist", "fedavg", "none", **SETTINGS)
    mixed = costs(*KNOWN, Measured("server", elsewhere, 8.0))
    assert mixed.value("server", median) == pytest.approx(0.2, rel=1e-12)
    assert mixed.value("server", Cell("mnist", "median", "none", **SETTINGS)) == 8.0
    assert mixed.value("train", elsewhere) == 1.0
    had, left = costs(*KNOWN).sort("server", [CALM, ATTACKED, median])
    assert ([cell.defense for cell in had], [cell.defense for cell in left]) == (["fedavg", "krum"], ["median"])
    assert costs(*KNOWN).sort("forge", [CALM, ATTACKED]) == ([ATTACKED], [])


def test_cells_with_a_fault_or_without_data_are_known() -> None:
    made = costs(Fault("server", Cell("digits", "krum", "none", **SETTINGS), "why"), Absent("mnist", "get it"))
    assert made.fails(ATTACKED)
    assert not made.fails(CALM)
    assert made.fails(Cell("mnist", "fedavg", "none"))
    assert costs(Fault("train", CALM, "why")).fails(ATTACKED)
