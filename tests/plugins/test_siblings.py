"""Files beside a plugin: they can be imported, two plugins' files are two modules, and they count in the digest."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from agrbench.errors import PluginError
from agrbench.plugins import registry
from agrbench.plugins.registry import Registry

NORMS = SimpleNamespace(norms=torch.tensor([0.5, 1.0]))
IMPORTS = {
    "from": "from helpers import SHARE",
    "import": "import helpers\nSHARE = helpers.SHARE",
    "import as": "import helpers as h, math\nSHARE = h.SHARE",
    "star": "from helpers import *",
    "relative": "from .helpers import SHARE",
    "relative module": "from . import helpers\nSHARE = helpers.SHARE",
    "by function": "from importlib import import_module\nSHARE = import_module('helpers').SHARE",
    "package": "from lib.helpers import SHARE",
    "package import": "import lib.helpers\nimport lib.helpers as h\nSHARE = lib.helpers.SHARE\nassert h is lib.helpers",
    "module of a package": "from lib import helpers\nSHARE = helpers.SHARE",
    "through another": "from middle import SHARE",
    "through a package": "from box import SHARE",
    "in a circle": "from circle import SHARE",
}
FILES = {
    "helpers.py": "SHARE = 0.9\n",
    "lib/helpers.py": "SHARE = 0.9\n",
    "middle.py": "from helpers import SHARE\n",
    "box/__init__.py": "from .inner import SHARE\n",
    "box/inner.py": "from ..helpers import SHARE as OTHER\nfrom helpers import SHARE\n",
    "circle.py": "import other_side\nSHARE = 0.9\n",
    "other_side.py": "import circle\nimport helpers\nfrom mine import Defense\n",
}


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Forget the modules of a test, for the next one has others of the same name."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith(("helpers", "elsewhere", "my_lab", "peer_of_mine", "rules_at_home", "stranger")):
            del sys.modules[name]


def lay(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def rule(imports: str, late: bool = False) -> str:
    inside = "    " + imports.replace("\n", "\n    ") + "\n" if late else ""
    return (
        f"from agrbench.plugins import Defense\n{'' if late else imports}\n"
        f"def weigh(round):\n{inside}    return round.norms >= SHARE\n"
        "defense = Defense(weigh)\n"
    )


def chosen(found: Registry, name: str = "mine") -> list[bool]:
    verdict: Any = found.stack(name).defense.record.weigh(NORMS)
    return list(verdict.tolist())


@pytest.mark.parametrize(
    ("form", "late"),
    [(form, late) for form in IMPORTS for late in (False, True) if not (late and form == "star")],  # not in a function
)
def test_files_beside_a_plugin_are_imported_and_count(form: str, late: bool, tmp_path: Path) -> None:
    lay(tmp_path, {**FILES, "mine.py": rule(IMPORTS[form], late)})
    path, before, known = list(sys.path), [tmp_path / "mine.py"], set(sys.modules)
    first = Registry(before)
    assert chosen(first) == [False, True]
    assert sys.path == path
    new = {name for name in sys.modules if name not in known and not name.startswith("agrbench_plugin_mine_")}
    assert not {name.partition(".")[0] for name in new} & {"helpers", "lib", "middle", "box", "circle", "other_side"}
    old = first.digest("defense", "mine")
    for name in FILES:
        (tmp_path / name).write_text(FILES[name].replace("0.9", "0.1"))
    second = Registry(before)
    assert chosen(second) == [True, True]
    assert second.digest("defense", "mine") != old
    assert chosen(first) == [False, True], "the first registry keeps what it loaded"


def test_a_docstring_or_a_claim_of_a_helper_counts_where_the_plugin_reads_it(tmp_path: Path) -> None:
    text = "import helpers\nSHARE = float(helpers.{})"
    for reads, helper in (
        ("f.__doc__", 'def f():\n    """0.9"""\n'),
        ("defense.proof", "defense = Defense(1, proof=0.9)"),
    ):
        lay(tmp_path, {"mine.py": rule(text.format(reads))})
        found = []
        for share in ("0.9", "0.1"):
            lay(tmp_path, {"helpers.py": "from agrbench.plugins import Defense\n" + helper.replace("0.9", share)})
            registry = Registry([tmp_path / "mine.py"])
            found.append((chosen(registry), registry.digest("defense", "mine")))
        assert found[0][0] != found[1][0]
        assert found[0][1] != found[1][1]


def test_the_essence_of_a_helper_counts_and_not_its_layout(tmp_path: Path) -> None:
    lay(tmp_path, {"mine.py": rule("from helpers import SHARE"), "helpers.py": "SHARE = 0.9\n", "unused.py": "A = 1\n"})
    before = Registry([tmp_path / "mine.py"]).digest("defense", "mine")
    lay(tmp_path, {"helpers.py": '"""Help."""\nSHARE  =  0.9  # a share\n', "unused.py": "A = 2\n"})
    assert Registry([tmp_path / "mine.py"]).digest("defense", "mine") == before


def test_a_digest_does_not_depend_on_where_the_folder_is(tmp_path: Path) -> None:
    found = set()
    for folder in (tmp_path / "a", tmp_path / "b/c"):
        imports = "from agrbench.defenses.krum import krum\nfrom lib.helpers import SHARE"
        lay(folder, {**FILES, "mine.py": rule(imports)})
        found.add(Registry([folder / "mine.py"]).digest("defense", "mine"))
    assert len(found) == 1


def test_a_shipped_plugin_that_a_plugin_builds_on_counts(tmp_path: Path) -> None:
    found = set()
    for base in ("median", "trimmed_mean"):
        text = f"from agrbench.defenses.{base} import defense as base\nfrom agrbench.plugins import Defense\n"
        lay(tmp_path, {"mine.py": text + "defense = Defense(base.weigh)\n"})
        found.add(Registry([tmp_path / "mine.py"]).digest("defense", "mine"))
    assert len(found) == 2


def test_an_edit_of_a_helper_is_noticed_in_one_process(tmp_path: Path) -> None:
    lay(tmp_path, {"mine.py": rule("from helpers import SHARE"), "helpers.py": "SHARE = 0.9\n"})
    files = [tmp_path / "mine.py"]
    first = registry.of(files)
    assert registry.of(files) is first
    assert chosen(first) == [False, True]
    lay(tmp_path, {"helpers.py": "SHARE = 0.1\n"})
    assert chosen(registry.of(files)) == [True, True]


def test_two_plugins_helpers_are_two_modules_and_installed_ones_stay_reachable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay(tmp_path / "lib", {"helpers.py": "SHARE = 3\n", "elsewhere.py": "SHARE = 0.7\n"})
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    installed = importlib.import_module("helpers")
    lay(tmp_path / "a", {"one.py": rule("from helpers import SHARE"), "helpers.py": "SHARE = 0.9\n"})
    lay(tmp_path / "b", {"two.py": rule("from helpers import SHARE"), "helpers.py": "SHARE = 0.1\n"})
    lay(tmp_path / "c", {"three.py": rule("from elsewhere import SHARE")})
    found = Registry([tmp_path / "a/one.py", tmp_path / "b/two.py", tmp_path / "c/three.py"])
    assert [chosen(found, name) for name in ("one", "two", "three")] == [[False, True], [True, True], [False, True]]
    assert sys.modules["helpers"] is installed
    assert not list(tmp_path.glob("[abc]/__pycache__")), "nothing is written beside the user's files"


@pytest.mark.parametrize("name", ["torch", "random", "statistics", "numpy"])
def test_a_file_beside_a_plugin_does_not_replace_what_every_plugin_imports(name: str, tmp_path: Path) -> None:
    text = f"import {name}\nSHARE = 0.9\nassert hasattr({name}, '__file__') and {name}.__name__ == '{name}'"
    lay(tmp_path, {"mine.py": rule(text), f"{name}.py": "raise RuntimeError('the wrong one')\n"})
    assert chosen(Registry([tmp_path / "mine.py"])) == [False, True]


def test_a_plugin_may_have_the_name_of_a_module_that_it_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay(tmp_path / "lib", {"peer_of_mine.py": "SHARE = 0.9\n"})
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    lay(tmp_path / "own", {"peer_of_mine.py": rule("from peer_of_mine import SHARE")})
    assert chosen(Registry([tmp_path / "own/peer_of_mine.py"]), "peer_of_mine") == [False, True]


def test_a_folder_of_data_is_no_module(tmp_path: Path) -> None:
    (tmp_path / "hypothesis").mkdir()
    lay(tmp_path, {"mine.py": rule("import hypothesis\nSHARE = 0.9\nassert hypothesis.given")})
    assert chosen(Registry([tmp_path / "mine.py"])) == [False, True]


@pytest.mark.parametrize(
    ("helper", "said"), [("SHARE = (\n", "SyntaxError"), ("import gone_for_good\n", "gone_for_good"), ("", "SHARE")]
)
def test_a_broken_helper_is_named_and_leaves_nothing_behind(helper: str, said: str, tmp_path: Path) -> None:
    lay(tmp_path, {"mine.py": rule("from helpers import SHARE"), "helpers.py": helper})
    found = Registry([tmp_path / "mine.py"])
    assert len(found.digest("defense", "mine")) == 64
    with pytest.raises(PluginError, match=said) as refused:
        found.stack("mine")
    assert str(refused.value).startswith(f"{tmp_path / 'mine.py'}: importing it raised")
    assert "helpers" in str(refused.value) or "gone_for_good" in str(refused.value)
    lay(tmp_path, {"helpers.py": "SHARE = 0.9\n"})
    assert chosen(Registry([tmp_path / "mine.py"])) == [False, True]


def test_a_deep_file_beside_others_is_loaded(tmp_path: Path) -> None:
    text = f"from helpers import SHARE\nx = {' + '.join(['1'] * 300)}"
    lay(tmp_path, {"mine.py": rule(text), "helpers.py": f"x = {' + '.join(['1'] * 300)}\nSHARE = 0.9\n"})
    assert chosen(Registry([tmp_path / "mine.py"])) == [False, True]


def test_errors_in_a_plugin_with_helpers_name_its_own_lines(tmp_path: Path) -> None:
    text = "import helpers\nfrom __future__ import annotations".splitlines()
    lay(tmp_path, {"mine.py": "\n".join(reversed(text)) + "\n\ndefense = 1 / 0\n", "helpers.py": ""})
    with pytest.raises(PluginError) as refused:
        Registry([tmp_path / "mine.py"]).stack("mine")
    cause: Any = refused.value.__cause__
    while cause.__traceback__.tb_next:
        cause.__traceback__ = cause.__traceback__.tb_next
    assert cause.__traceback__.tb_lineno == 4
    assert cause.__traceback__.tb_frame.f_code.co_filename == str(tmp_path / "mine.py")


@pytest.mark.parametrize("imports", ["from .common import SHARE", "from rules_at_home.common import SHARE"])
@pytest.mark.parametrize("module", ["rules_at_home.mine", "rules_at_home"])
def test_an_installed_plugin_s_own_package_counts(
    module: str, imports: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site-packages"
    own = "__init__" if module == "rules_at_home" else "mine"
    files = {"rules_at_home/__init__.py": "", "rules_at_home/common.py": "SHARE = 0.9\n", "stranger.py": "A = 1\n"}
    lay(package, {**files, f"rules_at_home/{own}.py": rule(f"{imports}\nimport stranger")})
    info = {
        "METADATA": "Metadata-Version: 2.1\nName: x\nVersion: 1\n",
        "entry_points.txt": f"[agrbench.plugins]\nmine = {module}\n",
    }
    lay(package / "x-1.dist-info", info)
    monkeypatch.syspath_prepend(str(package))
    digests = []
    for edit in ({}, {"stranger.py": "A = 2\n"}, {"rules_at_home/common.py": "SHARE = 0.1\n"}):
        lay(package, edit)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            digests.append(Registry().digest("defense", "mine"))
    assert digests[0] == digests[1] != digests[2]
    assert chosen(Registry()) == [True, True]


def test_a_user_s_file_in_a_package_that_it_imports_by_its_full_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay(tmp_path, {"my_lab/__init__.py": "", "my_lab/rules/__init__.py": "", "my_lab/common.py": "SHARE = 0.9\n"})
    lay(tmp_path, {"my_lab/rules/mine.py": rule("from my_lab.common import SHARE")})
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / "my_lab/rules/mine.py"
    before = Registry([path]).digest("defense", "mine")
    assert chosen(Registry([path])) == [False, True]
    lay(tmp_path, {"my_lab/common.py": "SHARE = 0.1\n"})
    assert Registry([path]).digest("defense", "mine") != before
