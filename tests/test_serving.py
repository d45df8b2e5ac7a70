"""A server keeps from round to round what its rule remembers, by client and not by place."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import agrbench

CLIENTS = ["north", "south", "east", "west", "centre"]

REMEMBERS = '''"""Exclude whoever sends a negative number, and remember how often each client was heard."""
from agrbench.plugins import Defense, Verdict

def weigh(round):
    heard = round.memory.setdefault("heard", [])
    heard.append(round.clients)
    negative = [client for client, row in zip(round.clients, round.view) if row.min() < 0]
    return Verdict(round.view.new_full((round.n,), float(round.number)), exclude=negative)

defense = Defense(weigh)
'''

BY_SIZE = '''"""Weigh by size."""
from agrbench.plugins import Defense

def weigh(round):
    return round.sizes.to(round.view)

defense = Defense(weigh)
'''


@pytest.fixture
def remembers(tmp_path: Path) -> Path:
    (tmp_path / "remembers.py").write_text(REMEMBERS)
    return tmp_path / "remembers.py"


def _rounds(seed: int, count: int = 4, clients: int = 5, width: int = 7) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(count, clients, width))


@pytest.mark.parametrize("spec", ["median", "krum", "nnm+trimmed_mean"])
def test_rules_without_memory_step_as_single_calls_do(spec: str) -> None:
    server = agrbench.Server(spec, byzantine=1)
    for updates in _rounds(0):
        np.testing.assert_array_equal(server.step(updates), agrbench.aggregate(updates, spec, byzantine=1))
    assert server.rounds == 4


def test_the_step_before_is_handed_to_the_rule_that_asks_for_it() -> None:
    server, last = agrbench.Server("centered_clipping"), None
    for updates in _rounds(1):
        expected = agrbench.aggregate(updates, "centered_clipping", previous=last)
        last = server.step(updates)
        np.testing.assert_array_equal(last, expected)


def _foolsgold(histories: NDArray[np.float64], updates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fung et al. (2020), Algorithm 1, pair by pair, in the form that defenses/foolsgold.py documents."""
    n = len(histories)
    cosines = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            if i != j:
                norms = np.linalg.norm(histories[i]) * np.linalg.norm(histories[j])
                cosines[i, j] = histories[i] @ histories[j] / norms
    most = np.maximum(cosines.max(axis=1), 0)
    for i in range(n):
        for j in range(n):
            if most[j] > most[i]:
                cosines[i, j] *= most[i] / most[j]
    trust = 1 - np.clip(cosines.max(axis=1), 0, 1)
    trust = trust / trust.max()
    with np.errstate(divide="ignore"):
        trust = np.clip(np.log(trust / (1 - trust)) + 0.5, 0, 1)
    step: NDArray[np.float64] = (trust / trust.sum()) @ updates
    return step


@given(st.integers(0, 1000), st.data())
def test_histories_follow_clients_who_come_and_go_in_any_order(seed: int, data: st.DataObject) -> None:
    server = agrbench.Server("foolsgold")
    sums = {client: np.zeros(7) for client in CLIENTS}
    for updates in _rounds(seed):
        present = data.draw(st.permutations(CLIENTS))[: data.draw(st.integers(2, 5))]
        rows = updates[: len(present)]
        for client, row in zip(present, rows, strict=True):
            sums[client] += row
        expected = _foolsgold(np.stack([sums[client] for client in present]), rows)
        np.testing.assert_allclose(server.step(rows, clients=present), expected, rtol=1e-7, atol=1e-9)


def test_clients_excluded_for_good_are_named_and_left_out(remembers: Path) -> None:
    server = agrbench.Server("remembers", plugins=str(remembers))
    np.testing.assert_array_equal(server.step(np.array([[1.0], [-1.0], [3.0]]), clients=["a", "b", "c"]), [3.0])
    assert server.excluded == ["b"]
    np.testing.assert_array_equal(server.step(np.array([[5.0], [100.0], [1.0]]), clients=["c", "b", "d"]), [12.0])
    with pytest.raises(agrbench.AgrbenchError, match="no update remains"):
        server.step(np.array([[5.0]]), clients=["b"])
    assert server.rounds == 2


def test_fldetector_excludes_by_name_wherever_the_client_stands_later() -> None:
    server, draws = agrbench.Server("fldetector(window=2)", byzantine=1), np.random.default_rng(3)
    names = [f"site {number}" for number in range(8)]
    for number in range(12):
        order = list(draws.permutation(8))
        updates = {name: np.full(5, 0.9**number) + 0.001 * draws.normal(size=5) for name in names}
        updates["site 3"] = 20 * draws.normal(size=5)
        server.step([updates[names[place]] for place in order], clients=[names[place] for place in order])
    assert server.excluded == ["site 3"]


def test_sizes_go_with_the_rows_of_their_round(tmp_path: Path) -> None:
    (tmp_path / "by_size.py").write_text(BY_SIZE)
    server = agrbench.Server("by_size", plugins=str(tmp_path / "by_size.py"))
    assert server.step(np.eye(3), clients=["a", "b", "c"], sizes=np.array([1, 2, 3])).tolist() == [1, 2, 3]
    assert server.step(np.eye(2, 3), clients=["d", "a"], sizes=np.array([5, 7])).tolist() == [5, 7, 0]


def test_clients_may_be_numbers_in_an_array() -> None:
    first, second = (agrbench.Server("foolsgold") for _ in range(2))
    for updates in _rounds(4):
        ids = np.array([2**40, 7, 12, 3, 9])
        np.testing.assert_array_equal(first.step(updates, clients=ids), second.step(updates, clients=ids.tolist()))


def test_state_dicts_step_round_after_round() -> None:
    server = agrbench.Server("amp+krum", byzantine=1)
    for updates in _rounds(5, width=6):
        states = [{"weight": torch.tensor(row).view(3, 2)} for row in updates]
        step = server.step(states)
        assert step["weight"].shape == (3, 2) and any(torch.equal(step["weight"], state["weight"]) for state in states)


@pytest.mark.parametrize(
    ("updates", "asked", "message"),
    [
        (
            np.ones((4, 2)),
            {},
            r"there are 4 updates, and .* before were \[0, 1, 2\]; pass clients=",
        ),
        (np.ones((3, 2)), {"clients": ["a", "b"]}, "names 2 different clients, and there are 3 updates"),
        (np.ones((3, 2)), {"clients": ["a", "b", "a"]}, "names 2 different clients, and there are 3 updates"),
        (np.ones((3, 5)), {}, "have 5 parameters, and had 2 in the rounds before; make another Server"),
        (np.ones((3, 2)), {"clients": [{}, {}, {}]}, "hashable"),
    ],
)
def test_a_round_that_cannot_follow_the_last_is_refused_and_changes_nothing(
    updates: NDArray[np.float64], asked: dict[str, Any], message: str
) -> None:
    server, twin = agrbench.Server("foolsgold"), agrbench.Server("foolsgold")
    rows = np.random.default_rng(0).normal(size=(3, 2))
    server.step(rows)
    twin.step(rows)
    with pytest.raises(agrbench.AgrbenchError, match=message):
        server.step(updates, **asked)
    np.testing.assert_array_equal(server.step(rows), twin.step(rows))


def test_parts_in_another_order_than_before_are_refused() -> None:
    server, states = agrbench.Server("median"), [{"a": np.ones(2), "b": np.zeros(2)}] * 3
    server.step(states)
    with pytest.raises(agrbench.AgrbenchError, match=r"made of \['b', 'a'\], and of \['a', 'b'\] in the rounds before"):
        server.step([{"b": np.ones(2), "a": np.zeros(2)}] * 3)
    assert server.step(states)["a"].tolist() == [1, 1]


def test_an_unknown_keyword_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'roots'; there are root, evaluate"):
        agrbench.Server("median").step(np.ones((3, 2)), roots=np.ones(2))  # type: ignore[call-arg]
    asks: list[Any] = [agrbench.aggregate, agrbench.weigh]
    for ask in asks:
        with pytest.raises(TypeError, match=r"unexpected keyword argument 'roots'; there are root, .*, seed, plugins"):
            ask(np.ones((3, 2)), "median", roots=np.ones(2))


@pytest.mark.parametrize("spec", ["foolsgold", "fldetector", "nnm+foolsgold"])
def test_a_single_call_of_a_rule_with_history_warns(spec: str) -> None:
    rows = np.random.default_rng(0).normal(size=(5, 4))
    for ask in agrbench.aggregate, agrbench.weigh:
        with pytest.warns(UserWarning, match="judges clients by their past.* use agrbench.Server"):
            try:
                ask(rows, spec, byzantine=1)
            except agrbench.AgrbenchError:
                assert spec == "nnm+foolsgold"  # a mixed row is nobody's
