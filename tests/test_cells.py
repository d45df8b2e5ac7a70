"""Cells: settings mean what they say, in one form, and the key changes with every meaning and with nothing else."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agrbench.cells import Cell
from agrbench.errors import AgrbenchError

BASE = Cell("digits", "krum", "label_flip")


@st.composite
def cells(draw: st.DrawFn) -> Cell:
    """Draw cells from ranges so small that two of them often mean the same."""
    clients = draw(st.sampled_from([10, 50]))
    most = clients - 1
    return Cell(
        dataset=draw(st.sampled_from(["digits", "location30"])),
        defense=draw(st.sampled_from(["krum", "amp+krum"])),
        attack=draw(st.sampled_from(["none", "label_flip"])),
        seed=draw(st.integers(0, 1)),
        clients=clients,
        malicious=draw(st.sampled_from([0, 0.0, 0.1, 0.3, 3, 0.31, most, 1])),
        byzantine=draw(st.sampled_from([None, 0, 3, most])),
        rounds=draw(st.sampled_from([1, 20, 40, 80, 200])),
        start=draw(st.sampled_from([None, 10, 20, 50])),
        rate=draw(st.sampled_from([None, 0.5, 1.0])),
        threads=draw(st.integers(1, 2)),
        device=draw(st.sampled_from(["cpu", "cuda"])),
    )


def meaning(cell: Cell) -> tuple[object, ...]:
    """Spell out what a cell simulates, every default in place."""
    count = round(cell.malicious * cell.clients) if isinstance(cell.malicious, float) else cell.malicious
    bound = count if cell.byzantine is None else cell.byzantine
    quarter = cell.rounds // 40 * 10
    start = cell.start if cell.start is not None else max(10, quarter)
    rest = (cell.dataset, cell.defense, cell.attack, cell.seed, cell.clients, cell.rounds, cell.rate)
    return *rest, cell.threads, cell.device, count, bound, start


@given(one=cells(), two=cells())
def test_two_cells_share_a_key_exactly_if_they_mean_the_same(one: Cell, two: Cell) -> None:
    assert (one.key == two.key) == (meaning(one) == meaning(two))


@given(cell=cells(), data=st.data())
def test_changing_one_setting_changes_the_key_exactly_if_it_changes_the_meaning(
    cell: Cell, data: st.DataObject
) -> None:
    other = data.draw(cells())
    name = data.draw(st.sampled_from([f.name for f in dataclasses.fields(Cell) if f.name != "clients"]))
    change: dict[str, Any] = {name: getattr(other, name)}
    try:
        changed = dataclasses.replace(cell, **change)
    except AgrbenchError:
        return  # a number of malicious clients that the other number of clients does not allow
    assert (changed.key == cell.key) == (meaning(changed) == meaning(cell))


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": "location30"},
        {"defense": "amp+krum"},
        {"attack": "none"},
        {"seed": 1},
        {"clients": 20},
        {"malicious": 0.2},
        {"malicious": 10},
        {"byzantine": 0},
        {"rounds": 100},
        {"start": 10},
        {"rate": 0.5},
        {"threads": 2},
        {"device": "cuda"},
    ],
)
def test_every_setting_that_differs_from_its_default_changes_the_key(change: dict[str, Any]) -> None:
    assert dataclasses.replace(BASE, **change).key != BASE.key


@pytest.mark.parametrize(
    "change",
    [
        {"clients": 50},
        {"malicious": 0.3},
        {"malicious": 15},
        {"malicious": 0.301},
        {"byzantine": None},
        {"byzantine": 15},
        {"rounds": 200},
        {"start": None},
        {"start": 50},
        {"rate": None},
        {"threads": 1},
        {"device": "cpu"},
        {"clients": 50, "malicious": 15, "byzantine": 15, "rounds": 200, "start": 50, "threads": 1, "device": "cpu"},
    ],
)
def test_settings_equal_to_their_default_are_left_out(change: dict[str, Any]) -> None:
    cell = dataclasses.replace(BASE, **change)
    assert cell.settings == {}
    assert cell.key == BASE.key


def test_defaults_follow_the_other_settings() -> None:
    """A share is the default at any number of clients, and so is the start at any number of rounds."""
    cell = Cell("digits", "krum", "none", clients=20, malicious=6, byzantine=6, rounds=100, start=20)
    assert cell.settings == {"clients": 20, "rounds": 100}
    other = Cell("digits", "krum", "none", clients=20, malicious=15, rounds=100, start=50)
    assert other.settings == {"clients": 20, "malicious": 15, "rounds": 100, "start": 50}


def test_the_server_s_bound_follows_the_true_number_unless_it_is_given() -> None:
    assert Cell("digits", "krum", "none", malicious=7).bound == 7
    assert Cell("digits", "krum", "none", malicious=7).settings == {"malicious": 7}
    assert Cell("digits", "krum", "none", malicious=7, byzantine=15).settings == {"malicious": 7, "byzantine": 15}


@pytest.mark.parametrize(("rounds", "first"), [(200, 50), (100, 20), (79, 10), (80, 20), (20, 10), (5, 10), (1, 10)])
def test_the_attack_starts_after_a_quarter_of_the_rounds_rounded_down_to_a_multiple_of_ten(
    rounds: int, first: int
) -> None:
    assert Cell("digits", "krum", "none", rounds=rounds).first == first


@pytest.mark.parametrize(
    ("clients", "malicious", "count"),
    [(50, 0.3, 15), (20, 0.3, 6), (50, 15, 15), (50, 1, 1), (50, 0.01, 0), (50, 0.0, 0), (50, 0, 0), (10, 0.25, 2)],
)
def test_a_float_is_a_share_and_a_whole_number_a_count(clients: int, malicious: float, count: int) -> None:
    assert Cell("digits", "krum", "none", clients=clients, malicious=malicious).attackers == count


@given(cell=cells())
def test_reading_a_cell_back_gives_the_same_meaning_and_the_same_key(cell: Cell) -> None:
    text = json.dumps(cell.as_json())
    again = Cell.from_json(json.loads(text))
    assert again.key == cell.key
    assert meaning(again) == meaning(cell)
    assert again.as_json() == cell.as_json()


@given(
    clients=st.integers(1, 60),
    share=st.floats(0, 1, exclude_max=True),
    rate=st.none() | st.integers(1, 3) | st.floats(0, exclude_min=True),
    seed=st.integers(0, 5),
)
def test_a_cell_is_refused_or_can_be_read_back(clients: int, share: float, rate: float | None, seed: int) -> None:
    """A cell that its own record cannot be turned back into would be computed and then lost."""
    try:
        cell = Cell("digits", "krum", "none", seed, clients=clients, malicious=share, rate=rate)
    except AgrbenchError:
        return
    written = json.dumps(cell.as_json(), allow_nan=False)
    assert Cell.from_json(json.loads(written)).key == cell.key


def test_a_share_never_makes_every_client_malicious() -> None:
    for clients in range(1, 60):
        try:
            cell = Cell("digits", "krum", "none", clients=clients, malicious=0.99)
        except AgrbenchError:
            continue
        assert cell.attackers < clients
        assert cell.bound < clients


def test_a_whole_number_and_the_equal_float_are_one_rate() -> None:
    """A suite may say `rate = 1`, the command line reads 1.0."""
    assert dataclasses.replace(BASE, rate=1).key == dataclasses.replace(BASE, rate=1.0).key


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"clients": 0}, "clients is 0; write 1 or more"),
        ({"clients": -1}, "clients is -1; write 1 or more"),
        ({"rounds": 0}, "rounds is 0; write 1 or more"),
        ({"threads": 0}, "threads is 0; write 1 or more"),
        ({"rate": 0.0}, "rate is 0.0; write a number above 0"),
        ({"rate": -0.5}, "rate is -0.5; write a number above 0"),
        ({"rate": float("nan")}, "rate is nan; write a number above 0"),
        ({"rate": float("inf")}, "rate is inf; write a number above 0"),
        ({"start": 0}, "start is 0; write a round from 1"),
        ({"start": -10}, "start is -10; write a round from 1"),
        ({"start": 1.5}, "start is 1.5; write a round from 1"),
        ({"stop": 0}, "stop is 0; write a round from 1"),
        ({"start": 30, "stop": 20}, "stop is 20; write a round from 30, the first"),
        ({"every": 0}, "every is 0; write 1 or more"),
        ({"server": "sgd(rate=0)"}, "server is 'sgd(rate=0)'; write rate as a number above 0"),
        ({"server": 3}, "server is 3; write a spec such as sgd(rate=0.5)"),
        ({"malicious": "ids(7,50)"}, "malicious is ids(7,50); write numbers of clients from 0 to 49"),
        ({"malicious": "ids(-1)"}, "malicious is 'ids(-1)'; write"),
        ({"malicious": "ids(0,1)", "clients": 2}, "malicious is ids(0,1); write at most 1 of 2 clients"),
        ({"malicious": 50}, "malicious is 50; write a share from 0 to below 1, such as 0.3, or a number from 0 to 49"),
        ({"malicious": -1}, "malicious is -1; write"),
        ({"malicious": 1.0}, "malicious is 1.0; write"),
        ({"malicious": -0.1}, "malicious is -0.1; write"),
        ({"malicious": float("nan")}, "malicious is nan; write"),
        ({"byzantine": 50}, "byzantine is 50; write a number from 0 to 49"),
        ({"byzantine": -1}, "byzantine is -1; write a number from 0 to 49"),
        ({"seed": -1}, "seed is -1; write"),
    ],
)
def test_a_setting_out_of_range_is_refused_with_what_was_given_and_what_to_write(
    change: dict[str, Any], said: str
) -> None:
    with pytest.raises(AgrbenchError) as refused:
        dataclasses.replace(BASE, **change)
    assert str(refused.value).startswith(said)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": "../x"},
        {"seed": 0.5},
        {"clients": "5"},
        {"clients": 10.5},
        {"malicious": "0.3"},
        {"byzantine": 1.5},
        {"rounds": 20.5},
        {"rounds": None},
        {"start": "20"},
        {"rate": "0.5"},
        {"threads": 1.5},
        {"malicious": True},
        {"malicious": None},
    ],
    ids=str,
)
def test_a_setting_of_the_wrong_type_is_refused_by_name(change: dict[str, Any]) -> None:
    """Settings come from TOML files and from records, too."""
    ((name, value),) = change.items()
    with pytest.raises(AgrbenchError, match=f"{name} is .*{value}.*write"):
        dataclasses.replace(BASE, **change)


@pytest.mark.parametrize("name", ["clients", "malicious", "byzantine", "rate", "start"])
def test_a_number_too_large_to_compute_with_is_refused_or_kept_but_never_a_crash(name: str) -> None:
    change: dict[str, Any] = {name: 10**400}
    try:
        cell = dataclasses.replace(BASE, **change)
    except AgrbenchError:
        return
    assert Cell.from_json(json.loads(json.dumps(cell.as_json()))).key == cell.key


def test_numpy_s_floats_are_floats() -> None:
    for name in ("rate", "malicious"):
        change: dict[str, Any] = {name: np.float64(0.25)}
        plain: dict[str, Any] = {name: 0.25}
        assert dataclasses.replace(BASE, **change).key == dataclasses.replace(BASE, **plain).key


def test_the_edges_of_every_range_are_allowed() -> None:
    Cell("digits", "krum", "none", clients=1, malicious=0, byzantine=0, rounds=1, start=10, rate=1e-9, threads=1)
    Cell("digits", "krum", "none", malicious=49, byzantine=49)
    assert Cell("digits", "krum", "none", rounds=20, start=50).first == 50


@pytest.mark.parametrize(
    ("cell", "text", "key"),
    [
        (
            Cell("digits", "krum", "none"),
            '{"attack":"none","dataset":"digits","defense":"krum","protocol":1,"seed":0,"settings":{}}',
            "072906870e",
        ),
        (
            Cell("location30", "amp(kernel=3)+krum", "min_max", seed=3, clients=20, rounds=100, rate=0.5),
            '{"attack":"min_max","dataset":"location30","defense":"amp(kernel=3)+krum","protocol":1,"seed":3,'
            '"settings":{"clients":20,"rate":0.5,"rounds":100}}',
            "0fd3167cf2",
        ),
    ],
)
def test_keys_of_records_already_published_stay_as_they_are(cell: Cell, text: str, key: str) -> None:
    """A change here orphans every record on disk: raise the protocol on purpose, or leave the key alone."""
    assert hashlib.sha256(text.encode()).hexdigest()[:10] == key
    assert cell.key == key
