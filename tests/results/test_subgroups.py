"""Worst class and worst client: metrics of counts, their tables, and records that keep none or wrong ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agrbench.errors import RecordError
from agrbench.results import formats, metrics
from agrbench.results.metrics import Group
from agrbench.results.record import Record, agree
from agrbench.results.store import Store, collect
from agrbench.results.tables import tables
from tests.helpers.records import measured

LEVEL = [0.5] * 5


def counts(rows: list[int], hits: list[int], **more: Any) -> dict[str, Any]:
    return {"rows": rows, "hits": hits, **more}


def made(defense: str, seed: int, classes: dict[str, Any], clients: dict[str, Any] | None = None) -> Record:
    clients = clients or counts([4], [4], of="train", ids=[0])
    return measured(defense, "none", seed, LEVEL, groups={"classes": classes, "clients": clients})


def group(*records: Record) -> Group:
    [found] = metrics.groups(records)
    return found


def test_the_worst_class_and_the_spread_are_taken_seed_by_seed() -> None:
    found = group(
        made("fedavg", 0, counts([10, 20, 0, 10], [9, 10, 0, 10])),
        made("fedavg", 1, counts([10, 20, 0, 10], [2, 20, 0, 10])),
    )
    assert metrics.worst_of(found, "fedavg", "none", "classes").values == (0.5, 0.2)  # an empty class is none
    assert metrics.spread_of(found, "fedavg", "none", "classes").values == (0.5, 0.8)
    assert metrics.hurt(found, "fedavg", "none", "classes") == "0"  # 0.9 and 0.2, against 0.5 and 1.0


def test_classes_and_clients_with_names_are_called_by_them() -> None:
    clients = counts([5, 5], [4, 1], of="test", ids=[0, 3], names=["north", "south"])
    found = group(made("fedavg", 0, counts([10, 20], [9, 10], names=["no", "yes"]), clients))
    assert metrics.hurt(found, "fedavg", "none", "classes") == "yes"
    assert metrics.hurt(found, "fedavg", "none", "clients") == "south"


def test_numbers_of_clients_mean_nothing_across_seeds_and_are_not_shown() -> None:
    found = group(made("fedavg", 0, counts([1], [1]), counts([5, 5], [4, 1], of="train", ids=[0, 3])))
    assert metrics.hurt(found, "fedavg", "none", "clients") is None
    [shown] = tables([found], "clients")
    [row] = shown.rows
    assert row[1].lines == ("20.0", "spread 60.0")


def test_the_tables_show_the_worst_its_name_and_the_spread_and_mark_the_best() -> None:
    found = group(
        *(made("fedavg", seed, counts([10, 10], [9, 5])) for seed in (0, 1)),
        *(made("krum", seed, counts([10, 10], [8, 6])) for seed in (0, 1)),
        *(made("median", seed, counts([10, 10], [4, 10])) for seed in (0, 1)),
    )
    [shown] = tables([found], "classes")
    [row] = shown.rows
    entries = dict(zip(shown.headers[1:], row[1:], strict=True))
    assert entries["krum"].lines[0] == "60.0"
    assert entries["krum"].lines[-2:] == ("1", "spread 20.0")
    assert {name for name, entry in entries.items() if entry.best} == {"krum"}
    flat = {each["defense"]: each for each in json.loads(formats.write([shown], "json"))}
    assert (flat["median"]["worst"], flat["median"]["mean"], flat["median"]["spread"]) == ("0", 0.4, 0.6)


def test_records_without_counts_say_so() -> None:
    old = measured("fedavg", "none", 0, LEVEL)
    del old["groups"]
    [shown] = tables([group(old)], "classes")
    assert shown.notes == (
        "These records do not tell: they were made before records kept these counts. Compute them again.",
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"rows": [1, 2]}, {"rows": [1, 2], "hits": [1]}, {"rows": [1, 2], "hits": [1, 3]}, {"rows": [1], "hits": [-1]},
        {"rows": [1.0], "hits": [1]}, {"rows": "1", "hits": "1"}, {"rows": [1], "hits": [1], "names": ["a", "b"]},
        {"rows": [True], "hits": [True]}, [], "rows", {"rows": [10**30], "hits": [1]},
    ],
    ids=str,
)  # fmt: skip
def test_a_record_of_wrong_counts_is_refused(tmp_path: Path, wrong: Any) -> None:
    path = Store(tmp_path).write(made("fedavg", 0, counts([1], [1])))
    record = json.loads(path.read_text())
    record["groups"]["classes"] = wrong
    path.write_text(json.dumps(record))
    with pytest.raises(RecordError, match="groups by classes"):
        list(collect([tmp_path]))


def test_a_record_from_before_the_counts_agrees_with_one_that_has_them(tmp_path: Path) -> None:
    new = made("fedavg", 0, counts([1], [1]))
    old = {name: value for name, value in new.items() if name != "groups"}
    other = made("fedavg", 0, counts([1], [0]))
    assert agree(old, new)
    assert agree(new, old)
    assert not agree(new, other)
    assert not agree(old, new | {"accuracy": [0.1] * 5})
