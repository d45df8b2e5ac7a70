"""Certificates: every shipped plugin passes, planted faults do not, and the code printed for a fault shows it."""

from pathlib import Path
from typing import Any

import pytest

from agrbench.conformance import Scene, Violation, attacks, certificates, claims, coefficients
from agrbench.conformance.certificates import Certificate, Finding
from agrbench.conformance.properties import DEFENSE
from agrbench.conformance.search import search
from agrbench.conformance.strategies import Draws, bound
from agrbench.conformance.subjects import Subject, subjects
from agrbench.plugins.registry import Registry
from tests.helpers import planted, plugins

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
    (claim,) = (each for each in claims(plugins.faulty(name, tmp_path)) if str(each) == FOUND_BY[name])
    with pytest.raises(Violation, match=f"{name} violates {claim}: ") as caught:
        claim.verify(60)
    why, _, code = str(caught.value).partition("\n\n")
    assert str(run_printed(code)) in why


@pytest.mark.parametrize(
    ("name", "other"), [("overshot_krum", "krum"), ("unsquared_krum", "krum"), ("shrunk_bulyan", "bulyan")]
)
def test_rule_that_differs_from_the_shipped_one_is_shown_where_it_does(name: str, other: str, tmp_path: Path) -> None:
    (subject,) = subjects(plugins.faulty(name, tmp_path))
    found = certificates.difference_from(subject, other, 60)
    assert found.verdict == "violated"
    assert str(run_printed(found.python)) == found.why
    assert len(found.python) < 600, "it is not small"


def test_rule_does_not_differ_from_itself() -> None:
    assert certificates.difference_from(Subject("defense", "multi_krum(m=1)"), "krum", 60).verdict == "holds"


def test_every_fault_is_planted() -> None:
    assert set(planted.FAULTS) == {*FOUND_BY, "overshot_krum", "unsquared_krum"}


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
    path = plugins.write(
        tmp_path,
        "own",
        '''
        """Own."""
        from agrbench.plugins import Attack
        attack = Attack(poison=lambda shard, rng, attacker: shard._replace(labels=shard.labels + 1))
        ''',
    )
    failed = [str(claim) for claim in claims(path) if claim.refute(10)]
    assert failed == ["poisons", "repeated", "unwatched"]  # no round with such labels can be played


def test_scene_is_what_the_attack_is_shown() -> None:
    scene = Scene("ipm", [[2.0, 0], [4, 0]], [[1.0, 1]], [[0.0, 0]])
    assert scene.forge().tolist() == [[-1.5, 0]]
    attacks.within(scene)


BROKEN_DATA = {
    "labels": "Examples(x, y + 1, 2)",
    "finite": "Examples(255 * x, y, 2)",
    "shape": "Examples(x.double(), y, 2)",
    "disjoint": "Examples(x, y, 2), test=Examples(x[:9], y[:9], 2)",
    "offline": "Examples(x, y, 2), socket=True",
    "determinism": "Examples(torch.rand(40, 3), y, 2)",
    "trains": "Examples(x, y, 2), model='mlp(4)', root=40",
}


MODEL = '''"""Own."""
import numpy
import torch
from torch import nn

from agrbench.data import Examples
from agrbench.plugins import Dataset, Source


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.fixed, self.last = nn.Linear(3, 3).requires_grad_(False), nn.Linear(3, 2)

    def forward(self, rows):
        {forward}


def load():
    x = torch.rand(49, 3, generator=torch.Generator().manual_seed(0))
    y = torch.arange(49) % 2
    return Examples(x[:40], y[:40], 2), Examples(x[40:], y[40:], 2)


dataset = Dataset(load, model=lambda shape, classes: Model(), rate=0.1, root_size=4, source=Source("mine"))
'''


@pytest.mark.parametrize("broken", BROKEN_DATA)
def test_faulty_dataset_is_found(broken: str, tmp_path: Path) -> None:
    size = 40 if broken == "trains" else 4
    path = plugins.write(
        tmp_path,
        "own",
        f'''
        """Own."""
        import socket as network
        import torch
        from agrbench.data.examples import Examples
        from agrbench.plugins import Dataset, Source
        x, y = torch.rand(40, 3, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 2
        z = Examples(torch.rand(9, 3, generator=torch.Generator().manual_seed(1)), y[:9], 2)
        def made(train, test=z, socket=False, model='mlp(4)', root=4):
            if socket:
                network.create_connection(('localhost', 9))
            return train, test
        def load():
            return made({BROKEN_DATA[broken]})
        dataset = Dataset(load, model='mlp(4)', rate=0.1, root_size={size}, source=Source('mine'))
        ''',
    )
    found = {str(claim) for claim in claims(path) if claim.refute()}
    assert broken in found
    if broken == "determinism":  # it draws from the global generator
        found.remove("private")
    assert len(found) == 1 or broken in ("offline", "labels"), "what cannot be loaded, or counted, fails everywhere"


BROKEN_MODELS = {
    "steady": "return nn.functional.dropout(self.last(rows), 0.5, training=True)",
    "frozen": "self.fixed.weight.data.mul_(0.9)\n        return self.last(self.fixed(rows))",
    "private": "numpy.random.rand()\n        return self.last(rows)",
}


@pytest.mark.parametrize("broken", BROKEN_MODELS)
def test_faulty_model_is_found(broken: str, tmp_path: Path) -> None:
    path = plugins.write(tmp_path, "own", MODEL.format(forward=BROKEN_MODELS[broken]))
    found = {str(claim) for claim in claims(path) if claim.refute()}
    assert found == {broken}


def test_dataset_that_sets_the_global_seed_is_found(tmp_path: Path) -> None:
    text = MODEL.format(forward="return self.last(rows)")
    seeded = text.replace("def load():", "def load():\n    torch.manual_seed(0)")
    assert not [claim for claim in claims(plugins.write(tmp_path, "right", text)) if claim.refute()]
    found = [str(claim) for claim in claims(plugins.write(tmp_path, "own", seeded)) if claim.refute()]
    assert found == ["private"]


def test_a_certificate_shows_itself_in_a_notebook_and_escapes_what_plugins_say() -> None:
    law = next(iter(DEFENSE.values()))
    found = (Finding(law, "violated", "1 < 2 & <b>"), Finding(law, "holds"))
    shown = Certificate(Subject("defense", "krum"), found, elsewhere={"memory": "<script>"})._repr_html_()
    assert f"<tr><td>{law.name}</td><td>violated</td><td>1 &lt; 2 &amp; &lt;b&gt;</td></tr>" in shown
    assert "<td>memory</td><td>waived</td><td>&lt;script&gt;</td>" in shown
    assert shown.count("<tr>") == 4 and "<strong>defense krum</strong>" in shown
