"""The registry: every plugin under its file's name, and refused with the fix in the sentence."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agrbench.errors import AgrbenchError, PluginError, SpecError
from agrbench.plugins import contract, importing
from agrbench.plugins.registry import Registry
from tests.helpers.plugins import RULE
from tests.helpers.project import ROOT

SHIPPED = Registry()
FOLDERS = {"attack": "attacks", "defense": "defenses", "stage": "defenses", "dataset": "datasets"}


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def python(program: str, *arguments: str, cwd: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program in a fresh interpreter, where nothing has been imported yet."""
    others = os.environ.get("PYTHONPATH")
    extra = {"PYTHONPATH": os.pathsep.join(filter(None, [str(path), others]))} if path else {}
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=cwd, env={**os.environ, **extra}, capture_output=True, text=True,
    )  # fmt: skip


def modules() -> list[tuple[str, str, Any]]:
    """Import every shipped file: its kind, its stem and the module."""
    found = []
    for package in ("attacks", "defenses", "datasets"):
        for path in sorted((ROOT / package).glob("[!_]*.py")):
            module = importlib.import_module(f"agrbench.{package}.{path.stem}")
            kinds = [kind for kind, record in contract.KINDS.items() if isinstance(getattr(module, kind, None), record)]
            assert kinds, f"{path} exports nothing"
            found += [(kind, path.stem, module) for kind in kinds]
    return found


ENTRIES = [SHIPPED.entry(kind, name) for kind in contract.KINDS for name in SHIPPED.names(kind)]
IDS = [f"{entry.kind}-{entry.name}" for entry in ENTRIES]


# Shipped plugins


def test_every_shipped_file_is_found_under_its_file_name_and_nothing_else_is() -> None:
    made = modules()
    for kind in contract.KINDS:
        assert SHIPPED.names(kind) == sorted(stem for has, stem, _ in made if has == kind)
    assert {"krum", "fedavg"} <= set(SHIPPED.names("defense"))


@pytest.mark.parametrize("entry", ENTRIES, ids=IDS)
def test_what_the_source_text_says_is_what_the_module_says(entry: Any) -> None:
    """Names, summaries and signatures are read without importing; they must agree with what importing gives."""
    module = importlib.import_module(f"agrbench.{FOLDERS[entry.kind]}.{entry.name}")
    assert entry.path == Path(str(module.__file__))
    assert entry.summary == str(module.__doc__).splitlines()[0]
    assert entry.summary.strip()
    record = getattr(module, entry.kind)
    real = contract.hyperparameters(record)
    assert set(entry.parameters) == set(real)
    for name, parameter in entry.parameters.items():
        default = ast.literal_eval(parameter.default)
        assert default == real[name].default
        assert type(default) is type(real[name].default)
        assert parameter.annotation, f"{name} has no annotation: its type cannot be checked"
        assert parameter.accepts(default)
        assert f"{name}: {parameter.annotation} = {parameter.default}" in entry.signature
    assert entry.has_columns == (entry.kind == "stage" and record.columns is not None)


@pytest.mark.parametrize("entry", ENTRIES, ids=IDS)
def test_a_bare_name_is_canonical_and_so_is_one_with_all_defaults_written_out(entry: Any) -> None:
    end = "+fedavg" if entry.kind == "stage" else ""
    kind = "defense" if entry.kind == "stage" else entry.kind
    written = ",".join(f"{name}={parameter.default}" for name, parameter in entry.parameters.items())
    assert SHIPPED.canonical(kind, entry.name + end) == entry.name + end
    assert SHIPPED.canonical(kind, f"{entry.name}({written}){end}") == entry.name + end


def test_loading_gives_the_record_under_the_spec_that_was_asked_for() -> None:
    stack = SHIPPED.stack("amp(kernel=3)+nnm+krum")
    assert [stage.name for stage in stack.stages] == ["amp(kernel=3)", "nnm"]
    assert stack.defense.name == "krum"
    assert SHIPPED.attack("scaling(target=2)").name == "scaling(target=2)"
    assert isinstance(SHIPPED.dataset("digits").record, contract.Dataset)


# What is refused, and how


@pytest.mark.parametrize(
    ("kind", "spec", "wrong", "near"),
    [
        ("defense", "kurm", "kurm", "krum"),
        ("defense", "medain", "medain", "median"),
        ("defense", "ampp+krum", "ampp", "amp"),
        ("attack", "lable_flip", "lable_flip", "label_flip"),
        ("dataset", "digit", "digit", "digits"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(kind: str, spec: str, wrong: str, near: str) -> None:
    with pytest.raises(SpecError, match=rf"no \w+ is named '{wrong}'; did you mean .*\b{near}\b"):
        SHIPPED.canonical(kind, spec)


@pytest.mark.parametrize("kind", sorted(contract.KINDS))
def test_a_name_like_no_other_is_answered_with_all_there_are(kind: str) -> None:
    with pytest.raises(SpecError) as refused:
        SHIPPED.entry(kind, "qqqqqq")
    assert all(name in str(refused.value) for name in SHIPPED.names(kind))


@pytest.mark.parametrize(
    ("kind", "spec", "name", "is_a", "wanted"),
    [
        ("defense", "amp", "amp", "stage", "defense"),
        ("defense", "nnm+amp", "amp", "stage", "defense"),
        ("defense", "krum+krum", "krum", "defense", "stage"),
        ("defense", "digits", "digits", "dataset", "defense"),
        ("dataset", "krum", "krum", "defense", "dataset"),
    ],
)
def test_a_plugin_of_another_kind_is_refused_by_both_kinds(
    kind: str, spec: str, name: str, is_a: str, wanted: str
) -> None:
    with pytest.raises(SpecError, match=rf"{name} is an? {is_a}, not an? {wanted}"):
        SHIPPED.canonical(kind, spec)


@pytest.mark.parametrize(("kind", "spec"), [("defense", "scaling"), ("attack", "krum")])
def test_an_attack_is_called_an_attack(kind: str, spec: str) -> None:
    with pytest.raises(SpecError, match="an attack") as refused:
        SHIPPED.canonical(kind, spec)
    assert " a attack" not in str(refused.value)


@pytest.mark.parametrize(("kind", "spec"), [("attack", "none+scaling"), ("dataset", "digits+digits")])
def test_only_a_defense_is_preceded_by_stages(kind: str, spec: str) -> None:
    with pytest.raises(SpecError, match=f"write one {kind}"):
        SHIPPED.canonical(kind, spec)


@pytest.mark.parametrize(
    ("kind", "spec", "said"),
    [
        ("defense", "cosden(neighbours=ten)", "cosden(neighbours=ten)"),
        ("defense", "cosden(neighbours='ten')", "cosden(neighbours='ten')"),
        ("defense", "cosden(neighbours=1.5)", "cosden(neighbours=1.5)"),
        ("defense", "amp(kernel='x')+krum", "amp(kernel='x')"),
        ("defense", "amp(kernel=2.0)+krum", "amp(kernel=2.0)"),
        ("defense", "amp(kernel=True)+krum", "amp(kernel=True)"),
        ("defense", "amp(kernel=None)+krum", "amp(kernel=None)"),
        ("defense", "amp(kernel=(2,))+krum", "amp(kernel=(2,))"),
        ("defense", "amp(kernel=two)+krum", "amp(kernel=two)"),
        ("defense", "amp(by='sum')+krum", "amp(by='sum')"),
        ("defense", "amp(by=['value'])+krum", "amp(by=['value'])"),
        ("defense", "amp(shuffle=1)+krum", "amp(shuffle=1)"),
        ("attack", "scaling(target='0')", "scaling(target='0')"),
        ("attack", "label_flip(map=reverse)", "label_flip(map=reverse)"),
    ],
)
def test_an_ill_typed_argument_is_answered_with_the_signature(kind: str, spec: str, said: str) -> None:
    with pytest.raises(SpecError) as refused:
        SHIPPED.canonical(kind, spec)
    name = said.partition("(")[0]
    known = next(entry for entry in ENTRIES if entry.name == name)
    assert said in str(refused.value)
    assert known.signature in str(refused.value)


@pytest.mark.parametrize(
    ("spec", "wrong", "near"),
    [("amp(kernal=3)+krum", "kernal", "kernel"), ("cosden(neighbors=7)", "neighbors", "neighbours")],
)
def test_an_unknown_hyperparameter_is_answered_with_the_nearest_and_the_signature(
    spec: str, wrong: str, near: str
) -> None:
    with pytest.raises(SpecError, match=rf"no hyperparameter '{wrong}'; did you mean {near}\? the signature is"):
        SHIPPED.canonical("defense", spec)


def test_a_hyperparameter_of_a_plugin_without_any_is_refused() -> None:
    with pytest.raises(SpecError, match=r"bulyan has no hyperparameter 'x'; the signature is bulyan$"):
        SHIPPED.canonical("defense", "bulyan(x=1)")


def test_nothing_that_a_spec_says_is_run_when_it_is_checked(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    for call in ("canonical", "digest", "entries"):
        with pytest.raises(SpecError):
            getattr(SHIPPED, call)("defense", f"krum(x=__import__('os').system('touch {trace}'))")
    with pytest.raises(SpecError):
        SHIPPED.stack(f"krum(x=__import__('os').system('touch {trace}'))")
    assert not trace.exists()


# Canonical form

AMP = {
    "kernel": (["2", "0b10"], ["3", "5"]),
    "by": (["'value'", '"value"', "'val' 'ue'"], ["'magnitude'"]),
    "fold": (["'layers'"], ["'released'"]),
    "shuffle": (["False"], ["True"]),
}


@given(data=st.data())
def test_canonical_form_sorts_hyperparameters_and_drops_defaults_whatever_the_spelling(data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.sampled_from(sorted(AMP)), unique=True))
    pairs, kept = [], []
    for name in chosen:
        default, other = AMP[name]
        text = data.draw(st.sampled_from(default + other))
        pairs.append((name, text))
        if text in other:
            kept.append(f"{name}={text}")
    space = st.sampled_from(["", " "])
    body = ",".join(f"{data.draw(space)}{name}{data.draw(space)}={text}" for name, text in pairs)
    spec = f"amp({body}){data.draw(space)}+{data.draw(space)}krum"
    wanted = f"amp({','.join(sorted(kept))})+krum" if kept else "amp+krum"
    assert SHIPPED.canonical("defense", spec) == wanted
    assert SHIPPED.canonical("defense", wanted) == wanted


def test_the_order_of_stages_is_kept() -> None:
    assert SHIPPED.canonical("defense", "nnm+amp+krum") == "nnm+amp+krum"
    assert SHIPPED.canonical("defense", "amp+nnm+krum") == "amp+nnm+krum"


@pytest.mark.parametrize(
    "declared",
    ["power: float = 1.0", "power: float = 1", "power: float | None = 1.0"],
)
def test_a_whole_number_and_the_equal_float_are_one_spec_where_floats_are_meant(declared: str, tmp_path: Path) -> None:
    text = RULE.replace("power: float = 1.0", declared)
    registry = Registry([write(tmp_path, "mine.py", text)])
    assert registry.canonical("defense", "mine(power=2)") == registry.canonical("defense", "mine(power=2.0)")
    assert registry.canonical("defense", "mine(power=1)") == "mine"
    assert registry.canonical("defense", "mine(power=1.0)") == "mine"


def test_a_bool_is_no_number_even_where_floats_are_meant(tmp_path: Path) -> None:
    registry = Registry([write(tmp_path, "mine.py", RULE)])
    for value in ("True", "False"):
        with pytest.raises(SpecError, match="power is float"):
            registry.canonical("defense", f"mine(power={value})")


def test_a_number_too_large_for_a_float_is_refused_or_kept_but_never_a_crash(tmp_path: Path) -> None:
    registry = Registry([write(tmp_path, "mine.py", RULE)])
    try:
        spec = registry.canonical("defense", f"mine(power={10**400})")
    except SpecError:
        return
    assert registry.canonical("defense", spec) == spec


def test_a_value_equal_to_the_default_but_of_another_type_is_kept(tmp_path: Path) -> None:
    text = RULE.replace("power: float = 1.0", "power=1")
    registry = Registry([write(tmp_path, "mine.py", text)])
    assert registry.canonical("defense", "mine(power=True)") == "mine(power=True)"
    assert registry.canonical("defense", "mine(power=1)") == "mine"


# Plugin files of the user


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def rule(:\n", "not Python in line 1"),
        ("x = 1\n\n  y = 2\n", "not Python in line 3"),
        ("", "exports no plugin"),
        ("import agrbench\n", "exports no plugin"),
        ("defence = 1\n", "exports no plugin"),
        ("def make():\n    defense = 1\n", "exports no plugin"),
        ("defense: int\n", "exports no plugin"),
        ("x = 1\0\n", "not Python"),
    ],
)
def test_a_file_that_exports_no_plugin_is_refused_with_its_path_and_the_fix(
    text: str, said: str, tmp_path: Path
) -> None:
    path = write(tmp_path, "mine.py", text)
    with pytest.raises(PluginError) as refused:
        Registry([path])
    assert str(path) in str(refused.value)
    assert said in str(refused.value)
    assert "mend the file" in str(refused.value) or "defense = Defense(...)" in str(refused.value)


def test_a_file_that_is_no_text_is_refused_by_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_bytes(b"defense = '\xff\xfe'\n")
    with pytest.raises(PluginError, match=r"mine\.py: not Python"):
        Registry([path])


@pytest.mark.parametrize("kind", ["absent", "folder"])
def test_a_path_that_cannot_be_read_is_refused_by_path(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    if kind == "folder":
        path.mkdir()
    with pytest.raises(PluginError, match=r"mine\.py: the plugin file cannot be read .*give the path of a \.py file"):
        Registry([path])


def test_a_name_in_use_is_refused_with_both_paths(tmp_path: Path) -> None:
    path = write(tmp_path, "krum.py", RULE)
    with pytest.raises(PluginError, match="exists already") as refused:
        Registry([path])
    assert str(path) in str(refused.value)
    assert str(SHIPPED.entry("defense", "krum").path) in str(refused.value)


def test_two_files_of_one_name_are_refused_but_one_file_named_twice_is_not(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, two = write(tmp_path / "a", "mine.py", RULE), write(tmp_path / "b", "mine.py", RULE)
    with pytest.raises(PluginError, match="exists already"):
        Registry([one, two])
    twice = Registry([one, tmp_path / "b" / ".." / "a" / "mine.py"])
    assert "mine" in twice.names("defense")


@pytest.mark.parametrize("name", ["my-rule.py", "2krum.py", "lambda.py", "None.py", "my rule.py", "my.rule.py"])
def test_a_file_name_that_no_spec_can_name_is_refused_at_once(name: str, tmp_path: Path) -> None:
    """Such a plugin would be listed, and no spec could ever ask for it."""
    path = write(tmp_path, name, RULE)
    with pytest.raises(PluginError) as refused:
        Registry([path])
    assert str(path) in str(refused.value)


@pytest.mark.parametrize(
    ("text", "is_a"),
    [
        ("defense = 3\n", "int"),
        ("from agrbench.plugins import Attack\ndefense = Attack()\n", "Attack"),
        ("from agrbench.plugins import Defense\ndefense = Defense\n", "type"),
    ],
)
def test_a_record_of_the_wrong_type_is_refused_by_its_type_when_loaded(text: str, is_a: str, tmp_path: Path) -> None:
    path = write(tmp_path, "mine.py", text)
    registry = Registry([path])
    assert registry.entry("defense", "mine").signature == "mine"
    with pytest.raises(PluginError, match=rf"`defense` is an? {is_a}; write defense = Defense\(\.\.\.\)") as refused:
        registry.stack("mine")
    assert str(path) in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "raise RuntimeError('broken')\ndefense = 1\n",
        "import a_module_that_is_not_there\ndefense = 1\n",
        "from agrbench.plugins import Defense\ndefense = Defense()\n",
        "from agrbench.plugins import Stage\nbroken = Stage()\ndefense = 1\n",
        "raise SystemExit(3)\ndefense = 1\n",
    ],
)
def test_a_file_that_raises_when_imported_is_listed_and_refused_by_path_when_asked_for(
    text: str, tmp_path: Path
) -> None:
    path = write(tmp_path, "mine.py", text)
    registry = Registry([path])
    assert "mine" in registry.names("defense")
    assert registry.canonical("defense", "mine") == "mine"
    with pytest.raises(PluginError, match="importing it raised") as refused:
        registry.stack("mine")
    assert str(path) in str(refused.value)


def test_a_file_that_loops_when_imported_is_refused_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "loops.py", f"{RULE}\nwhile True:\n    try:\n        1 / 0\n    except Exception: pass\n")
    monkeypatch.setattr(importing, "SECONDS", 0.2)
    before = signal.getsignal(signal.SIGALRM)
    signal.setitimer(signal.ITIMER_REAL, 100)
    try:
        with pytest.raises(PluginError) as refused:
            Registry([path]).stack("loops")
        left, _ = signal.getitimer(signal.ITIMER_REAL)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    assert str(refused.value).startswith(f"{path}: importing it took longer than 0.2 s")
    assert 0 < left < 100, "the timer that ran before goes on"
    assert signal.getsignal(signal.SIGALRM) is before


def test_other_plugins_load_beside_a_broken_one(tmp_path: Path) -> None:
    registry = Registry([write(tmp_path, "mine.py", "raise RuntimeError('broken')\ndefense = 1\n")])
    assert registry.stack("krum").defense.name == "krum"


def test_a_file_may_export_two_kinds(tmp_path: Path) -> None:
    text = RULE + (
        "from agrbench.plugins import Attack\n"
        "def send(insider, *, strength: int = 1):\n    return strength\n"
        "attack = Attack(forge=send)\n"
    )
    registry = Registry([write(tmp_path, "mine.py", text)])
    assert "mine" in registry.names("defense")
    assert "mine" in registry.names("attack")
    assert registry.canonical("defense", "mine(power=2)") == "mine(power=2.0)"
    forge = registry.attack("mine(strength=5)").record.forge
    assert forge is not None
    assert forge(None) == 5
    with pytest.raises(SpecError, match="no hyperparameter 'strength'"):
        registry.stack("mine(strength=5)")


def test_a_user_s_rule_stands_in_a_stack_and_weighs_with_its_hyperparameter(tmp_path: Path) -> None:
    registry = Registry([write(tmp_path, "mine.py", RULE)])
    stack = registry.stack("amp+mine(power=0.5)")
    weights = stack.defense.record.weigh(SimpleNamespace(view=torch.zeros(3, 2)))
    assert isinstance(weights, torch.Tensor)
    assert weights.tolist() == [0.5, 0.5, 0.5]


ATTACK = """
from agrbench.plugins import Attack

def poison(shard, rng, attacker, *, target: int = 0, depth: int = 1):
    return "poison", target, depth

def forge(insider, *, scale: float = 1.0, target: int = 0):
    return "forge", target, scale

def trigger(examples, *, target: int = 0):
    return "trigger", target

attack = Attack(poison=poison, forge=forge, trigger=trigger)
"""


def test_a_hyperparameter_is_bound_in_every_function_that_names_it_and_in_no_other(tmp_path: Path) -> None:
    registry = Registry([write(tmp_path, "mine.py", ATTACK)])
    loaded = registry.attack("mine(target=7, scale=2)")
    record: Any = loaded.record
    assert record.poison(None, None, 0) == ("poison", 7, 1)
    assert record.forge(None) == ("forge", 7, 2.0)
    assert record.trigger(None) == ("trigger", 7)
    assert loaded.name == "mine(scale=2.0,target=7)"
    assert registry.entry("attack", "mine").signature == ("mine(target: int = 0, depth: int = 1, scale: float = 1.0)")


def test_binding_leaves_the_module_s_own_record_as_it_was(tmp_path: Path) -> None:
    registry = Registry([write(tmp_path, "mine.py", ATTACK)])
    registry.attack("mine(target=7)")
    plain: Any = registry.attack("mine").record
    assert plain.forge(None) == ("forge", 0, 1.0)


def test_a_hyperparameter_is_bound_in_conditions_and_row_counts_too(tmp_path: Path) -> None:
    text = (
        "from agrbench.plugins import Stage\n"
        "def mix(round, *, bucket: int = 2):\n    return bucket\n"
        "stage = Stage(mix=mix, rows=lambda n, *, bucket=2, spare=0: n // bucket - spare,\n"
        "              requires=lambda n, f, *, bucket=2: f * bucket < n)\n"
    )
    registry = Registry([write(tmp_path, "buckets.py", text)])
    assert registry.entry("stage", "buckets").signature == "buckets(bucket: int = 2, spare=0)"
    assert registry.canonical("defense", "buckets(bucket=2, spare=0)+fedavg") == "buckets+fedavg"
    (stage,) = registry.stack("buckets(bucket=5, spare=1)+fedavg").stages
    assert stage.record.rows(20) == 3
    assert not stage.record.requires(20, 4)
    assert stage.record.requires(21, 4)
    assert dataclasses.is_dataclass(stage.record)


def test_a_function_taken_from_elsewhere_still_gets_its_hyperparameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lib").mkdir()
    write(tmp_path / "lib", "rules_from_elsewhere.py", RULE.replace("defense = Defense(rule)", ""))
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    text = "from agrbench.plugins import Defense\nfrom rules_from_elsewhere import rule\ndefense = Defense(rule)\n"
    registry = Registry([write(tmp_path, "mine.py", text)])
    assert registry.canonical("defense", "mine(power=3.0)") == "mine(power=3.0)"
    weights = registry.stack("mine(power=3.0)").defense.record.weigh(SimpleNamespace(view=torch.zeros(2, 2)))
    assert isinstance(weights, torch.Tensor)
    assert weights.tolist() == [3.0, 3.0]
    with pytest.raises(SpecError, match="no hyperparameter 'pover'"):
        registry.stack("mine(pover=3.0)")


# What must come without torch

QUIET = """
import sys
from agrbench.errors import AgrbenchError
{body}
assert "torch" not in sys.modules, "torch was imported"
assert "scipy" not in sys.modules, "scipy was imported"
print("without torch")
"""
LIST = """
from agrbench.plugins.contract import KINDS
from agrbench.plugins.registry import Registry
registry = Registry()
entries = [registry.entry(kind, name) for kind in KINDS for name in registry.names(kind)]
assert len(entries) > 20
assert all(entry.signature and entry.summary and entry.digest for entry in entries)
"""
ERRORS = """
from agrbench.plugins.registry import Registry
registry = Registry()
{calls}
for call, spec in calls:
    try:
        call(spec)
    except AgrbenchError:
        continue
    raise AssertionError(spec)
"""
CHECKED = """
wrong = [
    "kurm", "amp", "amp+kurm", "cosden(neighbours=ten)", "amp(kernal=3)+krum", "amp(kernel='x')+krum",
    "krum(x=__import__('torch'))", "a b",
]
calls = [(lambda spec: registry.canonical("defense", spec), spec) for spec in wrong]
calls += [(registry.attack, "lable_flip"), (registry.attack, "scaling(target=ten)"), (registry.dataset, "digit")]
assert registry.canonical("defense", "amp(kernel=3)+krum") == "amp(kernel=3)+krum"
assert registry.digest("defense", "amp+krum")
"""
LOADED = """
calls = [(registry.stack, spec) for spec in ("kurm", "amp", "krum(x=1)", "cosden(neighbours=ten)", "a b")]
"""
COMMAND = """
from agrbench.cli import main
try:
    code = main({words!r}, prog_name="agrbench", standalone_mode=False)
except SystemExit as stop:
    code = stop.code
assert (code or 0) == {code}, code
"""


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("import agrbench", id="import"),
        pytest.param("import agrbench; agrbench.Cell('digits', 'amp+krum', 'none').key", id="Cell"),
        pytest.param("import agrbench; dir(agrbench)", id="dir"),
        pytest.param(LIST, id="every entry"),
        pytest.param(ERRORS.format(calls=CHECKED), id="spec errors"),
        pytest.param(ERRORS.format(calls=LOADED), id="spec errors of stacks to load"),
        pytest.param(COMMAND.format(words=["list"], code=0), id="agrbench list"),
        pytest.param(COMMAND.format(words=["grid", "--help"], code=0), id="agrbench grid --help"),
        pytest.param(COMMAND.format(words=["grid", "-d", "kurm"], code=2), id="agrbench grid -d kurm"),
        pytest.param(COMMAND.format(words=["grid", "-a", "lable_flip", "-d", "fedavg"], code=2), id="wrong attack"),
        pytest.param(COMMAND.format(words=["table", "nowhere"], code=2), id="agrbench table nowhere"),
        pytest.param(COMMAND.format(words=["show", "nothing.json"], code=2), id="agrbench show nothing.json"),
    ],
)
def test_imports_lists_and_spec_errors_come_without_torch(body: str, tmp_path: Path) -> None:
    done = python(QUIET.format(body=body), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("without torch\n")


def test_a_user_s_file_is_listed_without_being_run(tmp_path: Path) -> None:
    path = write(tmp_path, "mine.py", '"""Mine."""\nopen("ran", "w")\n' + RULE)
    body = COMMAND.format(words=["list", "defenses", "--plugin", str(path)], code=0)
    done = python(QUIET.format(body=body), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "mine(power: float = 1.0, count: int | None = None)" in done.stdout
    assert not (tmp_path / "ran").exists()


# Installed plugins

INSTALLED = """
import json, sys, warnings
from agrbench.plugins.registry import Registry
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    registry = Registry()
assert "torch" not in sys.modules, "torch was imported"
print(json.dumps({
    "defenses": registry.names("defense"),
    "warnings": [str(each.message) for each in caught],
    "canonical": registry.canonical("defense", "amp+loyal(power=2)") if "loyal" in registry.names("defense") else None,
}))
"""


def install(folder: Path, files: dict[str, str], points: dict[str, str], name: str = "extra_rules") -> Path:
    """Lay an installed package out as pip does: its modules, and a dist-info folder with entry points."""
    site = folder / "site"
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"{point} = {module}" for point, module in points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[agrbench.plugins]", *lines, ""]))
    for path, text in files.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(text, encoding="utf-8")
    return site


def seen(site: Path, cwd: Path) -> dict[str, Any]:
    done = python(INSTALLED, cwd=cwd, path=site)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_an_installed_package_s_plugin_is_listed_under_its_file_s_name(tmp_path: Path) -> None:
    files = {"extra_rules/__init__.py": "", "extra_rules/loyal.py": RULE}
    found = seen(install(tmp_path, files, {"loyal": "extra_rules.loyal"}), tmp_path)
    assert "loyal" in found["defenses"]
    assert set(SHIPPED.names("defense")) < set(found["defenses"])
    assert found["canonical"] == "amp+loyal(power=2.0)"
    assert found["warnings"] == []


@pytest.mark.parametrize(
    ("files", "module"),
    [
        pytest.param({}, "gone", id="no such module"),
        pytest.param({}, "gone.rule", id="no such package"),
        pytest.param({"broken/__init__.py": ""}, "broken.rule", id="no such module in a package"),
        pytest.param({"broken.py": "def rule(:\n"}, "broken", id="syntax error"),
        pytest.param({"broken.py": "x = 1\n"}, "broken", id="no plugin"),
        pytest.param({"broken/krum.py": RULE, "broken/__init__.py": ""}, "broken.krum", id="name in use"),
        pytest.param({"broken/__init__.py": "import gone\n", "broken/rule.py": RULE}, "broken.rule", id="import error"),
        pytest.param(
            {"broken/__init__.py": "raise RuntimeError('no')\n", "broken/rule.py": RULE}, "broken.rule",
            id="package that raises",
        ),
        pytest.param(
            {"broken/__init__.py": "def rule(:\n", "broken/rule.py": RULE}, "broken.rule",
            id="package with a syntax error",
        ),
    ],
)  # fmt: skip
def test_a_broken_installed_plugin_is_left_out_with_a_warning(
    files: dict[str, str], module: str, tmp_path: Path
) -> None:
    good = {"extra_rules/__init__.py": "", "extra_rules/loyal.py": RULE}
    sad = "krum" if module == "broken.krum" else "sad"
    points = {sad: module, "loyal": "extra_rules.loyal"}
    found = seen(install(tmp_path, {**good, **files}, points), tmp_path)
    assert "loyal" in found["defenses"]
    assert set(SHIPPED.names("defense")) < set(found["defenses"])
    (warning,) = found["warnings"]
    assert f"'{sad}' is left out" in warning


def test_an_installed_plugin_loads_by_its_import_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"rules_to_import/__init__.py": "", "rules_to_import/devoted.py": RULE}
    site = install(tmp_path, files, {"devoted": "rules_to_import.devoted"}, name="rules_to_import")
    monkeypatch.syspath_prepend(str(site))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        registry = Registry()
    loaded = registry.stack("devoted(power=4)").defense
    assert loaded.name == "devoted(power=4.0)"
    assert sys.modules["rules_to_import.devoted"].__file__ == str(loaded.path)


BESIDE = """
import json, sys, warnings
from agrbench.plugins.contract import KINDS
from agrbench.plugins.registry import Registry
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    registry = Registry(sys.argv[1:])
print(json.dumps({
    "found": {kind: str(registry.entry(kind, "loyal").path) for kind in KINDS if "loyal" in registry.names(kind)},
    "warnings": [str(each.message) for each in caught],
}))
"""
MIXING = RULE.replace("Defense", "Stage").replace("defense", "stage")


def beside(file: Path, site: Path, cwd: Path) -> dict[str, Any]:
    """Return what is named `loyal` if this file is named beside the installed packages."""
    done = python(BESIDE, str(file), cwd=cwd, path=site)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(("text", "kind"), [(RULE, "defense"), (MIXING, "stage")], ids=["defense", "stage"])
def test_a_file_takes_the_place_of_an_installed_plugin_of_its_name(text: str, kind: str, tmp_path: Path) -> None:
    files = {"extra_rules/__init__.py": "", "extra_rules/loyal.py": RULE}
    site = install(tmp_path, files, {"loyal": "extra_rules.loyal"})
    file = write(tmp_path, "loyal", text)
    told = f"{file} is used as loyal, in the place of the installed {site / 'extra_rules' / 'loyal.py'}"
    assert beside(file, site, tmp_path) == {"found": {kind: str(file)}, "warnings": [told]}


def test_the_file_of_an_installed_plugin_may_be_named_itself(tmp_path: Path) -> None:
    files = {"extra_rules/__init__.py": "", "extra_rules/loyal.py": RULE}
    site = install(tmp_path, files, {"loyal": "extra_rules.loyal"})
    file = site / "extra_rules" / "loyal.py"
    assert beside(file, site, tmp_path) == {"found": {"defense": str(file)}, "warnings": []}


def test_registries_share_nothing(tmp_path: Path) -> None:
    Registry([write(tmp_path, "mine.py", RULE)])
    assert "mine" not in Registry().names("defense")
    with pytest.raises(AgrbenchError):
        Registry().stack("mine")
