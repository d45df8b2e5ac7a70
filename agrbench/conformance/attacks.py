"""The laws of attacks: each is a function of a scene that raises `Violation` if the scene breaks it."""

from __future__ import annotations

import torch
from torch import Tensor

from agrbench.clients.insider import claim
from agrbench.conformance.cases import Violation, require
from agrbench.conformance.laws import few
from agrbench.conformance.scenes import Scene
from agrbench.data.examples import Examples
from agrbench.randomness import generator

LONG = 12  # rounds shown to an attack that remembers: mimic watches for ten


def shape(scene: Scene) -> None:
    """Forge one row of floats per malicious client, with one entry per parameter."""
    rows = scene.forge()
    if not rows.is_floating_point():
        raise Violation(f"the rows are of {rows.dtype}")


def finite(scene: Scene) -> None:
    """Forge finite rows when the honest updates are of ordinary size."""
    if not scene.forge().isfinite().all():
        raise Violation(f"the rows are {few(scene.forge())}")


def untouched(scene: Scene) -> None:
    """Leave the honest updates, the clients' own examples and every other input unchanged."""
    names = ("honest", "clean", "poisoned", "model", "previous")
    before = {name: getattr(scene, name).clone() for name in names}
    shard = scene.shard()
    features, labels = shard.features.clone(), shard.labels.clone()
    scene.forge()
    scene.poison(shard)
    for name in names:
        if not torch.equal(getattr(scene, name), before[name]):
            raise Violation(f"{name} was {few(before[name])} and is {few(getattr(scene, name))}")
    if not torch.equal(shard.features, features) or not torch.equal(shard.labels, labels):
        raise Violation("it changes the client's own examples in place")


def determinism(scene: Scene) -> None:
    """Forge and poison identically twice, given the same randomness and memory."""
    first, second = _played(scene, 3), _played(scene, 3)
    for number, (one, other) in enumerate(zip(first, second, strict=True), start=1):
        if not torch.equal(one, other):
            raise Violation(f"the rows of round {number} are {few(one)}, and again {few(other)}")
    taught, again = scene.poison(scene.shard()), scene.poison(scene.shard())
    if not torch.equal(taught.features, again.features) or not torch.equal(taught.labels, again.labels):
        raise Violation("the same examples are poisoned differently")


def within(scene: Scene) -> None:
    """Forge only rows that satisfy the constraint declared in within=."""
    declared = scene.loaded.record.within
    assert declared is not None
    memory: dict[str, object] = {}
    for number in (1, 2):
        rows = scene.forge(memory, number)
        if not torch.as_tensor(declared(rows, scene.insider(memory, number))).all():
            raise Violation(f"the rows {few(rows)} leave what the attack declares in within=")


def moves(scene: Scene) -> None:
    """Move the mean of all updates within 12 rounds, or change the examples."""
    shard = scene.shard()
    poisoned = scene.poison(shard)
    if len(poisoned.labels) != len(shard.labels) or not (
        torch.equal(poisoned.features, shard.features) and torch.equal(poisoned.labels, shard.labels)
    ):
        return
    require(scene.clean.any() and scene.honest.any())
    usual = scene.mean(scene.clean)
    if all(torch.equal(scene.mean(rows), usual) for rows in _played(scene, LONG)):
        raise Violation(f"in {LONG} rounds the mean of all updates is what it is without attack, {few(usual)}")


def claims(scene: Scene) -> None:
    """Claim a finite number of examples from 0 for each malicious client, and leave the true numbers unchanged."""
    sizes = torch.randint(1, 1000, (scene.malicious,), generator=generator(scene.seed, "sizes")).double()
    before = sizes.clone()
    claimed = claim(scene.loaded, sizes)
    if not (claimed.isfinite() & (claimed >= 0)).all():
        raise Violation(f"clients of {few(before)} examples claim {few(claimed)}")
    if not torch.equal(sizes, before):
        raise Violation(f"the true numbers of examples were {few(before)} and are {few(sizes)}")


def poisons(scene: Scene) -> None:
    """Return poisoned examples of the same shape, dtype and classes as the originals."""
    _check(scene.poison(scene.shard()), scene.shard(), "poisoned")


def triggers(scene: Scene) -> None:
    """Stamp a copy of every example, and label all copies with one target class."""
    trigger, shard = scene.loaded.record.trigger, scene.shard()
    assert trigger is not None
    stamped = trigger(shard)
    _check(stamped, scene.shard(), "stamped")
    if not torch.equal(shard.features, scene.shard().features) or not torch.equal(shard.labels, scene.shard().labels):
        raise Violation("it stamps the examples themselves and not a copy")
    targets = set(stamped.labels.tolist())
    if len(stamped.labels) != len(shard.labels) or len(targets) != 1:
        raise Violation(f"{len(shard.labels)} examples become {len(stamped.labels)}, of the labels {sorted(targets)}")
    alike = [torch.equal(one, other) for one, other in zip(stamped.features, shard.features, strict=True)]
    if any(alike):
        raise Violation(f"example {alike.index(True)} has no trigger")


def _check(made: Examples, given: Examples, how: str) -> None:
    if not isinstance(made, Examples) or not len(made.labels) or len(made.labels) != len(made.features):
        raise Violation(f"the {how} examples are no Examples with as many features as labels")
    if made.features.shape[1:] != given.features.shape[1:] or made.features.dtype != given.features.dtype:
        raise Violation(f"the {how} features are {tuple(made.features.shape)} of {made.features.dtype}")
    if made.labels.dtype != given.labels.dtype or not ((made.labels >= 0) & (made.labels < given.classes)).all():
        raise Violation(
            f"the {how} labels are {few(made.labels)} of {made.labels.dtype}; there are {given.classes} classes"
        )


def _played(scene: Scene, rounds: int) -> list[Tensor]:
    """Forge in up to `rounds` rounds, or in one if the attack remembers nothing."""
    memory: dict[str, object] = {}
    rows = [scene.forge(memory, 1)]
    while memory and len(rows) < rounds:
        rows.append(scene.forge(memory, len(rows) + 1))
    return rows
