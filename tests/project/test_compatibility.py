"""What was written for version 0.1.0 still works: plugin files, and imports of modules that have moved."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import agrbench
from agrbench.plugins import moved
from agrbench.plugins.registry import Registry
from tests.helpers import first_version, plugins

LINE = torch.tensor([[0.0], [1.0], [2.0], [10.0]])


def test_the_defense_of_the_first_readme_still_runs(tmp_path: Path) -> None:
    path = plugins.write(tmp_path, "nearest", first_version.README)
    assert Registry([path]).stack("nearest(share=0.3)").defense.record.family == "distance"
    # The sums of distances are 13, 11, 11 and 27: the median keeps the second and the third row.
    assert agrbench.aggregate(LINE, "nearest", plugins=(path,)).tolist() == [1.5]


def test_a_defense_begun_in_the_first_version_still_runs(tmp_path: Path) -> None:
    path = plugins.write(tmp_path, "own_idea", first_version.scaffold("defense", "own_idea"))
    assert Registry([path]).stack("own_idea").defense.record.family == "distance"
    assert agrbench.aggregate(LINE, "own_idea", 1, plugins=(path,)).tolist() == [1.0]
    assert agrbench.aggregate(LINE, "own_idea(dropped=2)", 1, plugins=(path,)).tolist() == [1.5]


def test_a_stage_begun_in_the_first_version_still_runs(tmp_path: Path) -> None:
    path = plugins.write(tmp_path, "own_idea", first_version.scaffold("stage", "own_idea"))
    assert len(Registry([path]).stack("own_idea+fedavg").stages) == 1
    rows = torch.tensor([[1.0, 0.0], [0.0, 4.0], [3.0, 4.0]])  # of norms 1, 4 and 5
    step = agrbench.aggregate(rows, "own_idea(share=0.5)+fedavg", plugins=(path,))
    assert step.tolist() == pytest.approx([(0.5 + 0.3) / 3, (0.5 + 0.4) / 3], rel=1e-6)


def test_an_attack_begun_in_the_first_version_still_runs(tmp_path: Path) -> None:
    path = plugins.write(tmp_path, "own_idea", first_version.scaffold("attack", "own_idea"))
    record = Registry([path]).attack("own_idea").record
    assert record.poison is None
    rows = agrbench.forge("own_idea(strength=3.0)", LINE, 1, clean=torch.tensor([[5.0]]), plugins=(path,))
    assert rows.tolist() == [[-15.0]]


def test_a_dataset_begun_in_the_first_version_still_loads(tmp_path: Path) -> None:
    path = plugins.write(tmp_path, "own_idea", first_version.scaffold("dataset", "own_idea"))
    train, test = Registry([path]).dataset("own_idea(rows=50)").record.load()
    assert (train.features.shape, test.features.shape) == ((50, 2), (10, 2))
    assert set(train.labels.tolist()) == {0, 1}


def test_plugins_of_the_first_version_load_in_an_interpreter_that_has_loaded_nothing_else(tmp_path: Path) -> None:
    """Modules that tests have imported could hide an import that no longer works."""
    paths = [plugins.write(tmp_path, "nearest", first_version.README)] + [
        plugins.write(tmp_path, f"own_{kind}", first_version.scaffold(kind, f"own_{kind}"))
        for kind in first_version.SCAFFOLDS
    ]
    program = """
import sys
from agrbench.plugins.registry import Registry

registry = Registry(sys.argv[1:])
registry.stack("nearest"), registry.stack("own_stage+own_defense")
registry.attack("own_attack"), registry.dataset("own_dataset")
"""
    done = subprocess.run([sys.executable, "-c", program, *paths], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def forwarded() -> None:
    """Forward imports as loading a plugin does."""
    moved.forward()


@pytest.mark.usefixtures("forwarded")
@pytest.mark.parametrize("old", sorted(moved.HOMES))
def test_a_module_that_has_moved_is_found_in_all_its_new_homes(old: str) -> None:
    for home in moved.HOMES[old]:
        importlib.import_module(home)
    module = importlib.import_module(old)
    assert all(hasattr(module, name) for name in first_version.IMPORTED.get(old, []))


def test_every_module_that_plugins_of_the_first_version_imported_has_a_home() -> None:
    assert set(first_version.IMPORTED) <= set(moved.HOMES)


def test_the_helpers_of_datasets_are_found_where_they_were() -> None:
    from agrbench.data import corrupt, fetch, files, member, unzipped

    assert (corrupt, fetch, member, unzipped) == (files.corrupt, files.fetch, files.member, files.unzipped)
