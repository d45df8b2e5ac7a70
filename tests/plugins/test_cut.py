"""`rows=` in the spec of any dataset: some of its training examples, wherever the dataset is used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from agrbench.cells import Cell
from agrbench.data import files
from agrbench.data.examples import Examples, kept
from agrbench.errors import SpecError
from agrbench.plugins.registry import Registry
from agrbench.simulation import grid
from agrbench.simulation.preparation import load, prepare
from tests.helpers import plugins
from tests.helpers.commands import invoke
from tests.helpers.datasets import leaf, write_json
from tests.helpers.records import stored

OWNED = """
    import numpy as np
    from agrbench.data.examples import Examples
    from agrbench.plugins import Dataset, Source

    def load(clients):
        rows = max(100, 2 * clients)
        features, labels = np.arange(rows, dtype="f4")[:, None], np.arange(rows) % 2
        return (Examples(features, np.eye(2)[labels], 2, np.arange(rows) % 9),
                Examples(features[:40], np.eye(2)[labels[:40]], 2))

    dataset = Dataset(load, model="mlp(4)", rate=0.1, root_size=30, source=Source("made here"))
"""
OWN_ROWS = """
    import torch
    from agrbench.data.examples import Examples
    from agrbench.plugins import Dataset, Source

    def load(*, rows: str = "all"):
        made = Examples(torch.arange(40.0)[:, None], torch.arange(40) % 2, 2)
        return made, made._replace(about=made.about._replace(remarks=(rows,)))

    dataset = Dataset(load, model="mlp(4)", rate=0.1, root_size=30, source=Source("made here"))
"""


def equal(one: Examples, other: Examples) -> bool:
    return torch.equal(one.features, other.features) and torch.equal(one.labels, other.labels)


@pytest.mark.parametrize("name", ["digits", "location30", "mnist"])
def test_every_dataset_can_be_cut_and_keeps_its_test_set(name: str) -> None:
    registry = Registry()
    (train, test), (some, held_out) = (load(registry.dataset(spec)) for spec in (name, f"{name}(rows=300)"))
    assert len(some.labels) == 300
    assert equal(some, kept(train, 300))
    assert equal(held_out, test)


def test_hyperparameters_of_the_dataset_s_own_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.csv").write_text("x,hospital,y\n" + "".join(f"{n},{'ab'[n % 2]},{n % 3}\n" for n in range(60)))
    monkeypatch.setenv(files.FOLDER, str(tmp_path))
    spec = "table(label='y',owner='hospital',path='mine.csv'"
    (train, test), (some, held_out) = (load(Registry().dataset(f"{spec}{end}")) for end in (")", ",rows=20)"))
    assert equal(some, kept(train, 20))
    assert equal(held_out, test)
    assert some.owners is not None
    assert train.owners is not None
    owner_of = dict(zip(train.features[:, 0].tolist(), train.owners.tolist(), strict=True))
    assert some.owners.tolist() == [owner_of[value] for value in some.features[:, 0].tolist()]


def test_writers_without_a_row_left_are_no_clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(files.FOLDER, str(tmp_path))
    writers = [(name, [number % 62]) for number, name in enumerate("abcdefgh")]
    for half in ("train", "test"):
        write_json(tmp_path / f"femnist/{half}/all_data_0.json", leaf(*writers))
    registry = Registry()
    given = grid.with_owners({"partition": "natural"}, "femnist(rows=5)", registry)
    assert given["clients"] == 5
    cell = Cell("femnist(rows=5)", "fedavg", "none", root="test", model="mlp(4)", **given)
    dataset = registry.dataset(cell.dataset)
    federation, _ = prepare(cell, dataset, load(dataset))
    cut_owners = kept(load(registry.dataset("femnist"))[0], 5).owners
    assert cut_owners is not None
    assert sorted(federation.shards.owner_numbers) == cut_owners.tolist()


def test_a_plugin_of_one_s_own_is_cut_after_it_is_checked_for_any_number_of_clients(tmp_path: Path) -> None:
    registry = Registry([plugins.write(tmp_path, "mine", OWNED)])
    for clients, rows in ((1, 100), (80, 160)):
        whole, _ = load(registry.dataset("mine"), clients)
        assert len(whole.labels) == rows
        some, test = load(registry.dataset("mine(rows=50)"), clients)
        assert equal(some, kept(whole, 50))
        assert len(test.labels) == 40


def test_a_plugin_that_declares_rows_means_by_it_what_it_says(tmp_path: Path) -> None:
    registry = Registry([plugins.write(tmp_path, "mine", OWN_ROWS)])
    train, test = load(registry.dataset("mine(rows='few')"))
    assert (len(train.labels), test.about.remarks) == (40, ("few",))
    assert registry.dataset("mine(rows='few')").record.root_size == 30
    assert len(load(registry.dataset("synthetic(rows=50)"))[0].labels) == 50
    assert registry.dataset("synthetic(rows=50)").record.root_size == 100


@pytest.mark.parametrize(("rows", "size"), [(1437, 100), (1000, 100), (999, 99), (200, 20), (10, 1), (3, 1)])
def test_the_root_set_has_at_most_a_tenth_of_the_rows(rows: int, size: int) -> None:
    assert Registry().dataset(f"digits(rows={rows})").record.root_size == size


@pytest.mark.parametrize("rows", ["0", "-3", "2.5", "2000.0", "True", "None", "'all'"])
def test_rows_that_are_no_number_of_examples_are_refused(rows: str) -> None:
    with pytest.raises(SpecError, match=r"^digits\(rows=.*\): rows is .*; write a whole number of examples from 1"):
        Registry().dataset(f"digits(rows={rows})")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (
            "digits(rows=0)",
            "digits(rows=0): rows is 0; write a whole number of examples from 1, such as digits(rows=100)",
        ),
        (
            "digits(rows=two)",
            "digits(rows=two): two is no number, True, False, None or quoted text; write digits(rows=100)",
        ),
        ("digits(row=5)", "digits has no hyperparameter 'row'; did you mean rows? write digits(rows=100)"),
        ("digits(rows=1438)", "rows is 1438 and there are 1437 training examples; write rows=1437 or less"),
        ("digits(row=5)", "digits has no hyperparameter 'row'; did you mean rows?"),
    ],
)
def test_a_mistake_is_one_sentence_with_exit_code_2(tmp_path: Path, spec: str, said: str) -> None:
    done = invoke("grid", "-D", spec, "-d", "median", "-a", "none", "--seeds", "1", "--out", tmp_path / "out", ok=2)
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not done.stdout
    assert not list(tmp_path.rglob("*.json"))


def test_a_grid_on_a_part_names_it_in_its_records_and_tables(tmp_path: Path) -> None:
    words = ("-d", "median", "-a", "none", "--only-base", "--clients", "5", "--rounds", "10", "--seeds", "1")
    both = ("-D", "digits(rows=300)", "-D", "digits(rows=1437)", "-D", "digits")
    shown = invoke("grid", *both, *words, "--out", tmp_path, "-q").stdout
    assert "The triad: digits(rows=300), 5 clients" in shown
    records = {name: record for name, record in stored(tmp_path).items() if "median" in name}
    by_dataset: dict[str, Any] = {record["cell"]["dataset"]: record for record in records.values()}
    assert set(by_dataset) == {"digits(rows=300)", "digits(rows=1437)", "digits"}
    assert len({Path(name).name for name in records}) == 3
    assert by_dataset["digits"]["source"] == by_dataset["digits(rows=300)"]["source"]
    assert by_dataset["digits(rows=1437)"]["accuracy"] == by_dataset["digits"]["accuracy"]
    assert by_dataset["digits(rows=300)"]["accuracy"] != by_dataset["digits"]["accuracy"]
    again = invoke("grid", *both, *words, "--out", tmp_path)
    assert "Nothing to compute" in again.stderr
