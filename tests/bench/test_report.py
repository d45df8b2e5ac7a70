"""The report of a measurement: exponents of the growth, and its tables."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agrbench.bench import report as costs
from agrbench.bench.report import Cost, Ratios, Report

POWERS = st.floats(-1, 3)
AXIS = st.lists(st.integers(2, 10**6), min_size=2, max_size=4, unique=True)


@given(AXIS, AXIS, POWERS, POWERS)
def test_exponents_of_a_power_law_are_its_own(clients: list[int], parameters: list[int], a: float, b: float) -> None:
    taken = {(n, p): 3e-9 * n**a * p**b for n in clients for p in parameters}
    assert costs.exponents(taken) == pytest.approx((a, b), abs=1e-6)
    one = {size: seconds for size, seconds in taken.items() if size[0] == clients[0]}
    assert costs.exponents(one)[0] is None
    assert costs.exponents(one)[1] == pytest.approx(b, abs=1e-6)
    one = {size: seconds for size, seconds in taken.items() if size[1] == parameters[0]}
    assert costs.exponents(one)[0] == pytest.approx(a, abs=1e-6)
    assert costs.exponents(one)[1] is None


def test_exponents_are_unknown_where_sizes_do_not_tell_them_apart() -> None:
    assert costs.exponents({}) == (None, None)
    assert costs.exponents({(10, 1000): 1.0}) == (None, None)
    assert costs.exponents({(10, 1000): 1.0, (20, 2000): 4.0}) == (None, None)
    assert costs.exponents({(10, 1000): 1.0, (20, 2000): 8.0, (20, 1000): 4.0}) == pytest.approx((2.0, 1.0))


def test_time_at_another_size_is_guessed_from_the_fit_and_grows_at_least_in_proportion() -> None:
    assert costs.expected({}, 10, 1000) is None
    assert costs.expected({(10, 1000): 1.0}, 20, 3000) == pytest.approx(2**2 * 3)  # nothing tells: pairs of rows
    cubic = {(n, p): n**3 * p / 1e6 for n in (10, 20) for p in (1000, 2000)}
    assert costs.expected(cubic, 40, 4000) == pytest.approx(40**3 * 4000 / 1e6)
    wild = {(n, p): n**9.0 * p**9 for n in (10, 20) for p in (1000, 2000)}
    assert costs.expected(wild, 40, 4000) == pytest.approx(20.0**9 * 2000.0**9 * 2**3 * 2**2)
    flat = {(n, p): 1.0 for n in (10, 20) for p in (1000, 2000)}
    assert costs.expected(flat, 40, 4000) == pytest.approx(4)


def cost(defense: str, ratio: float, **others: Any) -> Cost:
    given = {"peak_bytes": 1 << 30, "peak_ratio": 1.5, "peer": None, **others}
    return Cost(defense, 10, 507, 2, "float32", ratio / 1000, Ratios(ratio, ratio / 2, ratio * 2), **given)


def test_base_stands_beside_amplified_and_what_has_neither_has_a_line() -> None:
    names = ("fedavg", "krum", "amp+krum", "amp(kernel=3)+krum", "amp+median")
    rows = tuple(cost(name, place + 1.0) for place, name in enumerate(names))
    (table,) = costs.tables(Report({"device": "cpu", "threads": 2}, 5, rows, ()))
    lines = [[entry.lines[0] for entry in row] for row in table.rows]
    assert lines[1] == ["krum", "2", "2 [1, 4]", "1.50", "3", "3 [1.5, 6]", "1.50", "1.5"]
    assert [line[0] for line in lines] == ["fedavg", "krum", "amp(kernel=3)+krum", "amp+median"]
    assert lines[3][4:] == ["-"] * 4


def test_memory_is_shown_where_it_is_known_and_more_than_the_kernel_miscounts() -> None:
    small, unknown = cost("krum", 2, peak_bytes=6 << 20), cost("krum", 2, peak_bytes=None, peak_ratio=None)
    for row, shown in ((cost("krum", 2), "1.50"), (small, "1.50"), (unknown, "-")):
        (table,) = costs.tables(Report({"device": "cpu", "threads": 2}, 5, (row,), ()))
        assert table.rows[0][3].lines == (shown,)
    (table,) = costs.tables(Report({"device": "cpu", "threads": 2}, 5, (cost("krum", 2, peak_bytes=5 << 20),), ()))
    assert table.rows[0][3].lines == ("-",)
    assert cost("krum", 2, peak_bytes=None, peak_ratio=None).as_json()["peak_bytes"] is None
