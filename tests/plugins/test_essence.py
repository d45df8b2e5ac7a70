"""What a digest covers: whatever a plugin's result may depend on, however deep or unusual the source text."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import agrbench
from agrbench.cells import Cell
from agrbench.errors import PluginError
from agrbench.plugins import essence
from agrbench.plugins.registry import Registry
from tests.helpers.datasets import leaf, write_json
from tests.helpers.plugins import write

HEAD = '"""A rule."""\nimport torch\nfrom agrbench.plugins import Defense\n'
RULE = HEAD + "def weigh(round):\n    return torch.ones(round.n)\n"


def digest(folder: Path, text: str) -> str:
    return Registry([write(folder, "mine", text)]).digest("defense", "mine")


@pytest.fixture
def differ(tmp_path: Path) -> Callable[[str, str, str], bool]:
    """Say whether an edit changes the digest."""

    def changes(text: str, old: str, new: str) -> bool:
        assert old in text
        return digest(tmp_path, text) != digest(tmp_path, text.replace(old, new))

    return changes


CLAIMS = {
    "of another call": "{name} = 0.9\ndef pick(norms, {name}):\n    return norms >= {name}\n"
    "defense = Defense(lambda round: pick(round.norms, {name}=0.9))\n",
    "inside the record's call": "def make({name}):\n    return lambda round: round.norms >= {name}\n"
    "defense = Defense(make({name}=0.9))\n",
    "of a maker of records": "def make({name}):\n    return Defense(lambda round: round.norms >= {name})\n"
    "defense = make({name}=0.9)\n",
    "of a record that is not exported": "other = Defense(weigh, {name}=0.9)\ndefense = Defense(weigh)\n",
    "of an own Defense": "def Record(weigh, {name}):\n    return weigh({name})\ndefense = Record(weigh, {name}=0.9)\n",
    "of a record that a later one replaces": "defense = Defense(weigh, {name}=0.9)\n"
    "share = defense.{name}\ndefense = Defense(lambda round: round.norms >= share)\n",
    "read from the record": "def weigh(round):\n    return round.norms >= defense.{name}\n"
    "defense = Defense(weigh, {name}=0.9)\n",
    "read by getattr": "def weigh(round):\n    return round.norms >= getattr(globals()['def' + 'ense'], '{name}')\n"
    "defense = Defense(weigh, {name}=0.9)\n",
    "that assigns": "defense = Defense(lambda round: round.norms >= share, {name}=(share := 0.9))\n",
}


@pytest.mark.trap
@pytest.mark.parametrize("name", ["bound", "within", "proof", "waives"])
@pytest.mark.parametrize("form", CLAIMS)
def test_a_number_under_the_name_of_a_claim_counts(
    form: str, name: str, differ: Callable[[str, str, str], bool]
) -> None:
    assert differ(RULE + CLAIMS[form].format(name=name), "0.9)", "0.1)")


@pytest.mark.parametrize("name", ["bound", "within", "proof", "waives"])
@pytest.mark.parametrize("made", ["Defense", "plugins.Defense"])
def test_a_claim_in_the_record_s_own_call_does_not_count(
    name: str, made: str, differ: Callable[[str, str, str], bool]
) -> None:
    text = f"{RULE}from agrbench import plugins\ndefense = {made}(weigh, {name}=0.9)\n"
    assert not differ(text, "=0.9", "=0.1")
    assert not differ(text, f", {name}=0.9", "")


@pytest.mark.parametrize(
    "reads",
    [
        "float(__doc__.split()[-1])",
        "float(weigh.__doc__.split()[-1])",
        "float(getattr(weigh, '__doc__').split()[-1])",
        "float(globals()['__doc__'].split()[-1])",
        "float(inspect.getdoc(weigh).split()[-1])",
        "float(getdoc(weigh).split()[-1])",
        "float(read(weigh).split()[-1])",
        "float(weigh.__code__.co_consts[0].split()[-1])",
    ],
)
def test_docstrings_count_where_a_file_reads_them(reads: str, tmp_path: Path) -> None:
    text = f'''"""Share 0.9"""
        import inspect
        from inspect import getdoc
        from inspect import getdoc as read
        from agrbench.plugins import Defense

        def weigh(round):
            """Share 0.9"""
            return round.norms >= {reads}

        defense = Defense(weigh)
        '''.replace("\n        ", "\n")
    steps = []
    for share in ("0.9", "0.1"):
        path = write(tmp_path, "mine", text.replace("0.9", share))
        registry = Registry([path])
        norms = SimpleNamespace(norms=torch.tensor([0.5, 1.0]))
        weights: Any = registry.stack("mine").defense.record.weigh(norms)
        steps.append((weights.tolist(), registry.digest("defense", "mine")))
    assert steps[0][0] == [False, True]
    assert steps[1][0] == [True, True]
    assert steps[0][1] != steps[1][1]


def test_docstrings_do_not_count_where_nothing_reads_them(differ: Callable[[str, str, str], bool]) -> None:
    assert not differ(RULE + "defense = Defense(weigh)\n", '"""A rule."""', '"""Another."""')


DEEP = " + ".join(["1"] * 600)


@pytest.mark.parametrize(
    "text",
    [
        f"x = {DEEP}\ndefense = Defense(weigh)\n",
        f"defense = Defense(weigh, requires=lambda n, f: {DEEP} > f)\n",
        f"def rule(round, *, size: int = {DEEP}):\n    return torch.ones(round.n)\ndefense = Defense(rule)\n",
        f"def rule(round, *, size: {' | '.join(['int'] * 600)} = 1):\n    return torch.ones(round.n)\n"
        "defense = Defense(rule)\n",
        f"defense = Defense(weigh, family={'-' * 900}1)\n",
        f"x = torch{'.float()' * 300}\ndefense = Defense(weigh)\n".replace("torch.", "torch.ones(2).", 1),
        f"x = {hex(10**5000)}\ndefense = Defense(weigh)\n",
    ],
    ids=["sum", "requirement", "default", "annotation", "literal", "chain", "long number"],
)
def test_a_deep_expression_is_read_digested_and_run(text: str, tmp_path: Path) -> None:
    registry = Registry([write(tmp_path, "mine", RULE + text)])
    entry = registry.entry("defense", "mine")
    assert len(entry.digest) == 64
    assert len(entry.signature) < 10_000
    assert entry.literal("family", "other") is not None
    assert registry.stack("krum").defense.name == "krum"
    step = agrbench.aggregate(torch.eye(5), "mine", plugins=(str(entry.path),))
    assert step.tolist() == [1.0] * 5


@pytest.mark.parametrize(
    "text", [f"x = {'-' * 100_000}1\n", f"x = {' + '.join(['1'] * 100_000)}\n", f"x = {'(' * 99}1"]
)
def test_what_python_itself_cannot_parse_is_refused_in_one_short_sentence(text: str, tmp_path: Path) -> None:
    path = write(tmp_path, "mine", RULE + text)
    with pytest.raises(PluginError) as refused:
        Registry([path])
    assert str(refused.value).startswith(f"{path}: ")
    assert len(str(refused.value)) < 300
    forgiving = Registry([path], forgiving=True)
    assert "krum" in forgiving.names("defense")
    assert set(forgiving.broken) == {"mine"}


def test_a_text_walked_without_recursion_is_the_text_that_recursion_writes(tmp_path: Path) -> None:
    """Digests of committed records depend on these very characters."""
    tree = Registry([write(tmp_path, "mine", 'import torch\nfrom agrbench import b, a as c\nx = f(None, y="é")\n'
                           "defense = 1\n")]).entry("defense", "mine")._tree  # fmt: skip
    assert essence._Essence(False, frozenset()).text(tree) == (
        '["Module", ["body", [["agrbench", ["a as c", "b"]], '
        '["Import", ["names", [["alias", ["name", "\'torch\'"]]]]], '
        '["Assign", ["targets", [["Name", ["id", "\'x\'"], ["ctx", ["Store"]]]]], '
        '["value", ["Call", ["func", ["Name", ["id", "\'f\'"], ["ctx", ["Load"]]]], '
        '["args", [["Constant"]]], '
        '["keywords", [["keyword", ["arg", "\'y\'"], ["value", ["Constant", ["value", "\'\\u00e9\'"]]]]]]]]], '
        '["Assign", ["targets", [["Name", ["id", "\'defense\'"], ["ctx", ["Store"]]]]], '
        '["value", ["Constant", ["value", "1"]]]]]]]'
    )


# Data files


DATASET = """
from pathlib import Path
import torch
from agrbench.data import Examples
from agrbench.plugins import Dataset, Source

def load():
    rows = torch.ones(4, 2)
    return Examples(rows, torch.zeros(4).long(), 2), Examples(rows, torch.zeros(4).long(), 2)

def reads():
    return [{folder!r} + "/numbers.txt"]

common = dict(model="mlp(3)", rate=0.1, root_size=1, source=Source("own"), reads=reads)
dataset = {record}
"""


@pytest.mark.parametrize(
    "record", ["Dataset(load, **common)", "(lambda: Dataset(load, **common))()", "Dataset(load, 'mlp(3)', 0.1, 1, "
               "common['source'], reads)"],
)  # fmt: skip
def test_files_that_a_dataset_reads_count_however_its_record_is_made(record: str, tmp_path: Path) -> None:
    path = write(tmp_path, "mine", DATASET.format(folder=str(tmp_path), record=record))
    cell, found = Cell("mine", "krum", "none"), []
    for content in (None, "0.9", "0.1"):
        if content is not None:
            (tmp_path / "numbers.txt").write_text(content)
        found.append(Registry([path]).sources(cell)["dataset"])
    assert len(set(found)) == 3


def test_what_listing_a_dataset_s_files_raises_names_the_plugin(tmp_path: Path) -> None:
    text = DATASET.format(folder=str(tmp_path), record="Dataset(load, **common)").replace(
        "    return [", "    1 / 0; return ["
    )
    path = write(tmp_path, "mine", text)
    with pytest.raises(PluginError, match=r"mine\.py: reads raised ZeroDivisionError"):
        Registry([path]).sources(Cell("mine", "krum", "none"))


def test_the_json_files_of_femnist_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGRBENCH_DATA", str(tmp_path))
    cell, registry = Cell("femnist", "krum", "none"), Registry()
    found = [registry.sources(cell)["dataset"]]
    for half in ("train", "test"):
        for number in range(2):
            path = tmp_path / f"femnist/{half}/all_data_{number}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, leaf((f"w{number}", [1])))
            found.append(registry.sources(cell)["dataset"])
    os.utime(path)
    assert registry.sources(cell)["dataset"] == found[-1]
    path.write_bytes(path.read_bytes().replace(b"1", b"2"))
    found.append(registry.sources(cell)["dataset"])
    path.write_bytes(path.read_bytes()[:-1])
    found.append(registry.sources(cell)["dataset"])
    assert len(set(found)) == len(found)


def test_many_files_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from agrbench.data import files

    read: list[Path] = []

    def sha256(path: Path) -> str:
        read.append(path)
        return "0" * 64

    monkeypatch.setattr(files, "sha256", sha256)
    monkeypatch.setenv("AGRBENCH_DATA", str(tmp_path))
    for half in ("train", "test"):
        (tmp_path / "femnist" / half).mkdir(parents=True)
        for number in range(20):
            (tmp_path / f"femnist/{half}/{number}.json").write_text("{}")
    for _ in range(3):
        Registry().sources(Cell("femnist", "krum", "none"))
    assert len(read) == 40
