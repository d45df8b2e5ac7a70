"""The certificate: every shipped plugin passes, planted faults do not, and what is printed shows them when run."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from agrbench.cli import main
from agrbench.conformance import Case, Scene, Violation, attacks, certificates, claims, coefficients, laws
from agrbench.conformance.cases import literal
from agrbench.conformance.search import search
from agrbench.conformance.strategies import Draws, bound, legal
from agrbench.conformance.subjects import Subject, subjects
from agrbench.errors import AgrbenchError
from agrbench.plugins.registry import Registry
from tests.helpers import planted

REGISTRY = Registry()
SHIPPED = [(kind, name) for kind in ("defense", "stage", "attack") for name in REGISTRY.names(kind)]
AT_HAND = ["digits", "synthetic", "location30", "mnist"]
FEW = 4  # inputs a property: the default profile is for `agrbench check`
FOUND_BY = {
    "shrunk_bulyan": "permutation",
    "losing_bucketing": "heard",
    "mutating_clipping": "untouched",
    "dividing_fltrust": "finite",
    "zero_trimmed_mean": "unanimity",
    "secret_mean": "resists",
}


def planted_file(name: str, folder: Path) -> str:
    path = folder / f"{name}.py"
    path.write_text(planted.source(name))
    return str(path)


def run_printed(code: str) -> Any:
    """Run printed Python; give what it raises."""
    with pytest.raises(Exception) as caught:
        exec(compile(code, "printed", "exec"), {})
    return caught.value


# ---------------------------------------------------------------- what is shipped


@pytest.mark.parametrize(("kind", "name"), SHIPPED)
def test_shipped_plugin_passes_its_certificate(kind: str, name: str) -> None:
    subject = Subject(kind, name)
    for claim in certificates.every(subject):
        if str(claim) not in certificates.waived(subject):
            claim.verify(FEW)


@pytest.mark.parametrize("name", AT_HAND)
def test_dataset_at_hand_passes_its_certificate(name: str) -> None:
    for claim in claims(name):
        claim.verify()


NEEDED = [
    (kind, name, waiver)
    for kind, name in SHIPPED
    for waiver in certificates.waived(Subject(kind, name))
    if waiver in certificates.table_of(Subject(kind, name))
]


@pytest.mark.parametrize(("kind", "name", "waiver"), NEEDED)
def test_what_is_waived_does_not_hold(kind: str, name: str, waiver: str) -> None:
    """A waiver for something that holds hides what a reader wants to know."""
    (claim,) = (claim for claim in certificates.every(Subject(kind, name)) if str(claim) == waiver)
    tried = [claim.inputs]
    if kind != "attack":  # more with few clients, some of them malicious
        tried.append(Draws(claim.inputs.spec, (), [(n, f) for n, f in claim.inputs.pairs if f and n < 9]))
    strategies = [claim.property.inputs(inputs) for inputs in tried if kind == "attack" or inputs.pairs]
    assert any(
        strategy is None or search(claim.property.check, strategy, 400, patience=0) is not None
        for strategy in strategies
    )


@pytest.mark.parametrize(("kind", "name"), SHIPPED)
def test_no_shipped_plugin_exceeds_what_is_proven(kind: str, name: str) -> None:
    if kind == "defense" and REGISTRY.stack(name).defense.record.bound is not None:
        assert bound(REGISTRY.stack(name), 11, 2)[0] is not None
        found = coefficients.measure(name, (), 20)
        assert found is not None
        assert found.bound is not None
        assert 0 < found.found <= found.bound


# ---------------------------------------------------------------- planted faults


@pytest.mark.parametrize("name", FOUND_BY)
def test_planted_fault_is_found_and_what_is_printed_shows_it(name: str, tmp_path: Path) -> None:
    (claim,) = (each for each in claims(planted_file(name, tmp_path)) if str(each) == FOUND_BY[name])
    with pytest.raises(Violation, match=f"{name} violates {claim}: ") as caught:
        claim.verify(60)
    why, _, code = str(caught.value).partition("\n\n")
    assert str(run_printed(code)) in why


@pytest.mark.parametrize(
    ("name", "other"), [("overshot_krum", "krum"), ("unsquared_krum", "krum"), ("shrunk_bulyan", "bulyan")]
)
def test_rule_that_differs_from_the_shipped_one_is_shown_where_it_does(name: str, other: str, tmp_path: Path) -> None:
    (subject,) = subjects(planted_file(name, tmp_path))
    found = certificates.difference_from(subject, other, 60)
    assert found.verdict == "violated"
    assert str(run_printed(found.python)) == found.why
    assert len(found.python) < 600, "it is not small"


def test_rule_does_not_differ_from_itself() -> None:
    assert certificates.difference_from(Subject("defense", "multi_krum(m=1)"), "krum", 60).verdict == "holds"


def test_every_fault_is_planted() -> None:
    assert set(planted.FAULTS) == {*FOUND_BY, "overshot_krum", "unsquared_krum"}


# ---------------------------------------------------------------- laws, one by one


def test_laws_speak_of_the_largest_bound_and_of_none() -> None:
    pairs = legal(REGISTRY.stack("krum"))
    assert {(3, 0), (5, 1), (11, 0), (11, 4)} <= set(pairs)
    assert (4, 1) not in pairs


def test_tie_may_go_to_whoever_ties_and_to_nobody_else(tmp_path: Path) -> None:
    tied = Case("krum", [[0, 0], [1, 0], [2, 0], [3, 0]])
    backwards = [3, 2, 1, 0]
    with pytest.raises(AssertionError):
        assert torch.equal(tied.step(), tied.but(updates=tied.updates[backwards]).step())
    laws.ties(tied, backwards)
    path = tmp_path / "first.py"
    path.write_text(
        '"""The first."""\nfrom agrbench.plugins import Defense\n'
        "defense = Defense(lambda round: (round.norms * 0).index_fill(0, round.norms.long()[:1] * 0, 1.0))\n"
    )
    with pytest.raises(Violation, match="in the order"):
        laws.ties(tied.but(stack="first", plugins=(str(path),)), backwards)


def test_literal_is_read_back_as_the_case_that_it_was(tmp_path: Path) -> None:
    case = Case("amp+krum", [[0.1, -0.0], [1e-30, 1e15], [3, 4]], 0, ((1, 2),), root=[0.5, 0], seed=2, dtype="float32")
    again = eval(literal(case), {"Case": Case})
    assert torch.equal(again.updates, case.updates)
    assert (again.layout, again.seed, again.dtype, again.stack) == (case.layout, 2, "float32", "amp+krum")
    assert torch.equal(again.root, case.root)


def test_blind_spot_breaks_what_is_proven_of_the_base_rule_and_not_the_base_rule() -> None:
    base, amplified = coefficients.measure("krum", (), 5), coefficients.measure("amp+krum", (), 5)
    assert base is not None
    assert amplified is not None
    assert not base.how
    assert "below what the view shows" in amplified.how
    assert amplified.found > 1e9
    assert amplified.honest is not None
    assert coefficients.coefficient(amplified.case, amplified.honest) == amplified.found


def test_coefficient_is_the_largest_over_the_honest_subsets() -> None:
    case = Case("fedavg", [[0.0], [2.0], [9.0]], 1)
    # The mean of all is 11 / 3; of 0 and 2 it is 1, and so is their variance; of 0 and 9 it is 4.5.
    assert coefficients.coefficient(case) == pytest.approx((11 / 3 - 1) ** 2)
    assert coefficients.coefficient(case, [0, 2]) == pytest.approx((11 / 3 - 4.5) ** 2 / 4.5**2)


def test_nnm_lowers_what_is_proven() -> None:
    alone, mixed = (bound(REGISTRY.stack(stack), 20, 2)[0] for stack in ("krum", "nnm+krum"))
    assert alone is not None
    assert alone == pytest.approx(6 * 18 / 15)
    assert mixed == pytest.approx(16 / 18 * (alone + 1))
    assert bound(REGISTRY.stack("amp+krum"), 20, 2)[0] is None
    assert bound(REGISTRY.stack("krum(power=1)"), 20, 2)[0] is None


# ---------------------------------------------------------------- attacks and datasets


ATTACKS = {
    "untouched": "def forge(insider):\n    insider.honest.zero_()\n    return insider.clean\n",
    "moves": "def forge(insider):\n    return insider.clean\n",
    "determinism": "def forge(insider):\n    return torch.randn(insider.clean.shape, dtype=insider.clean.dtype)\n",
    "shape": "def forge(insider):\n    return insider.clean[:, :1]\n",
    "finite": "def forge(insider):\n    return insider.clean / 0\n",
    "within": "def forge(insider):\n    return 2 * insider.clean\n",
}


@pytest.mark.parametrize("broken", ATTACKS)
def test_faulty_attack_is_found(broken: str, tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    declared = ", within=lambda rows, insider: rows.norm(dim=1) <= insider.clean.norm(dim=1)"
    path.write_text(
        f'"""Own."""\nimport torch\nfrom agrbench.plugins import Attack\n{ATTACKS[broken]}\n'
        f"attack = Attack(forge=forge{declared if broken == 'within' else ''})\n"
    )
    (claim,) = (each for each in claims(path) if str(each) == broken)
    with pytest.raises(Violation) as caught:
        claim.verify(30)
    code = str(caught.value).partition("\n\n")[2]
    assert isinstance(run_printed(code), Exception)


def test_attack_that_poisons_labels_beyond_the_classes_is_found(tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text(
        '"""Own."""\nfrom agrbench.plugins import Attack\n'
        "attack = Attack(poison=lambda shard, rng, attacker: shard._replace(labels=shard.labels + 1))\n"
    )
    failed = [str(claim) for claim in claims(path) if claim.refute(10)]
    assert failed == ["poisons"]


def test_scene_is_what_the_attack_is_shown() -> None:
    scene = Scene("ipm", [[2.0, 0], [4, 0]], [[1.0, 1]], [[0.0, 0]])
    assert scene.forge().tolist() == [[-1.5, 0]]
    attacks.within(scene)


BROKEN_DATA = {
    "labels": "Examples(x, y + 1, 2)",
    "finite": "Examples(255 * x, y, 2)",
    "shape": "Examples(x.long(), y, 2)",
    "disjoint": "Examples(x, y, 2), test=Examples(x[:9], y[:9], 2)",
    "offline": "Examples(x, y, 2), socket=True",
    "determinism": "Examples(torch.rand(40, 3), y, 2)",
    "trains": "Examples(x, y, 2), model='mlp(4)', root=40",
}


@pytest.mark.parametrize("broken", BROKEN_DATA)
def test_faulty_dataset_is_found(broken: str, tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text(
        '"""Own."""\nimport socket as network\nimport torch\nfrom agrbench.federation import Examples\n'
        "from agrbench.plugins import Dataset, Source\n"
        "x, y = torch.rand(40, 3, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 2\n"
        "z = Examples(torch.rand(9, 3, generator=torch.Generator().manual_seed(1)), y[:9], 2)\n"
        "def made(train, test=z, socket=False, model='mlp(4)', root=4):\n"
        "    if socket:\n        network.create_connection(('localhost', 9))\n"
        "    return train, test\n"
        f"def load():\n    return made({BROKEN_DATA[broken]})\n"
        f"dataset = Dataset(load, model='mlp(4)', rate=0.1, root_size={40 if broken == 'trains' else 4}, "
        "source=Source('mine'))\n"
    )
    found = {str(claim) for claim in claims(path) if claim.refute()}
    assert broken in found
    assert len(found) == 1 or broken in ("offline", "shape"), "what cannot be loaded, or counted, fails everywhere"


# ---------------------------------------------------------------- the command


def test_command_prints_what_holds_what_is_waived_and_the_counterexample(tmp_path: Path) -> None:
    path = planted_file("secret_mean", tmp_path)
    done = subprocess.run(
        [str(Path(sys.executable).with_name("agrbench")), "check", path, "--examples", "10", "--format", "github"],
        capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "120"},
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "| resists | **violated** |" in done.stdout
    code = done.stdout.split("```python\n")[1].split("```")[0]
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert shown.returncode == 1
    assert "Violation: the step lies" in shown.stderr


def test_json_has_every_verdict() -> None:
    done = CliRunner().invoke(main, ["check", "sample", "--examples", "2", "--format", "json", "-q"])
    assert done.exit_code == 0
    (data,) = json.loads(done.stdout)
    assert {each["verdict"] for each in data["properties"]} == {"holds"}
    assert data["kind"] == "stage"


def test_waiver_is_printed_with_its_reason() -> None:
    done = CliRunner().invoke(main, ["check", "none", "--examples", "2", "-q"])
    assert done.exit_code == 0
    assert "waived    moves        it is the baseline" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["krun"], "no plugin is named 'krun'; did you mean krum?"),
        (["krum(neighbours=1)"], "neighbours is 'paper' or 'byzfl'"),
        (["absent.py"], "cannot be read"),
        (["label_flip", "--against", "krum"], "label_flip is no defense"),
        (["krum", "--against", "zero"], "zero is an attack, not a defense"),
        (["purchase100"], "not at hand"),
    ],
)
def test_command_refuses_in_one_sentence(words: list[str], said: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    done = CliRunner().invoke(main, ["check", *words])
    assert done.exit_code == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_dataset_that_misses_one_of_several_files_that_may_serve_is_refused_and_not_judged(tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text(
        '"""Own."""\nfrom agrbench.errors import DataError\nfrom agrbench.plugins import Dataset, Source\n'
        "def load():\n    raise DataError('neither a.bin nor b.bin is at hand')\n"
        "dataset = Dataset(load, model='mlp(4)', rate=0.1, root_size=4, source=Source('here'))\n"
    )
    done = CliRunner().invoke(main, ["check", str(path)])
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr == "Error: own: neither a.bin nor b.bin is at hand\n"


def test_unknown_waiver_is_refused_with_the_nearest_property(tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text(
        '"""Own."""\nfrom agrbench.plugins import Defense\n'
        "defense = Defense(lambda round: round.norms * 0 + 1, waives={'scalling': 'why'})\n"
    )
    with pytest.raises(AgrbenchError, match="'scalling', which is no property; did you mean scaling"):
        claims(path)
