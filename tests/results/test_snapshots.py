"""Snapshots of a round, and the figures that show them: views, neighbours; and costs from reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA

import agrbench
from agrbench.cells import Cell
from agrbench.errors import AgrbenchError
from agrbench.results.figures.neighbours import angles
from agrbench.results.figures.views import components
from agrbench.results.snapshots import Snapshot, read
from agrbench.simulation.prefixes import Tree
from agrbench.simulation.snapshots import take
from agrbench.simulation.traces import trace
from tests.helpers.commands import invoke
from tests.helpers.figures import drawn, said
from tests.helpers.records import REGISTRY

CELL = Cell("digits", "amp(kernel=3)+krum", "label_flip", clients=10, rounds=20, start=3)
SHAPES = [(64, 64), (64,), (64, 10), (10,)]


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    return take(CELL, 4, REGISTRY)


def made(updates: Any, malicious: tuple[int, ...] = ()) -> Snapshot:
    """Make a snapshot of some rows, which are pooled to themselves doubled."""
    rows = np.asarray(updates, dtype=np.float32)
    n = len(rows)
    clients = np.arange(10, 10 + n)
    cell = Cell("digits", "krum", "ipm", clients=max(n, 2), rounds=20)
    return Snapshot(cell, 7, clients, np.array(malicious, dtype=int), rows, 2 * rows, np.full(n, 1 / n))


def saved(tmp_path: Path, *snapshots: Snapshot) -> list[Path]:
    for place, each in enumerate(snapshots):
        each.save(tmp_path / f"{place}.npz")
    return [tmp_path / f"{place}.npz" for place in range(len(snapshots))]


def test_a_snapshot_holds_what_the_grid_plays_in_that_round(snapshot: Snapshot) -> None:
    played = trace(CELL, Tree(REGISTRY)).rounds[3]
    assert played.number == snapshot.number == 4
    assert snapshot.clients.tolist() == list(played.clients)
    assert snapshot.malicious.tolist() == list(played.malicious)
    assert len(snapshot.malicious) == 3
    np.testing.assert_array_equal(snapshot.updates, played.updates.numpy())
    np.testing.assert_allclose(snapshot.weights @ snapshot.updates, played.step.numpy(), atol=1e-6)


def test_the_pooled_rows_are_the_amplifiers(snapshot: Snapshot) -> None:
    layout = SHAPES if snapshot.updates.shape[1] == sum(int(np.prod(each)) for each in SHAPES) else None
    assert layout is not None, snapshot.updates.shape
    np.testing.assert_array_equal(snapshot.pooled, agrbench.amplify(snapshot.updates, layout, kernel=3))


def test_without_a_column_stage_the_pooled_rows_are_those_of_amp() -> None:
    plain = take(Cell("digits", "median", "none", clients=5, rounds=10), 1, REGISTRY)
    np.testing.assert_array_equal(plain.pooled, agrbench.amplify(plain.updates, SHAPES, kernel=2))
    assert plain.malicious.tolist() == []


def test_nobody_is_malicious_before_the_attack() -> None:
    assert take(CELL, 2, REGISTRY).malicious.tolist() == []


def test_a_snapshot_is_read_as_it_was_written(snapshot: Snapshot, tmp_path: Path) -> None:
    (path,) = saved(tmp_path, snapshot)
    again = read(path)
    assert (again.cell, again.number) == (snapshot.cell, snapshot.number)
    for name in ("clients", "malicious", "updates", "pooled", "weights"):
        np.testing.assert_array_equal(getattr(again, name), getattr(snapshot, name))


@pytest.mark.parametrize("number", [0, 21])
def test_a_round_that_the_cell_has_not_is_refused(number: int) -> None:
    with pytest.raises(AgrbenchError, match=f"--round {number}: the cell has rounds 1 to 20"):
        take(CELL, number, REGISTRY)


def test_files_that_are_no_snapshots_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "other.npz", updates=np.zeros(3))
    for name, told in (("text", "no snapshot"), ("other", "no snapshot"), ("absent", "no such file")):
        with pytest.raises(AgrbenchError, match=told):
            read(tmp_path / f"{name}.npz")
    torn = made(np.eye(4))
    bad = Snapshot(torn.cell, 7, torn.clients, np.array([9]), torn.updates, torn.pooled, torn.weights)
    with pytest.raises(AgrbenchError, match="no snapshot"):
        read(saved(tmp_path, bad)[0])


def test_the_command_writes_a_snapshot_that_both_figures_draw(tmp_path: Path) -> None:
    out = tmp_path / "snap.npz"
    words = ["-D", "digits", "-d", "krum", "-a", "ipm", "--clients", 8, "--rounds", 10, "--start", 1]
    invoke("snapshot", *words, "--round", 2, "--out", out)
    assert read(out).cell == Cell("digits", "krum", "ipm", clients=8, rounds=10, start=1)
    for kind in ("views", "neighbours"):
        invoke("plot", kind, out, "--out", tmp_path / f"{kind}.svg")
        assert (tmp_path / f"{kind}.svg").read_text().startswith("<svg")


# Views


def test_components_are_those_of_scikit_learn() -> None:
    rows = np.random.default_rng(0).normal(size=(12, 40)) * np.linspace(0.1, 3, 40)
    places, shares = components(rows)
    known = PCA(2, svd_solver="full").fit(rows)
    theirs = known.transform(rows)
    signs = np.sign((places * theirs).sum(0))
    np.testing.assert_allclose(places * signs, theirs, atol=1e-9)
    np.testing.assert_allclose(shares, known.explained_variance_ratio_, atol=1e-12)


def test_equal_updates_lie_at_one_place() -> None:
    places, shares = components(np.ones((5, 7)))
    np.testing.assert_allclose(places, 0, atol=1e-12)
    assert shares == [0.0, 0.0]


def test_a_view_shows_who_is_malicious(tmp_path: Path) -> None:
    rows = np.random.default_rng(1).normal(size=(6, 9))
    chart = agrbench.plot.views(saved(tmp_path, made(rows, malicious=(1, 4))))
    points = drawn(chart, "sender", "x")
    assert {(row["client"], row["sender"]) for row in points} == {
        (10 + row, "malicious" if row in (1, 4) else "honest") for row in range(6)
    }
    assert len(points) == 12  # each client as sent and pooled
    assert "round 7" in said(chart)


@pytest.mark.parametrize("kind", ["views", "neighbours"])
def test_updates_that_are_not_finite_are_refused(kind: str, tmp_path: Path) -> None:
    rows = np.eye(5)
    rows[2, 3] = np.inf
    with pytest.raises(AgrbenchError, match="not finite"):
        getattr(agrbench.plot, kind)(saved(tmp_path, made(rows)))


def test_two_updates_are_too_few_for_a_plane(tmp_path: Path) -> None:
    with pytest.raises(AgrbenchError, match="has 2 updates"):
        agrbench.plot.views(saved(tmp_path, made(np.eye(2))))


# Neighbours


def test_arrows_lie_at_the_angles_and_the_nearest_are_solid(tmp_path: Path) -> None:
    rows = np.random.default_rng(2).normal(size=(9, 6)) + 1
    chart = agrbench.plot.neighbours(saved(tmp_path, made(rows, malicious=(0, 5))), client=13, nearest=4)
    cosines = rows @ rows[3] / np.linalg.norm(rows, axis=1) / np.linalg.norm(rows[3])
    arrows = {row["client"] - 10: row for row in drawn(chart, "similarity")}
    for place, arrow in arrows.items():
        assert arrow["similarity"] == pytest.approx(cosines[place], abs=1e-6)
        assert (arrow["x"] ** 2 + arrow["y"] ** 2, arrow["y"]) == pytest.approx((1, cosines[place]), abs=1e-6)
    nearest = sorted((place for place in range(9) if place != 3), key=lambda place: -cosines[place])[:4]
    assert {place for place, arrow in arrows.items() if arrow["near"]} == set(nearest)
    bad = len({0, 5} & set(nearest))
    heading = f"{bad} of 4 malicious, sum {sum(cosines[place] for place in nearest):.1f}"
    assert heading in str(chart.to_dict())


def test_the_client_is_by_default_the_first_honest_one(tmp_path: Path) -> None:
    chart = agrbench.plot.neighbours(saved(tmp_path, made(np.eye(5) + 0.5, malicious=(0, 1))))
    assert "client 12; solid: its 3 nearest" in said(chart)


def test_clients_and_numbers_that_are_not_there_are_refused(tmp_path: Path) -> None:
    files = saved(tmp_path, made(np.eye(5)))
    for told, options in (
        ("--client 3", {"client": 3}),
        ("--nearest 5", {"nearest": 5}),
        ("--nearest 0", {"nearest": 0}),
    ):
        with pytest.raises(AgrbenchError, match=told):
            agrbench.plot.neighbours(files, **options)


def test_a_zero_update_has_no_angle() -> None:
    with pytest.raises(AgrbenchError, match="zero"):
        angles(np.array([[1.0, 0], [0, 0], [0, 1]]), 0)


# Costs


def report(sizes: list[tuple[int, int]], **change: Any) -> dict[str, Any]:
    rows = [
        {
            "defense": name,
            "clients": n,
            "parameters": p,
            "seconds": n * p * 1e-6 * slow,
            "peak_bytes": n * p * 4,
            **change,
        }
        for n, p in sizes
        for name, slow in (("fedavg", 1), ("krum", 3), ("amp+krum", 2))
    ]
    return {"kind": "bench", "environment": {"device": "cpu", "threads": 2}, "repeat": 5, "rows": rows}


def test_costs_are_in_milliseconds_and_mebibytes_along_each_size() -> None:
    chart = agrbench.plot.cost(report([(10, 1000), (20, 1000), (10, 5000), (20, 5000)]))
    rows = drawn(chart, "ms")
    assert {(row["clients"], row["parameters"]) for row in rows} == {(10, 5000), (20, 5000), (20, 1000)}
    for row in rows:
        slow = {"fedavg": 1, "krum": 3, "amp+krum": 2}[row["defense"]]
        assert row["ms"] == pytest.approx(row["clients"] * row["parameters"] * 1e-3 * slow)
        assert row["MiB"] == pytest.approx(row["clients"] * row["parameters"] * 4 / 2**20)
    assert "against clients: 5,000 parameters; against parameters: 20 clients" in said(chart).lower()
    assert "2 threads, median of 5" in said(chart)


def test_without_memory_only_time_is_drawn() -> None:
    chart = agrbench.plot.cost(report([(10, 1000), (20, 1000)], peak_bytes=None))
    assert "peak memory" not in str(chart.to_dict())


def test_costs_of_a_single_size_are_refused() -> None:
    with pytest.raises(AgrbenchError, match="no defense that was measured at two sizes"):
        agrbench.plot.cost(report([(10, 1000)]))
