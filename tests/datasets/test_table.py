"""Table: oracles of what it learns from training rows, its spec, its digest, its certificate, and the command line."""

from __future__ import annotations

import csv
import json
import math
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

from agrbench.cells import Cell
from agrbench.conformance import claims
from agrbench.data import files, summary
from agrbench.errors import AgrbenchError, DataError, SpecError
from agrbench.plugins import Source
from agrbench.plugins.registry import Registry
from tests.helpers.commands import SMALL, agrbench, invoke
from tests.helpers.datasets import Halves
from tests.helpers.project import ROOT

CONSORTIUM: dict[str, Any] = runpy.run_path(str(ROOT / "benchmarks" / "consortium.py"))
SPEC = "table(path={path!r}, label='outcome', owner='hospital'{more})"


@pytest.fixture(scope="module")
def visits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the table of the consortium."""
    path: Path = CONSORTIUM["consortium"](tmp_path_factory.mktemp("consortium") / "visits.csv")
    return path


def spec(path: Path, more: str = "") -> str:
    return SPEC.format(path=str(path), more=more)


def load(named: str) -> Halves:
    halves: Halves = Registry().dataset(named).record.load()
    return halves


# ---------------------------------------------------------------- oracles


def slow(train: list[dict[str, str]], rows: list[dict[str, str]], texts: set[str], skip: set[str]) -> list[list[float]]:
    """Standardise and one-hot encode rows, value by value, by what the training rows hold."""
    found = []
    for row in rows:
        features: list[float] = []
        for name in row:
            if name in skip:
                continue
            held = [each[name] for each in train]
            if name in texts:
                features += [float(row[name] == category) for category in sorted(set(held))]
                continue
            mean = math.fsum(map(float, held)) / len(held)
            deviation = math.sqrt(math.fsum((float(each) - mean) ** 2 for each in held) / len(held))
            features.append((float(row[name]) - mean) / deviation)
        found.append(features)
    return found


@pytest.mark.oracle("table")
@pytest.mark.parametrize("categorical", [(), ("previous",)])
def test_table_encodes_as_a_slow_oracle_does(categorical: tuple[str, ...], visits: Path, tmp_path: Path) -> None:
    with visits.open() as stream:
        lines = list(csv.DictReader(stream))[::17]
    for place, line in enumerate(lines):
        line["part"] = "test" if place % 4 == 1 else "train"
    path = tmp_path / "few.csv"
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    more = f", test='part', categorical={categorical!r}"
    kept = [line for line in lines if line["part"] == "train"]
    texts, names = {"sex", "ward", "emergency", *categorical}, sorted({line["hospital"] for line in lines})
    for half, part in zip(load(spec(path, more)), ("train", "test"), strict=True):
        rows = [line for line in lines if line["part"] == part]
        wanted = sorted(
            ([names.index(row["hospital"]), int(row["outcome"] == "yes"), *features])
            for row, features in zip(rows, slow(kept, rows, texts, {"hospital", "outcome", "part"}), strict=True)
        )
        assert half.owners is not None
        found = torch.cat([half.owners[:, None], half.labels[:, None], half.features], 1)
        torch.testing.assert_close(torch.tensor(sorted(found.tolist())), torch.tensor(wanted), rtol=1e-5, atol=1e-5)


@pytest.mark.oracle("table")
def test_every_row_is_in_exactly_one_half_with_its_owner_and_label(tmp_path: Path) -> None:
    """Standardised numbers keep their order, so that they tell which row of the file is which."""
    rows = [(place, "no" if place % 3 else "yes", f"h{place * place % 7}") for place in range(500)]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["x,outcome,hospital", *(",".join(map(str, row)) for row in rows)]))
    train, test = load(spec(path))
    assert abs(len(test.labels) - 100) <= 4
    order = torch.cat([train.features, test.features])[:, 0].argsort().tolist()
    labels = [*train.labels.tolist(), *test.labels.tolist()]
    assert train.owners is not None
    assert test.owners is not None
    owners = [*train.owners.tolist(), *test.owners.tolist()]
    found = [(train.about.classes[labels[place]], train.about.owners[owners[place]]) for place in order]
    assert found == [row[1:] for row in rows]


@pytest.mark.trap("table")
def test_test_rows_do_not_change_what_is_learnt(tmp_path: Path) -> None:
    """A mean over all rows would leak the test rows into training."""
    path, halves = tmp_path / "t.csv", []
    for outlier in (5, 1000):
        path.write_text(f"x,outcome,hospital,part\n1,a,v,train\n3,b,v,train\n{outlier},a,v,test\n")
        halves.append(load(spec(path, ", test='part'")))
    (one, _), (other, far) = halves
    assert torch.equal(one.features, other.features)
    assert far.features.item() == 998


@pytest.mark.trap("table")
def test_training_rows_are_in_random_order_though_the_file_is_sorted(visits: Path) -> None:
    """An even partition takes rows in their order: a sorted file would give each client one hospital."""
    train, _ = load(spec(visits))
    assert train.owners is not None
    for part in train.owners.tensor_split(10):
        assert len(set(part.tolist())) >= 10


# ---------------------------------------------------------------- the spec and the digest


def test_a_spec_without_path_or_label_says_what_to_write(visits: Path) -> None:
    with pytest.raises(DataError) as refused:
        load("table")
    assert str(refused.value) == "it reads your own table: write table(path='visits.csv', label='outcome')"
    with pytest.raises(DataError, match="no label is named; write label= and one of its columns: 'hospital', 'age'"):
        load(f"table(path={str(visits)!r})")


@pytest.mark.parametrize(
    "more", [", drop='age'", ", missing='zero'", ", test=True", ", label=3", ", categorical=['age']"]
)
def test_a_spec_of_another_type_is_refused_by_its_signature(more: str) -> None:
    with pytest.raises(SpecError, match="the signature is table"):
        Registry().dataset(f"table(path='visits.csv'{more})")


@pytest.mark.trap("table")
def test_an_edit_of_the_file_makes_records_stale(visits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(visits.read_bytes())
    cell = Cell(spec(path), "krum", "none")
    before = Registry().sources(cell)
    assert Registry().sources(cell) == before
    monkeypatch.chdir(tmp_path)
    assert Registry().sources(Cell(spec(Path("t.csv")), "krum", "none")) == before, "the content counts, not the path"
    path.write_bytes(visits.read_bytes().replace(b",yes\n", b",no\n", 1))
    after = Registry().sources(cell)
    assert after["dataset"] != before["dataset"]
    assert after["defense"] == before["defense"]
    path.unlink()
    assert Registry().sources(cell)["dataset"] not in (before["dataset"], after["dataset"])


@pytest.mark.parametrize("name", [claim.property.name for claim in claims("digits")])
def test_a_table_passes_the_certificate_of_datasets(name: str, visits: Path) -> None:
    (claim,) = (each for each in claims(spec(visits)) if str(each) == name)
    claim.verify()


# ---------------------------------------------------------------- what people are told


def test_the_list_names_classes_owners_and_remarks(visits: Path, tmp_path: Path) -> None:
    text = invoke("data", "list", spec(visits), "table").stdout
    lines = [line.strip() for line in text.splitlines()]
    assert f"licence your own; read from {visits}" in lines
    assert "classes: 0 = no, 1 = yes" in lines
    (owners,) = (line for line in lines if line.startswith("owners: "))
    assert owners.startswith("owners: 12, 29 to 1,120 training rows each: ashby, east, ")
    assert "visits.csv: 6,000 rows, 13 features of 8 columns, 12 owners (36 to 1,400 rows)" in lines
    assert "licence your own; it reads your own table: write table(path='visits.csv', label='outcome')" in lines
    missing = spec(tmp_path / "none.csv")
    text = invoke("data", "list", missing).stdout
    assert f"it cannot be read: {tmp_path / 'none.csv'}: there is no such file" in text


def test_at_most_twenty_classes_are_named(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["x,y", *(f"{row},{row % 25}" for row in range(200))]))
    text = invoke("data", "list", f"table(path={str(path)!r}, label='y')").stdout
    assert "classes: 0 = 0, 1 = 1, " in text
    assert "19 = 19 and 5 more\n" in text


def test_a_mistake_in_the_data_is_described_without_blaming_the_plugin() -> None:
    def refuse() -> Halves:
        raise AgrbenchError("the rows are too few")

    assert summary.describe("mine", Source("mine"), refuse) == (None, "it cannot be read: the rows are too few")


def test_a_mistake_stops_the_grid_with_one_sentence(visits: Path, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(visits.read_text().replace("north,60,", "north,sixty,", 1))
    done = agrbench("grid", "-D", spec(path), "-d", "krum", "-a", "none", "--out", tmp_path / "out", ok=2)
    (line,) = [line for line in done.stderr.splitlines() if "Error" in line]
    assert f"{path}: row " in line
    assert "column 'age' has 'sixty'" in line


# ---------------------------------------------------------------- the consortium, from its file to the triad


def test_the_consortium_has_twelve_unequal_hospitals_with_different_rates(visits: Path, tmp_path: Path) -> None:
    with visits.open() as stream:
        rows = list(csv.DictReader(stream))
    counts = {name: [row["outcome"] for row in rows if row["hospital"] == name] for name in CONSORTIUM["SIZES"]}
    assert len(rows) == 6000
    assert len(counts) == 12
    assert min(map(len, counts.values())) == 36 == 0.006 * len(rows)
    shares = [held.count("yes") / len(held) for held in counts.values()]
    assert 0.5 <= sum(row["outcome"] == "yes" for row in rows) / len(rows) <= 0.6
    assert max(shares) - min(shares) > 0.1
    again = CONSORTIUM["consortium"](tmp_path / "again.csv")
    assert again.read_bytes() == visits.read_bytes()
    assert CONSORTIUM["consortium"](tmp_path / "other.csv", 1).read_bytes() != visits.read_bytes()


def test_the_grid_runs_on_the_hospitals_of_a_table(
    visits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(files.FOLDER, str(visits.parent))
    words = (
        "grid", "-D", spec(Path("visits.csv")), "-d", "median", "-a", "sign_flip", "--partition", "natural",
        "--clients", "12", "--malicious", "3", "--rounds", "60", "--seeds", "1", "--only-base",
        "--out", tmp_path / "out",
    )  # fmt: skip
    done = agrbench(*words, cwd=tmp_path)
    assert "median" in done.stdout
    records = [json.loads(path.read_text()) for path in (tmp_path / "out").rglob("*.json")]
    assert len(records) == 4
    assert {record["cell"]["settings"]["partition"] for record in records} == {"natural"}


def test_the_grid_runs_on_a_table_whose_spec_is_too_long_for_a_folder(tmp_path: Path) -> None:
    names = [f"measurement_{number:02d}" for number in range(20)]
    rows = [",".join(["yes" if row % 3 else "no", *(str(row * each % 7) for each in range(20))]) for row in range(240)]
    (tmp_path / "wide.csv").write_text("\n".join([",".join(["outcome", *names]), *rows, ""]))
    long = f"table(path='wide.csv',label='outcome',drop={tuple(names[:15])!r})"
    assert len(long) > 240
    grid = ("grid", "-D", long, "-d", "fedavg", "-a", "none", "--only-base", *SMALL, "--out", "out")
    first = agrbench(*grid, cwd=tmp_path)
    (path,) = (tmp_path / "out").rglob("*.json")
    assert names[14] in json.loads(path.read_text())["cell"]["dataset"]
    assert agrbench(*grid, cwd=tmp_path).stdout == first.stdout
    assert f"{names[14]!r}" in agrbench("show", path, cwd=tmp_path).stdout
