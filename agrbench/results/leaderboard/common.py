"""What is compared on the page: the attacks that most defenses have, whatever one contributor adds."""

from __future__ import annotations

from dataclasses import replace

from agrbench.cells import UNATTACKED, UNDEFENDED
from agrbench.results.metrics import Group, order
from agrbench.results.searches import usual
from agrbench.results.text import code
from agrbench.specs import natural


def common(group: Group) -> tuple[Group, list[str]]:
    """Leave out the attacks that few defenses have, and say in a note which defenses have them.

    A defense is ranked if it has every attack, so one record more must not be demanded of all others.
    """
    holders: dict[object, set[str]] = {}
    for defense, attack, _ in [key for key in group.records if key[0] != UNDEFENDED] or group.records:
        holders.setdefault(attack, set()).add(defense)
    kept = usual(holders) | {UNATTACKED}
    rare = sorted((str(attack) for attack in holders if attack not in kept), key=natural)
    if not rare:
        return group, []
    fewer = replace(
        group,
        records={key: record for key, record in group.records.items() if key[1] in kept},
        missing={key: reason for key, reason in group.missing.items() if key[1] in kept},
    )
    names = ", ".join(map(code, sorted({name for attack in rare for name in holders[attack]}, key=order)))
    listed = ", ".join(map(code, rare[:6])) + (" and more" if len(rare) > 6 else "")
    return fewer, [f"Left out, because few defenses have it: attack {listed} of {names}."]
