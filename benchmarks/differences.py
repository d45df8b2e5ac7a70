"""How often does published code deviate from the rule's paper, on random updates without and with an attack?

python benchmarks/differences.py [DRAWS]

Updates are standard normal; with an attack, min_max forges the last fifth of them. Steps differ if they are more than a
millionth of their length apart, choices if they keep different rows. Wrong versions that no package offers are written
out below.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import MeanShift, estimate_bandwidth
from tabulate import tabulate

import agrbench

Array = NDArray[Any]
Rule = Callable[[Array, int], Array]
Measure = Callable[[Array, Array, Array], float]

ROWS, FEW, WIDTH = 20, 10, 100  # few if subsets are enumerated
MALICIOUS = 5  # one row in this many is malicious; the server's bound is the same
LAYERS = [(5, 10), (5, 10)]


class Case(NamedTuple):
    """One rule and another to compare; `rare` divides the number of draws, `measure` compares them further."""

    rule: str
    other: str
    ours: Rule
    theirs: Rule
    rows: int = ROWS
    rare: int = 1
    measure: Measure | None = None


def main(draws: int) -> None:
    """Print how often rules differ, in percent of the draws."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - byzfl draws from the global state
    table = []
    for case in cases():
        print(f"{case.rule}: {case.other}", file=sys.stderr)
        times = draws // case.rare
        found = [cell for attacked in (False, True) for cell in compared(case, times, attacked)]
        table.append((case.rule, case.other, f"{case.rows}, {case.rows // MALICIOUS}", times, *found))
    headers = ("rule", "beside it", "n, f", "draws", "differs %", "measure", "* differs %", "* measure")
    print(tabulate(table, headers=headers, floatfmt=("", "", "", "", ".1f", ".4f", ".1f", ".4f")))
    print("\n* with attack")
    print("measure: geometric_median: how much larger its sum of distances is, in percent;")
    print("         dnc: how many of the last four rows it keeps, which are forged with attack")


@cache
def updates(rows: int, times: int, attacked: bool) -> list[Array]:
    """Draw sets of updates, each `(rows, WIDTH)`."""
    rng, forged = np.random.default_rng(1), rows // MALICIOUS
    drawn = [rng.normal(size=(rows, WIDTH)) for _ in range(times)]
    if attacked:
        for one in drawn:
            one[-forged:] = agrbench.forge("min_max", one[:-forged], forged)
    return drawn


@cache
def answers(rule: Rule, rows: int, times: int, attacked: bool) -> list[Array]:
    """Apply a rule to copies of all draws, which it may overwrite."""
    return [rule(drawn.copy(), rows // MALICIOUS) for drawn in updates(rows, times, attacked)]


def compared(case: Case, times: int, attacked: bool) -> tuple[float, float | None]:
    """Return the percentage of draws in which the two differ, and the mean measure."""
    given = case.rows, times, attacked
    triples = list(zip(updates(*given), answers(case.ours, *given), answers(case.theirs, *given), strict=True))
    measured = None if case.measure is None else float(np.mean([case.measure(*triple) for triple in triples]))
    return 100 * float(np.mean([differ(ours, theirs) for _, ours, theirs in triples])), measured


def differ(ours: Array, theirs: Array) -> bool:
    if ours.dtype == bool:
        return bool((ours != theirs).any())
    return bool(np.linalg.norm(ours - theirs) > 1e-6 * np.linalg.norm(ours))


def cases() -> list[Case]:
    """List the comparisons."""
    byzfl = peer()
    found = []
    for rule, theirs in (("krum", byzfl.Krum), ("multi_krum", byzfl.MultiKrum)):
        found += [
            Case(rule, "byzfl", step(rule), of(theirs)),
            Case(f"{rule}(neighbours='byzfl')", "byzfl", step(f"{rule}(neighbours='byzfl')"), of(theirs)),
            Case(rule, "power=4", step(rule), step(f"{rule}(power=4)")),
            Case(rule, "power=1", step(rule), step(f"{rule}(power=1)")),
            Case(rule, "counting the row itself", step(rule), counting_itself(rule)),
        ]
    rule, zero = "geometric_median", of(lambda f: byzfl.GeometricMedian())
    scaled = of(lambda f: byzfl.GeometricMedian(), 1000.0)
    clipped = of(lambda f: byzfl.CenteredClipping())
    return [
        *found,
        Case(rule, "byzfl", step(rule), zero, measure=excess),
        Case(rule, "byzfl, rows / 1000", step(rule), scaled, measure=excess),
        Case(rule, "steps=3", step(rule), step(f"{rule}(steps=3)"), measure=excess),
        Case(rule, "steps=8", step(rule), step(f"{rule}(steps=8)"), measure=excess),
        Case(rule, "steps=8,nu=0.1", step(rule), step(f"{rule}(steps=8,nu=0.1)"), measure=excess),
        Case(f"{rule}(steps=3,nu=0.1)", "byzfl", step(f"{rule}(steps=3,nu=0.1)"), zero, measure=excess),
        Case("median", "even='lower'", step("median"), step("median(even='lower')")),
        Case("fedavg", "byzfl's GeometricMedian, / 1000", step("fedavg"), scaled),
        Case("meamed", "byzfl, on tensors", step("meamed"), on_tensors(byzfl.Meamed)),
        Case("arc", "byzfl", step("arc+fedavg"), of(lambda f: lambda rows: byzfl.ARC(f)(rows).mean(axis=0))),
        Case("centered_clipping", "byzfl, tau=100", step("centered_clipping"), clipped),
        Case("fedavg", "byzfl's CenteredClipping", step("fedavg"), clipped),
        Case("smea", "byzfl", step("smea"), of(byzfl.SMEA), FEW),
        Case("byzfl's SMEA", "called again", of(byzfl.SMEA), of(byzfl.SMEA), FEW),
        Case("smea", "search='greedy'", step("smea"), step("smea(search='greedy')"), FEW),
        Case("caf", "byzfl", step("caf"), of(byzfl.CAF)),
        Case("byzfl's CAF", "called again", of(byzfl.CAF), of(byzfl.CAF)),
        Case("cosden", "score='released'", choice("cosden"), choice("cosden(score='released')")),
        Case("euden", "score='released'", choice("euden"), choice("euden(score='released')")),
        Case("bulyan", "selected at once", step("bulyan"), bulyan_at_once),
        Case("dnc", "itself", choice("dnc"), choice("dnc"), measure=last_kept),
        Case("dnc", "V[:, 0] of Vh", choice("dnc"), dnc_by_a_column, measure=last_kept),
        Case("lasa", "as released, whom it keeps", choice("lasa"), lambda rows, f: lasa_as_released(rows)[0]),
        Case("lasa", "as released, its step", step("lasa"), lambda rows, f: lasa_as_released(rows)[1]),
        Case("signguard(share=1.0)", "as released", choice("signguard(share=1.0)"), signguard_as_released, rare=10),
    ]


def peer() -> Any:
    """Import byzfl without its benchmark subpackage, which needs torchvision."""
    sys.modules.setdefault("byzfl.benchmark", types.ModuleType("byzfl.benchmark"))
    return importlib.import_module("byzfl")


def of(rule: Callable[[int], Any], unit: float = 1.0) -> Rule:
    """Wrap a byzfl rule made for a bound; it sees rows divided by `unit`, and its result is multiplied back."""
    return lambda rows, f: rule(f)(rows / unit) * unit


def on_tensors(rule: Callable[[int], Any]) -> Rule:
    """Wrap a byzfl rule to see tensors instead of arrays."""
    return lambda rows, f: np.asarray(rule(f)(torch.from_numpy(rows)))


@cache
def step(spec: str) -> Rule:
    """Wrap our rule to return its step."""
    return lambda rows, f: agrbench.aggregate(rows, spec, f, LAYERS)


@cache
def choice(spec: str) -> Rule:
    """Wrap our rule to return which rows it keeps."""
    return lambda rows, f: np.asarray(agrbench.weigh(rows, spec, f, LAYERS).weights) != 0


def excess(rows: Array, ours: Array, theirs: Array) -> float:
    least, other = (np.linalg.norm(rows - point, axis=1).sum() for point in (ours, theirs))
    return float(100 * (other / least - 1))


def last_kept(rows: Array, ours: Array, theirs: Array) -> float:
    return float(theirs[-len(rows) // MALICIOUS :].sum())


def counting_itself(rule: str) -> Rule:
    """Sum over one neighbour fewer, because the row's own 0 is counted: the same as a bound larger by one."""
    count = {"krum": "", "multi_krum": f"(m={ROWS - ROWS // MALICIOUS})"}[rule]
    return lambda rows, f: agrbench.aggregate(rows, rule + count, f + 1)


def lowest(scores: Array, count: int) -> Array:
    """Mark the `count` lowest scores."""
    kept = np.zeros(len(scores), dtype=bool)
    kept[np.argsort(scores, kind="stable")[:count]] = True
    return kept


def bulyan_at_once(rows: Array, f: int) -> Array:
    """Take the `n - 2f` rows of the lowest Krum scores, without rescoring as rows leave."""
    chosen = rows[choice(f"multi_krum(m={len(rows) - 2 * f})")(rows, f)]
    nearest = np.abs(chosen - np.median(chosen, axis=0)).argsort(axis=0, kind="stable")[: len(rows) - 4 * f]
    return np.asarray(np.take_along_axis(chosen, nearest, axis=0).mean(axis=0))


def dnc_by_a_column(rows: Array, f: int) -> Array:
    """Project on a column of `Vh`, the first entries of all right singular vectors, although a row is meant."""
    centred = rows - rows.mean(axis=0)
    vh = torch.linalg.svd(torch.from_numpy(centred)).Vh.numpy()
    return lowest((centred @ vh[:, 0]) ** 2, len(rows) - f)


def lasa_as_released(rows: Array) -> tuple[Array, Array]:
    """Clip to the lower middle norm, sparsify, and average rows strictly within one deviation, or all if none is."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    sparse = rows * np.minimum(1, np.sort(norms, axis=0)[(len(rows) - 1) // 2] / norms)
    least = np.sort(np.abs(sparse), axis=1)[:, [-int(WIDTH * (1 - 0.3))]]
    sparse[np.abs(sparse) <= least] = 0
    layers = sparse.reshape(len(rows), len(LAYERS), -1)
    kept = within(np.linalg.norm(layers, axis=2)) & within(np.sign(layers).sum(axis=2) / (layers != 0).sum(axis=2))
    kept[:, ~kept.any(axis=0)] = True
    return kept, (layers * kept[:, :, None] / kept.sum(axis=0)[:, None]).sum(axis=0).ravel()


def within(values: Array) -> Array:
    return np.asarray(np.abs(values - np.median(values, axis=0)) < values.std(axis=0))


def signguard_as_released(rows: Array, f: int) -> Array:
    """Scale features by their maximum, seed mean shift in bins, and leave out rows that belong to no cluster."""
    norms, signs = np.linalg.norm(rows, axis=1), np.sign(rows)
    shares = np.stack([(signs == sign).mean(axis=1) for sign in (1, 0, -1)], axis=1)
    features = shares / (shares.max(axis=0) + 1e-8)
    shift = MeanShift(bandwidth=estimate_bandwidth(features, quantile=0.5), bin_seeding=True, cluster_all=False)
    labels = shift.fit(features).labels_
    ordinary = (norms > 0.1 * np.median(norms)) & (norms < 3 * np.median(norms))
    return np.asarray(ordinary & (labels == np.bincount(labels[labels >= 0]).argmax()))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
