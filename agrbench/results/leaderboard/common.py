"""What is compared on the page: the seeds and attacks that most defenses have, whatever one contributor adds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from agrbench.cells import UNATTACKED, UNDEFENDED
from agrbench.results.metrics import Group, order
from agrbench.results.text import code
from agrbench.specs import natural


def common(group: Group) -> tuple[Group, list[str]]:
    """Leave out the seeds and attacks that few defenses have, and say in a note for each which defenses have it.

    A defense is ranked if it has every seed under every attack, so one record more must not be demanded of all others.
    """
    done = [key for key in group.records if key[0] != UNDEFENDED] or list(group.records)
    seeds, attacks = _by(done, 2), _by(done, 1)
    kept_seeds, kept_attacks = usual(seeds), usual(attacks) | {UNATTACKED}
    fits = {
        key: key[1] in kept_attacks and key[2] in kept_seeds for key in (*group.records, *group.missing)
    }  # fmt: skip
    kept = replace(
        group,
        records={key: record for key, record in group.records.items() if fits[key]},
        missing={key: reason for key, reason in group.missing.items() if fits[key]},
    )
    notes = [*_left_out("seed", seeds, kept_seeds), *_left_out("attack", attacks, kept_attacks)]
    return (kept, notes) if kept.records else (group, [])


def usual(holders: Mapping[object, set[str]]) -> set[object]:
    """Return the keys that more than half as many defenses have as the one that most have."""
    most = max(map(len, holders.values()), default=0)
    return {key for key, names in holders.items() if 2 * len(names) > most}


def _by(keys: Iterable[tuple[str, str, int]], place: int) -> dict[object, set[str]]:
    """Return for every attack (place 1) or seed (place 2) the defenses that have it."""
    found: dict[object, set[str]] = {}
    for key in keys:
        found.setdefault(key[place], set()).add(key[0])
    return found


def _left_out(kind: str, holders: Mapping[object, set[str]], kept: set[object]) -> list[str]:
    rare = [key for key in holders if key not in kept]
    if not rare:
        return []
    names = ", ".join(map(code, sorted({name for key in rare for name in holders[key]}, key=order)))
    first = sorted(map(str, rare), key=lambda key: natural(f"_({key})" if kind == "seed" else key))[:6]
    listed = ", ".join(map(code, first)) + (" and more" if len(rare) > 6 else "")
    return [f"Left out, because few defenses have it: {kind} {listed} of {names}."]
