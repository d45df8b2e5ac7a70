"""Plugin files as version 0.1.0 had them, letter for letter: they must go on running. Never edit these texts."""

README = '''"""Average the half of the updates closest to all others."""

from agrbench.plugins import Defense


def nearest(round, *, share=0.5):
    """Mark the rows with the smallest sum of distances."""
    sums = round.geometry.distances.sqrt().sum(1)
    return sums <= sums.quantile(share)


defense = Defense(nearest, family="distance")
'''
DEFENSE = '''"""{title}: average the updates nearest to all others (write the idea and, in brackets, the paper)."""

from torch import Tensor

from agrbench.plugins import Defense
from agrbench.rounds import Round
from agrbench.selection import smallest


def {name}(round: Round, *, dropped: int | None = None) -> Tensor:
    """Drop the `dropped` rows (by default `f`) with the largest sum of distances to all others: `(rows,)`."""
    sums = round.geometry.distances.sqrt().sum(1)
    return smallest(sums, len(sums) - (round.byzantine if dropped is None else dropped))


defense = Defense(
    {name},
    family="distance",
    requires=lambda n, f, *, dropped=None: 2 * f < n and (dropped is None or 0 <= dropped < n),
)
'''
STAGE = '''"""{title}: bring each update down to the smallest norm (write the idea and, in brackets, the paper)."""

import torch
from torch import Tensor

from agrbench.plugins import Stage
from agrbench.rounds import Round


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
ATTACK = '''"""{title}: send the clean update reversed (write the idea and, in brackets, the paper)."""

from torch import Tensor

from agrbench.plugins import Attack
from agrbench.rounds import Insider


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
DATASET = '''"""{title}: two moons of points, made here (write what it is and, in brackets, the paper)."""

import torch
from sklearn.datasets import make_moons

from agrbench.federation import Examples
from agrbench.plugins import Dataset, Source


def load(*, rows: int = 600) -> tuple[Examples, Examples]:
    """Give `rows` training and a fifth as many test examples `(rows, 2)`, the same every time."""
    points, sides = make_moons(rows + rows // 5, noise=0.1, random_state=0)
    everything = Examples(torch.from_numpy(points).float(), torch.from_numpy(sides), 2)
    places = torch.arange(len(sides))
    return everything.take(places[:rows]), everything.take(places[rows:])


dataset = Dataset(load, model="mlp(16)", rate=0.5, root_size=50, source=Source("made here"))
'''
SCAFFOLDS = {"defense": DEFENSE, "stage": STAGE, "attack": ATTACK, "dataset": DATASET}


def scaffold(kind: str, name: str) -> str:
    """Return what `agrbench new KIND NAME` wrote in 0.1.0."""
    return SCAFFOLDS[kind].format(name=name, title=name.replace("_", " ").capitalize())


IMPORTED: dict[str, list[str]] = {
    "agrbench.amplifiers": ["Patches", "magnitude", "maximum"],
    "agrbench.cifar": ["Part"],
    "agrbench.clusters": ["upper_cluster"],
    "agrbench.coefficients": ["between_means", "from_mean"],
    "agrbench.data": ["corrupt", "fetch", "member", "unzipped"],
    "agrbench.federation": ["Attacker", "Examples", "split"],
    "agrbench.geometry": ["Geometry", "angles", "distances_to", "products"],
    "agrbench.histories": ["kept_rows"],
    "agrbench.models": ["cnn", "mlp"],
    "agrbench.perturbations": ["DIRECTIONS", "against", "diameter", "hides", "unseen", "unseen_by", "within"],
    "agrbench.poisoning": [
        "draw_labels",
        "labelled",
        "no_place",
        "reverse_labels",
        "shuffle_labels",
        "stamp",
        "stamp_share",
        "with_stamped",
    ],
    "agrbench.quasinewton": ["curvature"],
    "agrbench.reading": ["bits", "halves", "labels"],
    "agrbench.rounds": ["Columns", "Insider", "Round", "Verdict"],
    "agrbench.selection": [
        "at_unit_norm",
        "between",
        "clipping",
        "densest",
        "highest_accuracy",
        "judged",
        "lowest_loss",
        "middle",
        "nearest_to_median",
        "neighbourhood",
        "smallest",
    ],
    "agrbench.subsets": ["flattened", "flattest", "tightest"],
}
"""What the plugins of version 0.1.0 imported from modules that have moved since."""
