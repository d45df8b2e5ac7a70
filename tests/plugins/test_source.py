"""The source of a plugin: its digest changes with everything that may change a result, and with nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from agrbench.plugins.registry import Registry
from tests.helpers.plugins import RULE, write

SHIPPED = Registry()


DOCUMENTED = '''"""A rule under test."""

import torch
from agrbench.errors import AgrbenchError
from agrbench.plugins import Defense, Stage


def weigh(round, *, power: float = 2.0):
    """Weigh."""
    torch.manual_seed(0)
    return (torch.ones(len(round.updates)) ** power), 'a text that counts', None, f"{power:.3f}"


defense = Defense(weigh)
'''


def digest_of(tmp_path: Path, text: str) -> str:
    return Registry([write(tmp_path, "mine", text)]).digest("defense", "mine")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("import torch\n", "import torch  # for ones\n\n\n"),
        ('"""A rule under test."""', '"""Another\nsentence."""'),
        ('"""Weigh."""', '"""Weigh all alike."""'),
        ("Defense(weigh)", "Defense(\n    weigh\n)"),
        ("Defense(weigh)", "Defense(weigh, waives={'unanimity': 'why'})"),
        ("from agrbench.plugins import", "from agrbench.plugins.contract import"),
        (
            "from agrbench.errors import AgrbenchError\nfrom agrbench.plugins import Defense, Stage\n",
            "from agrbench.plugins import Stage, Defense\nfrom agrbench import AgrbenchError\n",
        ),
    ],
)
def test_a_digest_does_not_change_with_what_changes_no_result(tmp_path: Path, old: str, new: str) -> None:
    assert old in DOCUMENTED
    assert digest_of(tmp_path, DOCUMENTED) == digest_of(tmp_path, DOCUMENTED.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("power)", "-power)"),
        ("2.0", "2"),
        ("power: float", "weight: float"),
        ("round.updates", "round.view"),
        ("    torch.manual_seed", "  # torch.manual_seed"),
        ("Defense(weigh)", "Defense(weigh, family='mine')"),
        ("'a text that counts'", "'another'"),
        ("import torch\n", "import torch\nimport math\n"),
        ("import Defense, Stage", "import Defense"),
        ("import Defense, Stage", "import Defense, Stage as Step"),
        ("from agrbench.errors", "from agrbenchmark.errors"),
        ("from agrbench.errors", "from .agrbench.errors"),
    ],
)
def test_a_digest_changes_with_everything_else(tmp_path: Path, old: str, new: str) -> None:
    assert old in DOCUMENTED
    assert digest_of(tmp_path, DOCUMENTED) != digest_of(tmp_path, DOCUMENTED.replace(old, new, 1))


def test_a_digest_is_the_same_on_every_machine_and_version_of_python(tmp_path: Path) -> None:
    assert digest_of(tmp_path, DOCUMENTED) == "c5d1065521566a3773bea66082026b51e5b22d1bb237ee7468ec5e59e20b55dc"


def test_a_digest_changes_only_for_specs_that_name_the_file(tmp_path: Path) -> None:
    specs = ["mine", "mine(power=2.0)", "amp+mine", "krum", "amp+krum", "fedavg"]
    path = write(tmp_path, "mine", RULE)
    registry = Registry([path])
    before = {spec: registry.digest("defense", spec) for spec in specs}
    write(tmp_path, "mine", RULE + "changed = True\n")
    registry = Registry([path])
    after = {spec: registry.digest("defense", spec) for spec in specs}
    assert {spec for spec in specs if before[spec] != after[spec]} == {"mine", "mine(power=2.0)", "amp+mine"}


def test_a_digest_depends_on_the_stages_and_their_order_but_not_on_hyperparameters() -> None:
    specs = ["krum", "amp+krum", "nnm+krum", "amp+nnm+krum", "nnm+amp+krum", "amp+median"]
    assert len({SHIPPED.digest("defense", spec) for spec in specs}) == len(specs)
    assert SHIPPED.digest("defense", "amp(kernel=3)+krum") == SHIPPED.digest("defense", "amp+krum")
