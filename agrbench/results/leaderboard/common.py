"""What is compared on the page: the attacks that most defenses have, and which others hurt a defense more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from agrbench import specs
from agrbench.cells import UNATTACKED, UNDEFENDED
from agrbench.errors import AgrbenchError
from agrbench.plugins.registry import Registry
from agrbench.results import metrics
from agrbench.results.metrics import Group, order
from agrbench.results.searches import usual
from agrbench.results.text import code, markdown
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


def author(attack: str, registry: Registry) -> str:
    """Return the author that an attack's plugin names; empty if it names none or is not there."""
    try:
        return str(registry.entry("attack", specs.parse(attack)[-1].name).literal("author", ""))
    except AgrbenchError:
        return ""


def stronger(every: Group, compared: Group, registry: Registry) -> Iterator[str]:
    """Name each defense that loses more under an attack that few defenses have, and that attack with its author."""
    rare = [attack for attack in every.attacks if attack not in compared.attacks]
    for defense in every.defenses if rare else ():
        losses = {attack: metrics.loss(every, defense, attack) for attack in every.attacks}
        means = {attack: loss.mean for attack, loss in losses.items() if loss.values}
        worst = max(means, key=means.__getitem__, default=None)
        if worst in rare and defense != UNDEFENDED:
            name = author(worst, registry)
            by = f" by {markdown(name)}" if name else ""
            count = len(losses[worst].seeds)
            yield (
                f"Strongest known attack on {code(defense)}: {code(worst)}{by}, a loss of {100 * means[worst]:.1f} "
                f"over {count} seed{'s' * (count > 1)}."
            )
