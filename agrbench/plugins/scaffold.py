"""Templates that `agrbench new` writes: a complete plugin file of each kind, and the test that certifies it."""

from __future__ import annotations

from pathlib import Path

from agrbench.errors import AgrbenchError
from agrbench.plugins import names, registry

DEFENSE = '''"""{title}: average the updates nearest to all others (write the idea and, in brackets, the paper)."""

from torch import Tensor

from agrbench.plugins import Defense
from agrbench.server.rounds import Round
from agrbench.server.scores import smallest


def {name}(round: Round, *, dropped: int | None = None) -> Tensor:
    """Drop the `dropped` rows (by default `f`) with the largest sum of distances to all others: `(rows,)`."""
    sums = round.geometry.distances.sqrt().sum(1)
    return smallest(sums, round.n - (round.byzantine if dropped is None else dropped))


defense = Defense(
    {name},
    family="distance",
    requires=lambda n, f, *, dropped=None: 2 * f < n and (dropped is None or 0 <= dropped < n),
)
'''
ATTACK = '''"""{title}: send the clean update reversed (write the idea and, in brackets, the paper)."""

from torch import Tensor

from agrbench.clients.insider import Insider
from agrbench.plugins import Attack


def {name}(insider: Insider, *, strength: float = 2.0) -> Tensor:
    """Send minus `strength` times the clean update.

    Knowledge: own data. Space: updates. Sign: against the own clean update. Goal: untargeted.
    """
    return -strength * insider.clean


attack = Attack(
    forge={name},
    within=lambda rows, insider, *, strength=2.0: rows.norm(dim=1) <= 1.0001 * strength * insider.clean.norm(dim=1),
)
'''
STAGE = '''"""{title}: bring each update down to the smallest norm (write the idea and, in brackets, the paper)."""

import torch
from torch import Tensor

from agrbench.plugins import Stage
from agrbench.server.rounds import Round


def {name}(round: Round, *, share: float = 1.0) -> Tensor:
    """Scale each row down to `share` of the smallest norm other than 0; a row mixes no other: `(rows, rows)`."""
    norms = round.norms
    least = torch.where(norms > 0, norms, torch.inf).min()
    return torch.where(norms > 0, share * least / norms, 1.0).diag()


stage = Stage(
    mix={name},
    requires=lambda n, f, *, share=1.0: 0 < share <= 1,
    waives={{"translation": "norms are taken at the origin", "hull": "it scales towards zero"}},
)
'''
DATASET = '''"""{title}: two moons of points, made here (write what it is and, in brackets, the paper)."""

import torch
from sklearn.datasets import make_moons

from agrbench.data import Examples
from agrbench.plugins import Dataset, Source


def load(*, rows: int = 600) -> tuple[Examples, Examples]:
    """Return `rows` training and a fifth as many test examples `(rows, 2)`, the same every time."""
    points, sides = make_moons(rows + rows // 5, noise=0.1, random_state=0)
    everything = Examples(torch.from_numpy(points).float(), torch.from_numpy(sides), 2)
    places = torch.arange(len(sides))
    return everything.take(places[:rows]), everything.take(places[rows:])


dataset = Dataset(load, model="mlp(16)", rate=0.5, root_size=50, source=Source("made here"))
'''
PLUGINS = {"attack": ATTACK, "defense": DEFENSE, "stage": STAGE, "dataset": DATASET}
TEST = '''"""The certificate of {name}: one test for each property that it claims."""

from pathlib import Path

import pytest

from agrbench.conformance import Claim, claims

PLUGIN = Path(__file__).with_name("{name}.py")


@pytest.mark.parametrize("claim", claims(PLUGIN), ids=str)
def test_{name}(claim: Claim) -> None:
    claim.verify()
'''


def write(kind: str, name: str, folder: Path = Path()) -> tuple[Path, Path]:
    """Write `name.py` and `test_name.py` into a folder: a plugin that passes its certificate, and its test.

    Raises:
        AgrbenchError: the name is invalid or taken, or a file exists already; nothing is written then.
    """
    if not names.is_name(name) or name.startswith("_"):
        raise AgrbenchError(f"{name!r} is no name for a plugin; write {names.advised(name, kind)}")
    known = registry.of()
    for taken in (kind, names.TWINS.get(kind, kind)):
        if name in known.names(taken):
            raise AgrbenchError(f"agrbench has the {taken} {name} already; choose another name")
    plugin, test = folder / f"{name}.py", folder / f"test_{name}.py"
    for path in (plugin, test):
        if path.exists():
            raise AgrbenchError(f"{path} exists already; choose another name, or move it away")
    title = name.replace("_", " ").capitalize()
    plugin.write_text(PLUGINS[kind].format(name=name, title=title))
    test.write_text(TEST.format(name=name))
    return plugin, test
