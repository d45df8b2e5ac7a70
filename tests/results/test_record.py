"""What a record may hold: ranges, order, every setting's value, and a digest that finds what was changed since."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agrbench.cells import Cell
from agrbench.errors import RecordError
from agrbench.results import metrics, store
from agrbench.results.record import FIELDS, Record, blank, check, curves, digest, sealed
from agrbench.results.store import Store, read
from tests.helpers.project import ROOT
from tests.helpers.records import REGISTRY, finished

CELL = Cell("digits", "krum", "label_flip", seed=1, rounds=20)


def made(cell: Cell = CELL) -> Record:
    return finished(
        cell,
        [0.125, 0.75, 0.875],
        loss=[2.5, 1.5, None],
        success=[None, 0.5, 0.25],
        success_untriggered=[None, 0.5, 0.25],
        trust={"malicious_share": [None, 0.25, 0.5], "precision": [None, 1.0, 1.0], "recall": [None, 0.5, 0.5]},
        training={"rate": 0.5, "parameters": 650},
        rejected=3,
        rejected_honest=1,
        empty_steps=2,
        groups={"classes": {"rows": [10, 20], "hits": [5, 20]}},
        time={"server_s": 0.001, "round_s": 0.01, "alone": True},
        peak_bytes=1000,
        environment={"threads": 1, "device": "cpu"},
    )


def changed(path: str, value: object) -> Record:
    """Put a value at a place such as `trust.recall`."""
    record = copy.deepcopy(made())
    *above, last = path.split(".")
    holder: Any = record
    for name in above:
        holder = holder[name]
    holder[last] = value
    return record


# Ranges and order


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("trust.malicious_share", [None, 0.5, 1.5]),
        ("trust.precision", [None, -0.1, 1.0]),
        ("trust.recall", [None, 1.0, 17]),
        ("rounds", [0, 20, 10]),
        ("rounds", [0, 10, 10]),
        ("rounds", [-10, 0, 20]),
        ("rounds", [10, 15, 20]),
        ("rounds", [0, 10.0, 20]),
        ("rounds", [0, 10, 30]),
        ("rounds", [0, 5, 10]),
        ("loss", [1.0, -0.5, 0.5]),
        ("success", [None, 0.5, -0.25]),
        ("success_untriggered", [None, 1.5, 0.25]),
        ("time.server_s", -0.001),
        ("time.round_s", -1),
        ("peak_bytes", -1),
        ("shared_rounds", -1),
        ("rejected", -1),
        ("rejected_honest", 4),
        ("rejected_honest", -1),
        ("empty_steps", -1),
        ("classes", -10),
        ("groups", {"classes": {"rows": [10], "hits": [11]}}),
        ("source.defense", ["a list"]),
        ("source.attack", None),
    ],
)
def test_a_value_out_of_range_or_order_is_refused(path: str, value: object) -> None:
    check(made())
    with pytest.raises(ValueError, match=r"\w"):
        check(changed(path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("loss", [None, None, None]),
        ("loss", [0.0, 1e6, 0.5]),
        ("trust.malicious_share", [None, 0.0, 1.0]),
        ("trust.malicious_share", [None, 0.0, 1.0000000000000002]),
        ("time.server_s", 0),
        ("peak_bytes", 0),
        ("success", None),
    ],
)
def test_a_value_at_the_edge_of_its_range_is_read(path: str, value: object) -> None:
    check(changed(path, value))


@pytest.mark.parametrize("packed", [*sorted((ROOT / "leaderboard" / "records").glob("*.jsonl"))], ids=lambda p: p.stem)
def test_every_committed_record_is_still_read(packed: Path) -> None:
    _, refused = store.sift([packed])
    assert refused == []


# The digest


def test_a_sealed_record_is_read_back_whole(tmp_path: Path) -> None:
    record = sealed(made(), REGISTRY)
    assert read(Store(tmp_path).write(record)) == record
    assert list(record) == list(FIELDS)


def test_a_record_made_before_there_were_digests_is_read(tmp_path: Path) -> None:
    assert "digest" not in blank(CELL, REGISTRY)
    assert read(Store(tmp_path).write(made())) == made()


OTHER: dict[str, object] = {
    "protocol": 0,
    "status": "failed",
    "cell": CELL.as_json() | {"seed": 2},
    "rounds": [0, 15, 20],
    "accuracy": [0.125, 0.75, 0.8750001],
    "loss": [2.5, 1.5, 0],
    "success": None,
    "success_untriggered": [None, 0.5, 0.5],
    "classes": 9,
    "training": {"rate": 0.25, "parameters": 650},
    "groups": {"classes": {"rows": [10, 20], "hits": [6, 20]}},
    "shared_rounds": 10,
    "trust": {"malicious_share": [None, 0.25, 0.5], "precision": [None, 1.0, 1.0], "recall": [None, 0.5, 1.0]},
    "rejected": 4,
    "rejected_honest": 0,
    "empty_steps": 1,
    "time": {"server_s": 0.002, "round_s": 0.01, "alone": True},
    "peak_bytes": 1001,
    "environment": {"threads": 2, "device": "cpu"},
    "resolved": {},
}


def test_the_digest_covers_everything_that_was_measured() -> None:
    assert {*curves(made()), "cell", "protocol", "status"} <= set(OTHER)
    assert set(FIELDS) - set(OTHER) == {"schema", "reason", "source", "traceback", "digest"}


@pytest.mark.parametrize("name", OTHER)
def test_a_value_that_was_changed_since_is_refused_in_a_sentence(name: str, tmp_path: Path) -> None:
    record = sealed(made(), REGISTRY)
    path = Store(tmp_path).write(record)
    path.write_text(json.dumps(record | {name: OTHER[name]}))
    with pytest.raises(RecordError) as error:
        read(path)
    assert str(path) in str(error.value)
    if name not in ("cell", "protocol"):  # which its path tells
        assert "not those that were measured" in str(error.value)


@settings(max_examples=300)
@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_flipped_bit_changes_no_number_unnoticed(
    place: int, bit: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    record = sealed(made(), REGISTRY)
    path = Store(tmp_path_factory.mktemp("flipped")).write(record)
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= 1 << bit
    path.write_bytes(bytes(data))
    try:
        found = read(path)
    except RecordError:
        return
    assert all(found[name] == record[name] for name in OTHER)


@given(values=st.lists(st.floats(0, 1), min_size=3, max_size=3))
def test_the_digest_survives_writing_whatever_the_numbers(
    values: list[float], tmp_path_factory: pytest.TempPathFactory
) -> None:
    record = sealed(made() | {"accuracy": values, "loss": [float("nan"), float("inf"), values[0]]}, REGISTRY)
    found = read(Store(tmp_path_factory.mktemp("records")).write(record))
    assert found["digest"] == digest(record) == digest(found)


# The settings


def test_a_record_says_every_setting_that_its_numbers_need() -> None:
    told, own = sealed(made(), REGISTRY)["resolved"], REGISTRY.dataset("digits").record
    assert told == {
        "clients": 50, "malicious": 15, "attackers": 15, "byzantine": 15, "participants": 50, "rounds": 20, "start": 10,
        "stop": None, "every": 1, "server": "sgd",
        "rate": own.rate, "schedule": "sgd", "model": own.model,
        "partition": "iid", "sample": None, "root": "train", "threads": 1, "device": "cpu",
    }  # fmt: skip


def test_the_settings_that_are_told_leave_the_key_as_it_is() -> None:
    record = sealed(made(), REGISTRY)
    assert record["cell"] == made()["cell"] == CELL.as_json()


@pytest.mark.parametrize(
    "more",
    [{}, {"start": 20}, {"malicious": "bernoulli(share=0.2)"}, {"sample": 10}, {"schedule": "adam"}, {"rate": 2}],
)
def test_a_loss_is_recomputed_from_what_the_record_says(more: dict[str, Any]) -> None:
    """A reader knows nothing of defaults: `start` and `rounds` are read from the record alone."""
    make: Callable[[str, str, list[float]], Record] = lambda defense, attack, accuracy: sealed(  # noqa: E731
        finished(Cell("digits", defense, attack, rounds=100, **more), accuracy), REGISTRY
    )
    plain = make("fedavg", "none", [0.1 + place / 20 for place in range(11)])
    attacked = make("krum", "label_flip", [0.1 + place / 40 for place in range(11)])
    first = attacked["resolved"]["start"]
    rounds = [place for place, t in enumerate(attacked["rounds"]) if t >= first]
    loss = sum(plain["accuracy"][place] - attacked["accuracy"][place] for place in rounds) / len(rounds)
    (group,) = metrics.groups([plain, attacked])
    assert metrics.loss(group, "krum", "label_flip").mean == pytest.approx(loss, abs=1e-12)
