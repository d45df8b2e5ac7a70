"""Names: which a plugin may have, what is said of the others, and which plugin an unknown name may mean."""

from __future__ import annotations

import codecs
import keyword
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from agrbench.cli import main
from agrbench.errors import PluginError, SpecError
from agrbench.plugins import names
from agrbench.plugins.registry import Registry
from tests.helpers.plugins import RULE

SHIPPED = Registry()
CYRILLIC = "\N{CYRILLIC SMALL LETTER KA}rum"
GREEK = "med\N{GREEK SMALL LETTER IOTA}an"


def write(folder: Path, name: str, text: str = RULE) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


ADVISED = {
    "my-rule": "my_rule", "my rule": "my_rule", "my.rule": "my_rule", "-my-rule-": "my_rule", "2krum": "my_2krum",
    "lambda": "my_lambda", "None": "my_None", "médian": "median", "--": "my_rule",
    CYRILLIC: "my_rule", GREEK: "my_rule",
}  # fmt: skip


@pytest.mark.parametrize(("name", "advised"), ADVISED.items())
def test_a_file_that_no_spec_can_name_is_refused_with_the_name_to_use(name: str, advised: str, tmp_path: Path) -> None:
    path = write(tmp_path, f"{name}.py")
    with pytest.raises(PluginError) as refused:
        Registry([path])
    assert str(refused.value).startswith(f"{path}: no spec can name {name!r}")
    assert str(refused.value).endswith(f"; rename the file to {advised}.py")
    assert names.is_name(advised)


@pytest.mark.parametrize(
    ("name", "letter"), [(CYRILLIC, "Cyrillic small letter ka"), (GREEK, "Greek small letter iota")]
)
def test_a_letter_that_looks_like_another_is_named(name: str, letter: str, tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=letter):
        Registry([write(tmp_path, f"{name}.py")])
    with pytest.raises(SpecError, match=f"no defense is named '{name}', with .*{letter}.*; did you mean"):
        SHIPPED.canonical("defense", name)


@pytest.mark.parametrize("spec", ["my-rule", "amp+my-rule"])
def test_a_spec_with_a_refused_file_s_name_is_answered_with_the_file(spec: str, tmp_path: Path) -> None:
    path = write(tmp_path, "my-rule.py")
    words = ["grid", "--plugin", str(path), "-d", spec, "-a", "none", "--seeds", "1", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(main, words)
    assert done.exit_code != 0
    assert "rename the file to my_rule.py" in done.output + done.stderr


@pytest.mark.parametrize(("name", "advised"), ADVISED.items())
def test_new_is_told_the_name_to_use(name: str, advised: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["new", "stage", "--", name])
    advised = "my_stage" if name in ("--", CYRILLIC, GREEK) else advised
    assert done.exit_code == 2
    assert done.stderr.rstrip().endswith(f"{name!r} is no name for a plugin; write {advised}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("kind", "taken"), [("defense", "amp"), ("stage", "krum"), ("defense", "krum"), ("attack", "lie")]
)
def test_a_name_belongs_to_a_stage_or_a_defense_but_not_to_both(kind: str, taken: str, tmp_path: Path) -> None:
    path = write(tmp_path, f"{taken}.py", f"{kind} = 1\n")
    with pytest.raises(
        PluginError, match=f"an? (stage|defense|attack) named {taken} exists already .*; rename the file"
    ):
        Registry([path])
    forgiving = Registry([path], forgiving=True)
    assert taken in forgiving.names(kind) or kind != "attack"
    assert forgiving.stack("amp+krum").defense.name == "krum"


def test_new_writes_no_stage_with_the_name_of_a_defense(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for kind, taken, has in (("stage", "krum", "defense"), ("defense", "amp", "stage")):
        done = CliRunner().invoke(main, ["new", kind, taken])
        assert done.exit_code == 2
        assert f"agrbench has the {has} {taken} already" in done.stderr


def test_two_files_make_no_stage_and_defense_of_one_name(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    one, two = write(tmp_path, "mine.py", "stage = 1\n"), write(tmp_path / "a", "mine.py")
    for files in ([one, two], [two, one]):
        with pytest.raises(PluginError, match="named mine exists already"):
            Registry(files)
    both = write(tmp_path, "both.py", "stage = 1\ndefense = 2\n")
    with pytest.raises(PluginError, match="could not tell its stage from its defense; move one to a file of its own"):
        Registry([both])


def test_a_mark_of_the_byte_order_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_bytes(codecs.BOM_UTF8 + RULE.encode())
    found = Registry([path])
    assert found.stack("mine(power=2)").defense.name == "mine(power=2.0)"
    digest = found.digest("defense", "mine")
    path.write_bytes(RULE.encode())
    assert Registry([path]).digest("defense", "mine") == digest


def test_a_file_in_another_encoding_that_it_declares_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_bytes(b"# -*- coding: latin-1 -*-\nNAME = '\xe9'\nassert ord(NAME) == 0xe9\n" + RULE.encode())
    assert Registry([path]).stack("mine").defense.name == "mine"


# Entry points


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Forget the modules that a test installed, for the next one has others of the same name."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith(("rules_by_name", "extra_")):
            del sys.modules[name]


def install(folder: Path, point: str, files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    info = folder / "extra-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: extra\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[agrbench.plugins]\n{point}\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))


@pytest.mark.parametrize(
    ("module", "path"),
    [
        ("rules_by_name", "rules_by_name/__init__.py"),
        ("rules_by_name.sub", "rules_by_name/sub/__init__.py"),
        ("rules_by_name.other_name", "rules_by_name/other_name.py"),
        ("rules_by_name", "rules_by_name.py"),
    ],
)
def test_an_installed_plugin_has_its_entry_point_s_name(
    module: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = {} if path == "rules_by_name.py" else {"rules_by_name/__init__.py": ""}
    install(tmp_path, f"loyal = {module}", {**package, path: RULE}, monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = Registry()
    assert set(found.names("defense")) == {*SHIPPED.names("defense"), "loyal"}
    assert found.stack("loyal(power=2)").defense.name == "loyal(power=2.0)"


@pytest.mark.parametrize(
    ("point", "said"),
    [
        ("my-rule = extra_rule", "no spec can name 'my-rule'; rename the entry point to my_rule"),
        (f"{CYRILLIC} = extra_rule", "Cyrillic small letter ka"),
        ("amp = extra_rule", "a stage named amp exists already"),
        ("loyal = extra rule!", "cannot be found"),
        ("loyal = extra_exit", "cannot be found|exports no plugin"),
        ("loyal = extra_exit.sub", "cannot be found"),
    ],
)
def test_an_entry_point_that_cannot_be_used_is_left_out_with_a_warning(
    point: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, point, {"extra_rule.py": RULE, "extra_exit/__init__.py": "raise SystemExit(3)\n"}, monkeypatch)
    with pytest.warns(UserWarning, match=said) as caught:
        found = Registry()
    assert [str(each.message).partition(" is left out: ")[0] for each in caught] == [
        f"the installed plugin {point.partition(' ')[0]!r}"
    ]
    assert found.names("defense") == SHIPPED.names("defense")


# What an unknown name may mean


def test_synonyms_stand_for_specs_in_canonical_form_and_for_one_only() -> None:
    for kind, table in names.SYNONYMS.items():
        seen: dict[str, str] = {}
        for spec, others in table.items():
            written = spec if kind != "stage" else f"{spec}+krum"
            assert SHIPPED.canonical("defense" if kind == "stage" else kind, written) == written
            for other in map(names._plain, others):
                assert other not in seen, f"{other} means {spec} and {seen[other]}"
                seen[other] = spec
                assert other not in map(names._plain, SHIPPED.names(kind)), f"{other} is a name already"


@pytest.mark.parametrize(
    ("kind", "asked", "meant"),
    [
        ("defense", "rfa", "geometric_median(steps=3)"),
        ("defense", "RFA", "geometric_median(steps=3)"),
        ("defense", "rfa(steps=5)", "geometric_median(steps=3)"),
        ("defense", "gm", "geometric_median"),
        ("defense", "geomed", "geometric_median"),
        ("defense", "GeometricMedian", "geometric_median"),
        ("defense", "trmean", "trimmed_mean"),
        ("defense", "trimmedmean", "trimmed_mean"),
        ("defense", "TrMean", "trimmed_mean"),
        ("defense", "cwmed", "median"),
        ("defense", "coordinate_median", "median"),
        ("defense", "multikrum", "multi_krum"),
        ("defense", "MultiKrum", "multi_krum"),
        ("defense", "cclip", "centered_clipping"),
        ("defense", "CenteredClipping", "centered_clipping"),
        ("defense", "divide_and_conquer", "dnc"),
        ("defense", "mean", "fedavg"),
        ("defense", "FedAvg", "fedavg"),
        ("defense", "max_pool+krum", "amp"),
        ("defense", "NNM+krum", "nnm"),
        ("attack", "alie", "lie"),
        ("attack", "little", "lie"),
        ("attack", "ALittleIsEnough", "lie"),
        ("attack", "bit_flip", "sign_flip"),
        ("attack", "bitflip", "sign_flip"),
        ("attack", "SignFlipping", "sign_flip"),
        ("attack", "foe", "ipm"),
        ("attack", "inner_product", "ipm"),
        ("attack", "minmax", "min_max"),
        ("attack", "benign", "none"),
        ("dataset", "cifar", "cifar10"),
        ("dataset", "csv", "table"),
    ],
)
def test_a_common_name_leads_to_the_spec_here(kind: str, asked: str, meant: str) -> None:
    with pytest.raises(SpecError) as refused:
        SHIPPED.canonical(kind, asked)
    assert str(refused.value).endswith(f"; did you mean {meant}?")


def test_a_plugin_of_the_user_s_may_have_a_common_name(tmp_path: Path) -> None:
    assert Registry([write(tmp_path, "rfa.py")]).canonical("defense", "rfa") == "rfa"


@pytest.mark.parametrize("word", [*keyword.kwlist, "", "a b", "x-y", CYRILLIC, "²"])
def test_what_no_spec_can_write_is_no_name(word: str) -> None:
    assert not names.is_name(word)
    assert names.is_name(names.advised(word))
