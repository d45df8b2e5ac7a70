"""The sentence with which a page answers first: which defense is best under its worst attack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agrbench.cells import UNDEFENDED
from agrbench.results.metrics import Group
from agrbench.results.tables.ranking import Ranking, best
from agrbench.results.tables.standing import powerless


def answer(
    group: Group, ranking: Ranking, worsts: Mapping[str, Mapping[str, Any]], ranks: Mapping[str, int]
) -> dict[str, Any]:
    """Return what is said before the names, the names, and what is said after them.

    `worsts` has the worst-case table's row of each defense, and `ranks` the rank of each ranked one.
    """
    if not group.attacks:
        return _said("Nobody attacks in these records, so nothing is ranked.")
    count = len(group.attacks)
    under = f"the worst of {count} attacks" if count > 1 else group.attacks[0]
    if not ranks:
        return _unranked(under, worsts, one_seed=len(group.every_seed) == 1)
    first = [name for name in sorted(ranks, key=lambda name: worsts[name]["loss"]) if ranks[name] == 1]
    baseline = worsts.get(UNDEFENDED)
    floor = baseline["loss"] if baseline is not None and baseline["seeds"] == list(ranking.seeds) else None
    if best((worsts[name]["loss"] for name in ranks), floor) is None:
        return _said(f"Under {under}, no defense loses less than plain averaging, which defends nothing.")
    seeds = len(ranking.seeds)
    tied = f"tied: paired tests over {seeds} seeds do not tell them apart" if len(first) > 1 else f"over {seeds} seeds"
    after = f"({tied})"
    if powerless(len(ranks), seeds):
        after += f". So few seeds cannot separate {len(ranks)} defenses at all"
    return _said(f"Best under {under}:", first, after)


def _unranked(under: str, worsts: Mapping[str, Mapping[str, Any]], one_seed: bool) -> dict[str, Any]:
    """Say why nothing is ranked and, of one seed, which defense loses least on it."""
    losses = {name: row["loss"] for name, row in worsts.items() if name != UNDEFENDED}
    if one_seed and losses:
        least = min(losses, key=lambda name: float(losses[name]))
        return _said(f"One seed, so nothing is ranked. Smallest loss under {under}:", [least], "(chance may decide)")
    return _said("Nothing is ranked: no defense has all its runs on two seeds.")


def _said(before: str, names: list[str] | None = None, after: str = "") -> dict[str, Any]:
    return {"before": before, "names": names or [], "after": after}
