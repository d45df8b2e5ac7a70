"""Eight plugins with a published mistake each, and one that is right: what a certificate is to find."""

IMPORTS = """import torch
from functools import partial

from agrbench.plugins import Defense, Stage
from agrbench.server.ranks import between, middle, nearest_to_median
from agrbench.server.scores import clipping, neighbourhood, smallest


"""
KRUM = '''"""Krum over one neighbour too many."""

def weigh(round):
    return smallest(neighbourhood(round.geometry.distances, len(round.view) - round.byzantine - 1), 1)


defense = Defense(weigh, requires=lambda n, f: 2 * f + 2 < n)
'''
UNSQUARED = '''"""Krum on distances that are not squared."""

def weigh(round):
    return smallest(neighbourhood(round.geometry.distances, len(round.view) - round.byzantine - 2, power=1), 1)


defense = Defense(weigh, requires=lambda n, f: 2 * f + 2 < n)
'''
BULYAN = '''"""Bulyan that takes a place among the rows that remain for a place among all."""

def weigh(round):
    n, f = len(round.view), round.byzantine
    remaining, selected = list(range(n)), []
    for _ in range(n - 2 * f):
        distances = round.geometry.distances[remaining][:, remaining]
        chosen = int(neighbourhood(distances, max(len(remaining) - f - 2, 1)).argmin()) if len(remaining) > 1 else 0
        selected.append(chosen)
        remaining.pop(chosen)
    rows = torch.tensor(sorted(set(selected)))

    def of(block):
        kept = torch.zeros_like(block, dtype=torch.bool)
        kept[rows] = nearest_to_median(block[rows], max(len(rows) - 2 * f, 1))
        return kept

    return of


defense = Defense(weigh, requires=lambda n, f: 4 * f + 3 <= n)
'''
BUCKETING = '''"""Bucketing that has no bucket for the rows left over."""

def mix(round, *, size=2):
    n = len(round.view)
    order = torch.randperm(n, generator=round.rng)[: n // size * size]
    made = torch.zeros(n // size, n, dtype=torch.float64)
    for row, bucket in enumerate(order.split(size)):
        made[row, bucket] = 1 / size
    return made


stage = Stage(
    mix=mix,
    rows=lambda n, *, size=2: n // size,
    requires=lambda n, f, *, size=2: n >= size,
    waives={"permutation": "buckets are drawn at random", "ties": "buckets are drawn at random"},
)
'''
CLIPPING = '''"""Clipping that clips the caller's own updates."""

def weigh(round):
    round.updates.mul_(clipping(round.norms, middle(round.norms))[:, None])
    return torch.ones(len(round.norms)) / len(round.norms)


defense = Defense(
    weigh, requires=lambda n, f: 2 * f < n, amplifier=None,
    waives={"amplified": "norms", "translation": "norms", "hull": "it clips towards zero"},
)
'''
FLTRUST = '''"""FLTrust that divides by norms and by the sum of scores, zero or not."""

def weigh(round):
    root = round.server.root
    scores = torch.relu(torch.cosine_similarity(round.updates.double(), root.double()[None], dim=1))
    return scores / scores.sum() * (torch.linalg.vector_norm(root) / round.norms)


defense = Defense(
    weigh, amplifier=None, waives=dict.fromkeys(["amplified", "translation", "unanimity", "hull"], "angles and norms")
)
'''
TRIMMED = '''"""Trimmed mean that trims everything."""

def weigh(round):
    return lambda block: torch.zeros_like(between(block, round.byzantine, len(block) - round.byzantine))


defense = Defense(weigh, requires=lambda n, f: 2 * f < n)
'''
MEAN = '''"""A defense that says much and averages."""

def weigh(round):
    trust = torch.exp(-0 * round.geometry.distances.mean(1))
    return trust / trust.sum()


defense = Defense(weigh, requires=lambda n, f: 2 * f < n)
'''
FAULTS = {
    "overshot_krum": KRUM,
    "unsquared_krum": UNSQUARED,
    "shrunk_bulyan": BULYAN,
    "losing_bucketing": BUCKETING,
    "mutating_clipping": CLIPPING,
    "dividing_fltrust": FLTRUST,
    "zero_trimmed_mean": TRIMMED,
    "secret_mean": MEAN,
}


def source(name: str) -> str:
    """Give the text of a faulty plugin file."""
    docstring, _, body = FAULTS[name].partition("\n\n")
    return f"{docstring}\n\n{IMPORTS}{body}"
